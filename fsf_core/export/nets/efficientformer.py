"""EfficientFormerV2-S0, the backbone of FastSegFormer-E. Knows no classes and no head.

Paper: Rethinking Vision Transformers for MobileNet Size and Speed, arXiv 2212.08059. Layer facts: FastSegFormer
nets/FastSegFormer/efficientformer_v2.py, which keeps the keys of the paper's own checkpoints.

The attention adds a learned bias per distance, which ties the network to images of 224×224. Upstream copies these
biases aside when it is switched to eval mode, so weights loaded or cast afterwards are ignored without a word. Here
they are read from the parameters in every pass: the order of loading, casting and eval() is free.
"""

# N images, C channels, H×W pixels, Q queries, K keys

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fsf_core.export.nets.blocks import FourStages, conv_bn, layer_scale

IMAGE_PX = 224
"""The side of the images; the attention grids follow from it."""

_CHANNELS = (32, 48, 96, 176)
_MLP_RATIOS = ((4, 4), (4, 4), (4, 3, 3, 3, 4, 4), (4, 3, 3, 4))
_GRIDS_PX = (56, 28, 14, 7)  # the side of each stage's feature map
_ATTENTION_BLOCKS = (0, 0, 2, 2)  # how many of a stage's blocks attend: its last
_ATTENTION_PX = 7  # the grid they attend on, so those of the third stage halve theirs for it
_HEADS = 8
_KEY_LENGTH, _VALUE_LENGTH = 32, 128  # numbers per head, in the attention blocks
_HALVING_KEY_LENGTH, _HALVING_VALUE_LENGTH = 16, 64  # and in the halving before the last stage


def efficientformer_v2_s0() -> FourStages:
    """Build the S0 network.

    For images [N, 3, 224, 224] it returns [N, 32, 56, 56], [N, 48, 28, 28], [N, 96, 14, 14] and [N, 176, 7, 7].
    """
    network: list[nn.Module] = []
    for stage, (channels, ratios) in enumerate(zip(_CHANNELS, _MLP_RATIOS, strict=True)):
        if stage > 0:
            network.append(_halving(stage, _CHANNELS[stage - 1], channels))
        network.append(nn.Sequential(*_stage_blocks(stage, channels, ratios)))
    return FourStages(stem=_stem(), network=network, norms=[nn.BatchNorm2d(channels) for channels in _CHANNELS])


def _stem() -> nn.Sequential:
    half = _CHANNELS[0] // 2
    first, second = conv_bn(3, half, kernel=3, stride=2), conv_bn(half, _CHANNELS[0], kernel=3, stride=2)
    return nn.Sequential(*first, nn.GELU(), *second, nn.GELU())


def _halving(stage: int, in_channels: int, out_channels: int) -> nn.Module:
    """Build the halving before a stage; only the last one uses attention, where the grid is small enough."""
    if stage == len(_CHANNELS) - 1:
        return AttentionHalving(in_channels, out_channels, grid_px=_GRIDS_PX[stage - 1])
    conv, norm = conv_bn(in_channels, out_channels, kernel=3, stride=2)
    return nn.Sequential(OrderedDict(proj=conv, norm=norm))


def _stage_blocks(stage: int, channels: int, ratios: tuple[int, ...]) -> list[nn.Module]:
    plain = len(ratios) - _ATTENTION_BLOCKS[stage]
    blocks: list[nn.Module] = [ConvBlock(channels, ratio) for ratio in ratios[:plain]]
    blocks += [AttentionBlock(channels, ratio, grid_px=_GRIDS_PX[stage]) for ratio in ratios[plain:]]
    return blocks


class ConvMlp(nn.Module):
    """1×1 to a wider space, a 3×3 filter per channel there, 1×1 back; a batch norm after each."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = channels * ratio
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.mid = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.mid_norm = nn.BatchNorm2d(hidden)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, H, W] to the same shape."""
        wide = self.act(self.norm1(self.fc1(x_NCHW)))
        wide = self.act(self.mid_norm(self.mid(wide)))
        out: Tensor = self.norm2(self.fc2(wide))
        return out


class ConvBlock(nn.Module):
    """A residual ConvMlp."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        # 2, because the block that also attends calls its first branch 1.
        self.layer_scale_2 = layer_scale(channels, 1, 1)
        self.mlp = ConvMlp(channels, ratio)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, H, W] to the same shape."""
        out: Tensor = x_NCHW + self.layer_scale_2 * self.mlp(x_NCHW)
        return out


class AttentionBlock(nn.Module):
    """Residual attention among all pixels, then a residual ConvMlp."""

    def __init__(self, channels: int, ratio: int, *, grid_px: int) -> None:
        super().__init__()
        self.layer_scale_1 = layer_scale(channels, 1, 1)
        self.layer_scale_2 = layer_scale(channels, 1, 1)
        self.token_mixer = Attention(channels, grid_px=grid_px)
        self.mlp = ConvMlp(channels, ratio)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, grid_px, grid_px] to the same shape."""
        mixed = x_NCHW + self.layer_scale_1 * self.token_mixer(x_NCHW)
        out: Tensor = mixed + self.layer_scale_2 * self.mlp(mixed)
        return out


class DistanceBias(nn.Module):
    """A learned attention bias: one number per head and distance, independent of content.

    A base class, because the checkpoints keep its tensors beside the attention's own layers.
    """

    attention_bias_idxs: Tensor

    def __init__(self, *, query_px: int, key_px: int) -> None:
        super().__init__()
        self.query_px, self.key_px = query_px, key_px
        self.attention_biases = nn.Parameter(torch.zeros(_HEADS, key_px**2))
        self.register_buffer("attention_bias_idxs", distance_table(query_px=query_px, key_px=key_px))

    def bias(self) -> Tensor:
        """Return float [heads, Q, K], to be added to the attention scores."""
        return self.attention_biases[:, self.attention_bias_idxs]


def distance_table(*, query_px: int, key_px: int) -> Tensor:
    """Return an index for the distance of each pixel of a query_px² grid to each of a key_px² grid over the same image.

    Returns:
        int64 [Q, K]: rows apart · key_px + columns apart, both measured in keys. Upstream numbers the distances in
        order of appearance, which is the same: the first query sees every distance, in this order.
    """
    apart = (torch.arange(query_px)[:, None] * (key_px // query_px) - torch.arange(key_px)).abs()
    return (apart[:, None, :, None] * key_px + apart[None, :, None, :]).reshape(query_px**2, key_px**2)


class Attention(DistanceBias):
    """Attention among all pixels with talking heads, plus a 3×3 depthwise convolution of the values.

    It attends on 7×7; a grid of 14×14 is halved before and enlarged after.
    """

    def __init__(self, channels: int, *, grid_px: int) -> None:
        super().__init__(query_px=_ATTENTION_PX, key_px=_ATTENTION_PX)
        keys, values = _HEADS * _KEY_LENGTH, _HEADS * _VALUE_LENGTH
        self.stride_conv: nn.Module = nn.Identity()
        self.enlarge: nn.Module = nn.Identity()
        if grid_px > _ATTENTION_PX:
            self.stride_conv = conv_bn(channels, channels, kernel=3, stride=2, groups=channels)
            self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.q = conv_bn(channels, keys)
        self.k = conv_bn(channels, keys)
        self.v = conv_bn(channels, values)
        self.v_local = conv_bn(values, values, kernel=3, groups=values)
        self.talking_head1 = nn.Conv2d(_HEADS, _HEADS, 1)
        self.talking_head2 = nn.Conv2d(_HEADS, _HEADS, 1)
        self.proj = nn.Sequential(nn.GELU(), *conv_bn(values, channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, grid_px, grid_px] to the same shape."""
        x_NCHW = self.stride_conv(x_NCHW)
        queries = _per_head(self.q(x_NCHW), _KEY_LENGTH, _ATTENTION_PX).transpose(2, 3)
        keys = _per_head(self.k(x_NCHW), _KEY_LENGTH, _ATTENTION_PX)
        values_NCHW = self.v(x_NCHW)
        values = _per_head(values_NCHW, _VALUE_LENGTH, _ATTENTION_PX).transpose(2, 3)
        scores = queries @ keys * _KEY_LENGTH**-0.5 + self.bias()
        shares = self.talking_head2(self.talking_head1(scores).softmax(dim=-1))
        mixed = _on_grid(shares @ values, _VALUE_LENGTH, _ATTENTION_PX) + self.v_local(values_NCHW)
        out: Tensor = self.proj(self.enlarge(mixed))
        return out


class HalvedQuery(nn.Module):
    """Queries of a halved grid: every second pixel plus a 3×3 filter around it."""

    def __init__(self, channels: int, query_channels: int) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1, groups=channels))
        self.proj = conv_bn(channels, query_channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, channels, H, W] to [N, query_channels, H/2, W/2]."""
        out: Tensor = self.proj(self.local(x_NCHW) + x_NCHW[:, :, ::2, ::2])
        return out


class HalvingAttention(DistanceBias):
    """Pixels of the halved grid attend to those of the full one, plus a 3×3 depthwise convolution of the values."""

    def __init__(self, in_channels: int, out_channels: int, *, grid_px: int) -> None:
        super().__init__(query_px=grid_px // 2, key_px=grid_px)
        keys, values = _HEADS * _HALVING_KEY_LENGTH, _HEADS * _HALVING_VALUE_LENGTH
        self.q = HalvedQuery(in_channels, keys)
        self.k = conv_bn(in_channels, keys)
        self.v = conv_bn(in_channels, values)
        self.v_local = conv_bn(values, values, kernel=3, stride=2, groups=values)
        self.proj = nn.Sequential(nn.GELU(), *conv_bn(values, out_channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, grid_px, grid_px] to [N, out_channels, grid_px/2, grid_px/2]."""
        queries = _per_head(self.q(x_NCHW), _HALVING_KEY_LENGTH, self.query_px).transpose(2, 3)
        keys = _per_head(self.k(x_NCHW), _HALVING_KEY_LENGTH, self.key_px)
        values_NCHW = self.v(x_NCHW)
        values = _per_head(values_NCHW, _HALVING_VALUE_LENGTH, self.key_px).transpose(2, 3)
        shares = (queries @ keys * _HALVING_KEY_LENGTH**-0.5 + self.bias()).softmax(dim=-1)
        mixed = _on_grid(shares @ values, _HALVING_VALUE_LENGTH, self.query_px)
        out: Tensor = self.proj(mixed + self.v_local(values_NCHW))
        return out


class AttentionHalving(nn.Module):
    """The halving before the last stage: attention and a 3×3 convolution, added."""

    def __init__(self, in_channels: int, out_channels: int, *, grid_px: int) -> None:
        super().__init__()
        self.attn = HalvingAttention(in_channels, out_channels, grid_px=grid_px)
        self.conv, self.bn = conv_bn(in_channels, out_channels, kernel=3, stride=2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map float [N, in_channels, grid_px, grid_px] to [N, out_channels, grid_px/2, grid_px/2]."""
        out: Tensor = self.attn(x_NCHW) + self.bn(self.conv(x_NCHW))
        return out


# Every size but the batch is written out as a number: the exported graph then holds constants where it would
# otherwise compute shapes (1,093 nodes by the TorchScript exporter of torch 2.13, 613 this way).


def _per_head(x_NCHW: Tensor, length: int, side_px: int) -> Tensor:
    """Reshape [N, heads·length, side_px, side_px] to [N, heads, length, side_px²]."""
    return x_NCHW.reshape(-1, _HEADS, length, side_px**2)


def _on_grid(mixed: Tensor, length: int, side_px: int) -> Tensor:
    """Reshape [N, heads, side_px², length] to [N, heads·length, side_px, side_px]."""
    return mixed.transpose(2, 3).reshape(-1, _HEADS * length, side_px, side_px)
