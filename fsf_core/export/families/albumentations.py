"""The transform that albumentations saves beside a model: what it tells of the model's input.

Reads the document itself, so that the library is not needed. Only what this project can repeat exactly is taken; the
rest is named, so that the user is asked for it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = "albumentations_config_eval.json"
"""Name of the file; other keys than `eval` are of the training."""

_FILTERS = {0: "nearest", 1: "linear", 2: "cubic", 3: "area"}
"""OpenCV's numbers of the filters that this project has."""
_BORDERS = {0: "constant", 1: "edge", 4: "reflect"}
"""OpenCV's numbers of the ways to fill a border, by the names that this project has."""
_ALIGNS = {"center": "centre", "top_left": "top-left"}
"""Where the image is in its padding; top_left is of albumentations' own words: padding is added at bottom and right."""
_WITHOUT_EFFECT = {"ToTensorV2", "ToTensor", "NoOp"}


class UnknownTransformError(ValueError):
    """A transform does something that this project cannot repeat exactly."""


def input_of_transform(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """Return what the saved transform of a folder tells of the input, and a note on what it leaves open.

    Returns:
        Entries of the document: those of the size, those of the levels, both or none, and None where the transform
        does something else, to the levels perhaps; and a sentence, or "".
    """
    path = folder / NAME
    if not path.is_file():
        return {}, ""
    try:
        saved = json.loads(path.read_bytes())["transform"]
        steps = [(str(step["__class_fullname__"]).rpartition(".")[2], step) for step in saved["transforms"]]
        found = _read(steps)
    except UnknownTransformError as error:
        return None, f"{NAME} has {error}, which is not repeated: give the input by options"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return None, f"{NAME} cannot be read ({type(error).__name__}): give the input by options"
    open_ = [what for what, key in (("size", "resize"), ("normalisation", "scale")) if key not in found]
    note = f"{NAME} has no step for the {' and the '.join(open_)}" if open_ else ""
    return found, note


def _read(steps: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the entries of the steps, which have to be a resize or padding, then a normalisation.

    Raises:
        UnknownTransformError: there is another step, or another order.
    """
    found: dict[str, Any] = {}
    for name, step in steps:
        if name in _WITHOUT_EFFECT:
            continue
        if name not in _STEPS or "scale" in found or ("resize" in found and name != "Normalize"):
            before = f" after {', '.join(other for other, _ in steps[: _place(steps, step)])}" if found else ""
            raise UnknownTransformError(f"{name}{before}")
        if step.get("p", 1.0) != 1 and not step.get("always_apply"):
            raise UnknownTransformError(f"{name} with probability {step['p']}")
        found |= _STEPS[name](step)
    return found


def _place(steps: Sequence[tuple[str, Mapping[str, Any]]], step: Mapping[str, Any]) -> int:
    return next(place for place, (_, other) in enumerate(steps) if other is step)


def _resize(step: Mapping[str, Any]) -> dict[str, Any]:
    if step.get("interpolation", 1) not in _FILTERS:
        raise UnknownTransformError(f"Resize with OpenCV's filter {step['interpolation']}")
    height_px, width_px = int(step["height"]), int(step["width"])
    return {
        "resize": "stretch",
        "size": [height_px, width_px],
        "interpolation": _FILTERS[step.get("interpolation", 1)],
    }


def _pad(step: Mapping[str, Any]) -> dict[str, Any]:
    multiples = (step.get("pad_height_divisor"), step.get("pad_width_divisor"))
    border, align = step.get("border_mode", -1), _ALIGNS.get(str(step.get("position", "center")).lower())
    if not multiples[0] or multiples[0] != multiples[1] or step.get("min_height") or step.get("min_width"):
        raise UnknownTransformError("PadIfNeeded to another size than multiples of one number")
    if border not in _BORDERS or align is None:
        raise UnknownTransformError(f"PadIfNeeded with border_mode {border}, position {step.get('position')}")
    found = {
        "resize": "own",
        "multiple_of": multiples[0],
        "to_multiple": "pad",
        "padding_mode": _BORDERS[border],
        "align": align,
    }
    if border == 0:
        fill = step.get("fill", step.get("value", 0)) or 0
        found["padding"] = _per_channel(fill)
    return found


def _per_channel(value: Any) -> list[Any]:
    return [value] * 3 if isinstance(value, int | float) else list(value)


def _normalize(step: Mapping[str, Any]) -> dict[str, Any]:
    kind = step.get("normalization", "standard")
    if kind != "standard":
        raise UnknownTransformError(f"Normalize by {kind}")
    scale = step.get("max_pixel_value")
    mean, std = (
        [value] * 3 if isinstance(value, int | float) else list(value) for value in (step["mean"], step["std"])
    )
    return {"scale": 255.0 if scale is None else float(scale), "mean": mean, "std": std}


_STEPS = {"Resize": _resize, "PadIfNeeded": _pad, "Normalize": _normalize}
