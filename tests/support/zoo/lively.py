"""Random networks that prefer each of their classes somewhere, as trained ones do. Knows no family."""

import torch
from torch import nn
from torch.nn import functional


def enliven(network: nn.Module, *, head: str = "", gain: float = 6.0, size: int = 96) -> None:
    """Let batch norms see noise of several kinds, and amplify the last convolution; leaves eval mode, in place.

    Args:
        network: takes float32 [N, 3, H, W].
        head: what the names of the convolutions begin with of which the last is amplified.
        gain: factor of its weights.
        size: height and width of the noise in pixels.
    """
    last = [part for name, part in network.named_modules() if isinstance(part, nn.Conv2d) and name.startswith(head)][-1]
    noise = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    noise = functional.interpolate(noise, size=(size, size), mode="bicubic").clamp(0, 1)
    black_and_white = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(2)).round()
    noise = (torch.cat([noise, black_and_white]) - 0.45) / 0.23
    with torch.no_grad():
        last.weight.mul_(gain)
        for part in network.train().modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = None
        network(noise)
        network(noise)
    network.eval()
