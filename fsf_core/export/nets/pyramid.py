"""Context on the coarsest grid: bottlenecks, then one of two pyramids. Knows no backbone and no classes.

Layer facts: FastSegFormer nets/FastSegFormer/fast_segformer.py (GlobalFeatureExtractor, MultiscalePyramid,
PyramidPooling). The bottleneck is MobileNetV2's (arXiv 1801.04381), the pooling pyramid PSPNet's (arXiv 1612.01105).
"""

# N images, C channels, H×W pixels

import torch
from torch import Tensor, nn
from torch.nn import functional

from fsf_core.export.nets.blocks import conv_bn_relu
from fsf_core.options import PyramidKind


class GlobalFeature(nn.Module):
    """One, two or three groups of bottlenecks, each ending in its own width, and a pyramid on top."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: tuple[int, ...],
        repeats: int,
        expansion: int,
        pyramid: PyramidKind,
    ) -> None:
        super().__init__()
        ends = (in_channels, *widths)
        for number, (start, end) in enumerate(zip(ends, widths, strict=False), start=1):
            inputs = (start, *[end] * (repeats - 1))
            group = nn.Sequential(*(Bottleneck(channels, end, expansion=expansion) for channels in inputs))
            self.add_module(f"bottleneck{number}", group)
        self.ppm = {"multiscale": MultiscalePyramid, "pooling": PoolingPyramid}[pyramid](widths[-1], out_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, H, W] to [N, out_channels, H, W]."""
        for part in self.children():
            x_NCHW = part(x_NCHW)
        return x_NCHW


class Bottleneck(nn.Module):
    """Widen, filter each channel by 3×3, narrow without activation; residual where the width stays."""

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = in_channels == out_channels
        self.block = nn.Sequential(
            conv_bn_relu(in_channels, hidden),
            conv_bn_relu(hidden, hidden, kernel=3, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, H, W] to [N, out_channels, H, W]."""
        out: Tensor = self.block(x_NCHW)
        return x_NCHW + out if self.residual else out


class MultiscalePyramid(nn.Module):
    """Convolutions with kernels of 1, 3, 5 and 7 pixels, concatenated with the input and mixed."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = in_channels // 4
        self.conv1 = conv_bn_relu(in_channels, quarter, kernel=1)
        self.conv2 = conv_bn_relu(in_channels, quarter, kernel=3)
        self.conv3 = conv_bn_relu(in_channels, quarter, kernel=5)
        self.conv4 = conv_bn_relu(in_channels, quarter, kernel=7)
        self.conv5 = conv_bn_relu(quarter, quarter)
        self.conv6 = conv_bn_relu(quarter, quarter)
        self.conv7 = conv_bn_relu(quarter, quarter)
        self.conv8 = conv_bn_relu(quarter, quarter)
        self.out = conv_bn_relu(2 * in_channels, out_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, H, W] to [N, out_channels, H, W]."""
        views = (
            self.conv5(self.conv1(x_NCHW)),
            self.conv6(self.conv2(x_NCHW)),
            self.conv7(self.conv3(x_NCHW)),
            self.conv8(self.conv4(x_NCHW)),
        )
        out: Tensor = self.out(torch.cat([x_NCHW, *views], dim=1))
        return out


class PoolingPyramid(nn.Module):
    """Averages over 1, 2, 3 and 6 cells per side, enlarged, concatenated with the input and mixed."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = in_channels // 4
        self.conv1 = conv_bn_relu(in_channels, quarter)
        self.conv2 = conv_bn_relu(in_channels, quarter)
        self.conv3 = conv_bn_relu(in_channels, quarter)
        self.conv4 = conv_bn_relu(in_channels, quarter)
        self.out = conv_bn_relu(2 * in_channels, out_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, H, W] to [N, out_channels, H, W]."""
        convs = {1: self.conv1, 2: self.conv2, 3: self.conv3, 6: self.conv4}
        views = [
            functional.interpolate(
                conv(functional.adaptive_avg_pool2d(x_NCHW, cells)),
                size=x_NCHW.shape[2:],
                mode="bilinear",
                align_corners=True,
            )
            for cells, conv in convs.items()
        ]
        out: Tensor = self.out(torch.cat([x_NCHW, *views], dim=1))
        return out
