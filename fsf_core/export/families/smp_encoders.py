"""Preprocessing of the encoders of segmentation_models.pytorch, without asking a hub.

The library reads the statistics of most encoders from its hub, which scoring teams cannot always reach. They are those
that its releases up to 0.4.0 held in their source: one rule with few exceptions. Encoders of timm bring their own.
"""

from collections.abc import Mapping
from typing import Any

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_DPN = {"mean": [124 / 255, 117 / 255, 104 / 255], "std": [1 / (0.0167 * 255)] * 3}

_BY_NAME: Mapping[str, Mapping[str, Any]] = {
    "dpn": _DPN,
    "inceptionresnetv2": _HALF,
    "inceptionv4": _HALF,
    "xception": _HALF,
    "timm-tf_efficientnet_lite": _HALF,
}
"""Statistics by what an encoder's name begins with; ImageNet's without an entry."""

_BY_WEIGHTS: Mapping[str, Mapping[str, Any]] = {"advprop": _HALF}
"""Statistics by the name of the encoder's weights, whatever the encoder."""

_FAMILIES = (
    "resnet",
    "resnext",
    "dpn",
    "vgg",
    "senet",
    "se_res",
    "densenet",
    "inception",
    "efficientnet-",
    "mobilenet_v2",
    "xception",
    "timm-efficientnet-",
    "timm-tf_efficientnet_lite",
    "timm-skres",
    "mit_b",
    "mobileone_s",
)
"""What the names of the encoders begin with whose statistics were compared with those of release 0.4.0."""

_IN_TIMM = {
    "timm-regnet": "regnet",
    "timm-res2": "res2",
    "timm-resnest": "resnest",
    "timm-gernet": "gernet",
}
"""Encoders that the library now takes from timm; their statistics there are those that they had before.

Not so timm-mobilenetv3: ImageNet's up to 0.4.0, 0.5 since then, so that its name alone does not tell.
"""


def input_of_encoder(name: str, weights: object, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an encoder's pretrained weights tell of the input, by the keys of the model's document.

    Args:
        name: the encoder, as the library calls it.
        weights: the name of the weights that its training began with; None and False tell nothing.
        known: the library's own table of encoders, name to settings.

    Returns:
        Channel order, scale, mean and std, or None where they are not known.
    """
    if weights is None or weights is False or (weights is True and not name.startswith("tu-")):
        return None
    if name.startswith("tu-"):
        return _input_of_timm(name.removeprefix("tu-"))
    moved = next((old for old in _IN_TIMM if name.startswith(old)), None)
    if moved is not None:
        return _input_of_timm(name.removeprefix("timm-")) if weights == "imagenet" else None
    if weights not in known.get(name, {}).get("pretrained_settings", {}) or not name.startswith(_FAMILIES):
        return None
    by_name = next((value for start, value in _BY_NAME.items() if name.startswith(start)), _IMAGENET)
    return _as_input(_BY_WEIGHTS.get(str(weights), by_name))


def _input_of_timm(name: str) -> dict[str, Any] | None:
    """Return what timm's settings of a pretrained model tell; they are part of its source."""
    import timm

    if not timm.models.is_model_pretrained(name):
        return None
    settings = timm.models.get_pretrained_cfg(name)
    return None if settings is None else _as_input(vars(settings))


def _as_input(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as the library's own preprocessing applies them."""
    order = {"RGB": "rgb", "BGR": "bgr"}[settings.get("input_space", "RGB")]
    scale = 255.0 if list(settings.get("input_range", [0, 1]))[1] == 1 else 1.0
    return {"channel_order": order, "scale": scale, "mean": list(settings["mean"]), "std": list(settings["std"])}
