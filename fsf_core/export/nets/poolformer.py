"""PoolFormer, the backbone of FastSegFormer-P, -S24 and -S36. Knows no classes and no head.

Paper: MetaFormer Is Actually What You Need for Vision, arXiv 2111.11418. Layer facts: FastSegFormer
nets/FastSegFormer/poolformer.py, which keeps the keys of the paper's own checkpoints.
"""

# N images, C channels, H×W pixels

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from fsf_core.export.nets.blocks import FourStages, layer_scale

_CHANNELS = (64, 128, 320, 512)
_MLP_RATIO = 4


def poolformer(depths: tuple[int, int, int, int]) -> FourStages:
    """Build a PoolFormer of the S width with this many blocks in each stage.

    For images [N, 3, H, W] with sides that divide by 32 it returns
    [N, 64, H/4, W/4], [N, 128, H/8, W/8], [N, 320, H/16, W/16] and [N, 512, H/32, W/32].
    """
    network: list[nn.Module] = []
    for stage, (channels, depth) in enumerate(zip(_CHANNELS, depths, strict=True)):
        if stage > 0:
            network.append(_patches(_CHANNELS[stage - 1], channels, kernel=3, stride=2, padding=1))
        network.append(nn.Sequential(*(PoolFormerBlock(channels) for _ in range(depth))))
    return FourStages(
        stem=_patches(3, _CHANNELS[0], kernel=7, stride=4, padding=2),
        network=network,
        norms=[_norm(channels) for channels in _CHANNELS],
    )


class PoolFormerBlock(nn.Module):
    """Mix the pixels by their neighbourhood's mean, then the channels by a two-layer MLP; both are residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer_scale_1 = layer_scale(channels)
        self.layer_scale_2 = layer_scale(channels)
        self.norm1 = _norm(channels)
        self.norm2 = _norm(channels)
        hidden = channels * _MLP_RATIO
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Conv2d(channels, hidden, 1), act=nn.GELU(), fc2=nn.Conv2d(hidden, channels, 1))
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, H, W] to the same shape."""
        mixed = x_NCHW + self.layer_scale_1[:, None, None] * _pool_mix(self.norm1(x_NCHW))
        out: Tensor = mixed + self.layer_scale_2[:, None, None] * self.mlp(self.norm2(mixed))
        return out


def _pool_mix(x_NCHW: Tensor) -> Tensor:
    """Return the mean of the existing 3×3 neighbours minus the pixel, because the block adds its input again."""
    return functional.avg_pool2d(x_NCHW, 3, stride=1, padding=1, count_include_pad=False) - x_NCHW


def _norm(channels: int) -> nn.GroupNorm:
    """Build a norm over all channels and pixels of an image: one group."""
    return nn.GroupNorm(1, channels)


def _patches(in_channels: int, out_channels: int, *, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """Build a convolution of overlapping patches to a coarser grid, under the key `proj`."""
    return nn.Sequential(OrderedDict(proj=nn.Conv2d(in_channels, out_channels, kernel, stride, padding)))
