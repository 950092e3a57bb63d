"""Building blocks that backbones and head share. Knows no sizes of any particular network.

Layer facts: FastSegFormer nets/FastSegFormer/fast_segformer.py. The names of submodules are keys of its checkpoints,
and the order in which they are created is the order of those keys: neither is free to change.
"""

# N images, C channels, H×W pixels

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def conv_bn(in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Build a convolution with a bias and its batch norm; odd kernels keep the size at stride 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv_bn_relu(in_channels: int, out_channels: int, *, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Build a convolution without a bias, batch norm, ReLU, under the key `conv`; keeps the size."""
    return nn.Sequential(OrderedDict(conv=nn.Sequential(*_rectified(in_channels, out_channels, kernel, groups))))


def separable_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a 3×3 depthwise and a 1×1 convolution, each with batch norm and ReLU; keeps the size."""
    filters = _rectified(in_channels, in_channels, 3, in_channels)
    mixture = _rectified(in_channels, out_channels, 1, 1)
    return nn.Sequential(OrderedDict(conv=nn.Sequential(*filters, *mixture)))


def _rectified(in_channels: int, out_channels: int, kernel: int, groups: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


def layer_scale(*shape: int) -> nn.Parameter:
    """Return one factor per channel of a residual branch, 1e-5 before training (CaiT, arXiv 2103.17239)."""
    return nn.Parameter(torch.full(shape, 1e-5))


class FourStages(nn.Module):
    """A backbone: a stem to 1/4 of the size, then four stages with a halving between each two.

    `network` holds stage, halving, stage, halving, stage, halving, stage; the stages' outputs are normed on their way
    to the head, under keys that carry the stage's place in `network`.
    """

    def __init__(self, *, stem: nn.Module, network: Sequence[nn.Module], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.patch_embed = stem
        self.network = nn.ModuleList(network)
        self.norm0, self.norm2, self.norm4, self.norm6 = norms

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map float images [N, 3, H, W] to features at 1/4, 1/8, 1/16 and 1/32 of their size, finest first."""
        stage0, half1, stage1, half2, stage2, half3, stage3 = self.network
        fine = stage0(self.patch_embed(image_NCHW))
        medium = stage1(half1(fine))
        coarse = stage2(half2(medium))
        coarsest = stage3(half3(coarse))
        return self.norm0(fine), self.norm2(medium), self.norm4(coarse), self.norm6(coarsest)
