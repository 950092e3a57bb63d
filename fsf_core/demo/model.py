"""The demo's network, FastSegFormer-E; `train` makes its weights. Knows torch, and no drawings."""

from torch import nn

from fsf_core.export.nets.fastsegformer import VARIANTS, FastSegFormer


def build(num_classes: int = 4) -> nn.Module:
    """Return the untrained network; the same as `--net fastsegformer-e` builds."""
    return FastSegFormer(VARIANTS["fastsegformer-e"], num_classes=num_classes, pyramid="multiscale", cnn_branch=True)
