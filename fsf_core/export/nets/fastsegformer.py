"""FastSegFormer: a backbone, context on its coarsest features, fusion with finer ones, a class score per pixel.

Paper: FastSegFormer, a knowledge distillation-based method for real-time semantic segmentation of surface defects
in navel oranges (Cai et al., 2024). Layer facts: FastSegFormer nets/FastSegFormer/fast_segformer.py; the head is
Fast-SCNN's (arXiv 1902.04502). Attribute names are keys of the authors' checkpoints. Knows no files, no preprocessing.
"""

# N images, C channels, K classes, H×W pixels

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from fsf_core.errors import ConfigError
from fsf_core.export.nets.blocks import FourStages, conv_bn, conv_bn_relu, separable_conv
from fsf_core.export.nets.efficientformer import IMAGE_PX, efficientformer_v2_s0
from fsf_core.export.nets.poolformer import poolformer
from fsf_core.export.nets.pyramid import GlobalFeature
from fsf_core.options import PyramidKind

_COARSEST = 32  # the backbone's last grid is this many times coarser than the image
_BRANCH_PX = 112  # the image branch works on this grid, whatever the image's size: the output is always 224×224
_NARROW_BRANCH, _WIDE_BRANCH = 32, 256  # channels of the students' and of the teachers' image branch


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """Widths and depths of one network of the family."""

    backbone: Callable[[], FourStages]
    fine_channels: int
    """Channels of the backbone at 1/8 of the size, where the fusion takes place."""
    coarse_channels: int
    """Channels of the backbone at 1/32 of the size."""
    context_channels: int
    """Channels before the bottlenecks, reduced from coarse_channels."""
    bottleneck_widths: tuple[int, ...]
    bottleneck_repeats: int
    bottleneck_expansion: int
    head_channels: int
    branch_channels: int
    """Width of the image branch, if the network has one."""
    image_px: int | None = None
    """Side of the only image size that the backbone takes; None for any multiple of 32."""


_POOLFORMER_S12 = Variant(
    backbone=partial(poolformer, (2, 2, 6, 2)),
    fine_channels=128,
    coarse_channels=512,
    context_channels=256,
    bottleneck_widths=(256,),
    bottleneck_repeats=2,
    bottleneck_expansion=3,
    head_channels=512,
    branch_channels=_NARROW_BRANCH,
)
_EFFICIENTFORMER_V2_S0 = Variant(
    backbone=efficientformer_v2_s0,
    fine_channels=48,
    coarse_channels=176,
    context_channels=128,
    bottleneck_widths=(128, 160),
    bottleneck_repeats=3,
    bottleneck_expansion=3,
    head_channels=320,
    branch_channels=_NARROW_BRANCH,
    image_px=IMAGE_PX,
)
_POOLFORMER_S24 = Variant(
    backbone=partial(poolformer, (4, 4, 12, 4)),
    fine_channels=128,
    coarse_channels=512,
    context_channels=256,
    bottleneck_widths=(256, 320),
    bottleneck_repeats=3,
    bottleneck_expansion=3,
    head_channels=512,
    branch_channels=_WIDE_BRANCH,
)
_POOLFORMER_S36 = Variant(
    backbone=partial(poolformer, (6, 6, 18, 6)),
    fine_channels=128,
    coarse_channels=512,
    context_channels=256,
    bottleneck_widths=(256, 320, 384),
    bottleneck_repeats=3,
    bottleneck_expansion=4,
    head_channels=512,
    branch_channels=_WIDE_BRANCH,
)

VARIANTS: MappingProxyType[str, Variant] = MappingProxyType(
    {
        "fastsegformer-p": _POOLFORMER_S12,
        "fastsegformer-e": _EFFICIENTFORMER_V2_S0,
        # The publication's teachers.
        "fastsegformer-s24": _POOLFORMER_S24,
        "fastsegformer-s36": _POOLFORMER_S36,
    }
)


class FastSegFormer(nn.Module):
    """One network of the family, untrained.

    The image branch ("image reconstruction" in the paper) adds a shallow view of the image itself to the scores
    before they are enlarged for the last time.
    """

    def __init__(self, variant: Variant, *, num_classes: int, pyramid: PyramidKind, cnn_branch: bool) -> None:
        super().__init__()
        self.image_px = variant.image_px
        self.cnn_branch = cnn_branch
        if cnn_branch:
            self.cnn1, self.cnn2, self.cnn_up = _image_branch(variant.branch_channels, num_classes)
        self.common_backbone = variant.backbone()
        self.convert_channel = conv_bn_relu(variant.coarse_channels, variant.context_channels)
        self.global_feature = GlobalFeature(
            variant.context_channels,
            variant.head_channels,
            widths=variant.bottleneck_widths,
            repeats=variant.bottleneck_repeats,
            expansion=variant.bottleneck_expansion,
            pyramid=pyramid,
        )
        self.FFM = Fusion(variant.fine_channels, variant.head_channels)
        self.classify = Classifier(variant.head_channels, variant.branch_channels if cnn_branch else num_classes)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image_NCHW: float [N, 3, H, W], RGB in [0, 1], no mean and no std.

        Returns:
            Logits [N, K, 224, 224] with the image branch, [N, K, H, W] without.

        Raises:
            ConfigError: the sides do not fit the network.
        """
        self._check_size(image_NCHW)
        _, fine, _, coarse = self.common_backbone(image_NCHW)
        context = self.global_feature(self.convert_channel(coarse))
        scores: Tensor = self.classify(self.FFM(fine, context))
        if not self.cnn_branch:
            return _resize(scores, image_NCHW.shape[2:])
        half = self.cnn1(_resize(image_NCHW, (_BRANCH_PX, _BRANCH_PX)))
        logits: Tensor = self.cnn_up(self.cnn2(_resize(scores, (_BRANCH_PX, _BRANCH_PX)) + half))
        return logits

    def _check_size(self, image_NCHW: Tensor) -> None:
        """Refuse a size that the network cannot take, before it fails with an obscure error."""
        if torch.onnx.is_in_onnx_export():  # sizes may be symbols then, and the network has been run before
            return
        height_px, width_px = image_NCHW.shape[2:]
        if self.image_px is not None and (height_px != self.image_px or width_px != self.image_px):
            raise ConfigError(
                f"images are {height_px}x{width_px}; this network takes {self.image_px}x{self.image_px} only, because "
                "its attention has one weight per distance on that grid; set the input size to it"
            )
        if height_px % _COARSEST != 0 or width_px % _COARSEST != 0:
            raise ConfigError(
                f"images are {height_px}x{width_px}; this network takes sides that divide by {_COARSEST}; "
                "set the input size to such sides"
            )


def _image_branch(channels: int, num_classes: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Build the image branch: image to features, those and scores to features, those to classes at twice the size."""
    image = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    if channels == _NARROW_BRANCH:
        return image, separable_conv(channels, channels), nn.Sequential(double, nn.Conv2d(channels, num_classes, 1))
    half = channels // 2
    classes = nn.Sequential(double, conv_bn_relu(channels, half, kernel=3), nn.Conv2d(half, num_classes, 1))
    return image, conv_bn_relu(channels, channels, kernel=3), classes


class Fusion(nn.Module):
    """Enlarge the context four times and add the backbone's finer features to it."""

    def __init__(self, fine_channels: int, channels: int) -> None:
        super().__init__()
        self.dwconv = conv_bn_relu(channels, channels, kernel=3, groups=channels)
        self.conv_lower_res = conv_bn(channels, channels)
        self.conv_higher_res = conv_bn(fine_channels, channels)

    def forward(self, fine_NCHW: Tensor, context_NCHW: Tensor) -> Tensor:
        """Map float [N, fine_channels, 4H, 4W] and [N, channels, H, W] to [N, channels, 4H, 4W]."""
        enlarged = functional.interpolate(context_NCHW, scale_factor=4, mode="bilinear", align_corners=True)
        return functional.relu(self.conv_higher_res(fine_NCHW) + self.conv_lower_res(self.dwconv(enlarged)))


class Classifier(nn.Module):
    """Two separable convolutions, then a score per pixel."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.dsconv1 = separable_conv(channels, channels)
        self.dsconv2 = separable_conv(channels, channels)
        self.conv = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(channels, out_channels, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, H, W] to [N, out_channels, H, W]."""
        out: Tensor = self.conv(self.dsconv2(self.dsconv1(x_NCHW)))
        return out


def _resize(x_NCHW: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return functional.interpolate(x_NCHW, size=size, mode="bilinear", align_corners=True)
