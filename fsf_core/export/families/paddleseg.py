"""PaddleSeg: the folder of an exported model, with deploy.yaml (or inference.yml) beside the ONNX file of paddle2onnx.

Preprocessing is read from the transforms of the document, which PaddleSeg applies to RGB images. Imports nothing of
Paddle.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel

_DOCUMENTS = ("deploy.yaml", "inference.yml")
"""Names that PaddleSeg's and PaddleX's exporters give it."""

_FILTERS = {"NEAREST": "nearest", "LINEAR": "linear", "CUBIC": "cubic", "AREA": "area", "LANCZOS4": "lanczos"}
"""Filters of OpenCV by PaddleSeg's names."""

_OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "argmax": {"kind": "class_map", "corners": "asymmetric"},
    "softmax": {"kind": "probabilities", "layout": "NKHW"},
    "none": {"kind": "logits", "layout": "NKHW", "resized": "logits"},
}
"""`output_op` to what the output is. PaddleSeg takes the nearest cell of a class map, and enlarges scores."""

_LARGEST_BYTES = 2**20


def recognises(path: Path) -> bool:
    """Return whether a folder is an exported model of PaddleSeg, or a file the ONNX model in one."""
    folder = path if path.is_dir() else path.parent
    found = _deploy_of(folder)
    return found is not None and (path.is_dir() or path in _onnx_files(folder))


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the folder of an exported model.

    Raises:
        ConfigError: it has no ONNX file, or its preprocessing is one that is not supported.
    """
    folder = path if path.is_dir() else path.parent
    found = _deploy_of(folder)
    assert found is not None, "recognises has seen it"
    name, deploy = found
    document = document_of(deploy, f"{name} of {request.source}")
    return FoundModel(
        family="paddleseg",
        onnx=str(path if path.is_file() else _onnx_of(folder, request.source)),
        document=document,
        notes=_notes(deploy),
        sources={"input": name, "output": name},
    )


def document_of(deploy: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    """Return what the section Deploy says about input and output.

    Args:
        deploy: the section.
        source: names the file in messages.

    Raises:
        ConfigError: it has a transform that is not supported.
    """
    steps = deploy.get("transforms") or []
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "type" in step for step in steps):
        raise _not_supported(f"the transforms {steps!r:.80}", source, "a list with one `type` each")
    keys: dict[str, Any] = {
        "resize": "own",
        "interpolation": "linear",
        "channel_order": "rgb",
        "scale": 1,
        "mean": 0,
        "std": 1,
    }
    for step in steps:
        kind = step["type"]
        if kind not in _STEPS:
            raise _not_supported(f"the transform {kind!r}", source, ", ".join(_STEPS))
        if str(kind).startswith("Resize") and keys["resize"] != "own":
            raise _not_supported(f"{kind} behind another transform of the size", source, "one resize, then Padding")
        keys |= _STEPS[kind](step, keys, source)
    if keys["resize"] == "letterbox":
        keys = {key: value for key, value in keys.items() if key not in {"short_side", "max_long_side"}}
    end = deploy.get("output_op")
    return {"input": keys, "output": dict(_OUTPUTS.get(end, {})) if isinstance(end, str) else {}}


# --------------------------------------------------------------------------------------------------- the transforms


def _resize(step: Mapping[str, Any], _: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Resize does: `target_size` is width and height."""
    width_px, height_px = _sides(step.get("target_size", [512, 512]), step, source)
    filter_name = str(step.get("interp", "LINEAR"))
    if filter_name not in _FILTERS:
        raise _not_supported(f"interp {filter_name!r} of Resize", source, ", ".join(_FILTERS))
    keys: dict[str, Any] = {"interpolation": _FILTERS[filter_name]}
    multiple = step.get("size_divisor") or 1
    if not isinstance(multiple, int) or multiple < 1:
        raise _not_supported(f"size_divisor {multiple!r} of Resize", source, "a whole number")
    if not step.get("keep_ratio", False):
        rows, columns = (math.ceil(side / multiple) * multiple for side in (height_px, width_px))
        return keys | {"resize": "stretch", "size": f"{rows}x{columns}"}
    keys |= _evenly(min(width_px, height_px), max(width_px, height_px))
    return keys | ({"multiple_of": multiple, "to_multiple": "resize-up"} if multiple > 1 else {})


def _resize_by_long(step: Mapping[str, Any], _: Mapping[str, Any], source: str) -> dict[str, Any]:
    long_px = _side(step.get("long_size"), step, source)
    return {"interpolation": "linear", **_evenly(long_px, long_px)}


def _resize_by_short(step: Mapping[str, Any], _: Mapping[str, Any], source: str) -> dict[str, Any]:
    if "max_size" in step:
        raise _not_supported("max_size of ResizeByShort", source, "ResizeByShort with short_size alone")
    short_px = _side(step.get("short_size"), step, source)
    return {"interpolation": "linear", "resize": "short-side", "short_side": short_px, "rounding": "half-even"}


def _evenly(short_px: int, long_px: int) -> dict[str, Any]:
    """Return the keys of the largest size, with the aspect ratio kept, whose sides do not exceed these."""
    return {"resize": "short-side", "short_side": short_px, "max_long_side": long_px, "rounding": "half-even"}


def _padding(step: Mapping[str, Any], before: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Padding to a size does, at the right and at the bottom, behind a resize into this size."""
    width_px, height_px = _sides(step.get("target_size"), step, source)
    limits = {before.get("short_side"), before.get("max_long_side")}
    if width_px != height_px or limits != {width_px} or "multiple_of" in before:
        raise _not_supported(
            f"Padding to {step.get('target_size')}", source, "Padding to a square behind a Resize into this square"
        )
    value = step.get("im_padding_value", 127.5)
    if not isinstance(value, int | float):
        raise _not_supported(f"im_padding_value {value!r} of Padding", source, "a number")
    scale, mean, std = before["scale"], _three(before["mean"]), _three(before["std"])
    levels = [math.floor((value * std[at] + mean[at]) * scale + 0.5) for at in range(3)]
    if not all(0 <= level <= 255 for level in levels):  # noqa: PLR2004 - levels of 8 bits
        raise _not_supported(f"im_padding_value {value}, the levels {levels}", source, "levels of 0 to 255")
    return {
        "resize": "letterbox",
        "size": f"{height_px}x{width_px}",
        "padding": levels,
        "align": "top-left",
    }


def _normalise(step: Mapping[str, Any], _: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Normalize does: levels are divided by 255 first."""
    numbers = {name: step.get(name, [0.5]) for name in ("mean", "std")}
    for name, value in numbers.items():
        if not isinstance(value, list) or len(value) not in {1, 3} or not all(map(_is_number, value)):
            raise _not_supported(f"{name} {value!r} of Normalize", source, "a list of one number, or of three")
    return {"scale": 255, **numbers}


_STEPS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], dict[str, Any]]] = {
    "Resize": _resize,
    "ResizeByLong": _resize_by_long,
    "ResizeByShort": _resize_by_short,
    "Padding": _padding,
    "Normalize": _normalise,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _three(numbers: Any) -> list[float]:
    listed = list(numbers) if isinstance(numbers, list) else [numbers]
    return listed * 3 if len(listed) == 1 else listed


def _side(value: Any, step: Mapping[str, Any], source: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _not_supported(f"the size {value!r} of {step['type']}", source, "a whole number of pixels")
    return value


def _sides(value: Any, step: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Return width and height."""
    if isinstance(value, int):
        value = [value, value]
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - width and height
        raise _not_supported(f"the size {value!r} of {step['type']}", source, "[width, height] in pixels")
    return _side(value[0], step, source), _side(value[1], step, source)


def _notes(deploy: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what PaddleSeg does otherwise."""
    steps = [step for step in deploy.get("transforms") or [] if isinstance(step, dict)]
    notes = []
    if any(str(step.get("type")).startswith("Resize") for step in steps):
        notes.append("PaddleSeg resizes images as floating-point numbers, here levels are rounded to whole ones")
    if any(step.get("type") == "Padding" and step.get("im_padding_value", 127.5) != 0 for step in steps):
        notes.append("the level of the padding is rounded to a whole one")
    return tuple(notes)


# --------------------------------------------------------------------------------------------------------- the folder


def _deploy_of(folder: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Return name and section Deploy of the document in a folder; None where there is none."""
    for name in _DOCUMENTS:
        path = folder / name
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
                continue
            content = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue
        deploy = content.get("Deploy") if isinstance(content, dict) else None
        if isinstance(deploy, dict) and "transforms" in deploy:
            return name, deploy
    return None


def _onnx_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.onnx") if path.is_file())


def _onnx_of(folder: Path, source: str) -> Path:
    """Return the ONNX file of a folder.

    Raises:
        ConfigError: there is none, or there are several.
    """
    files = _onnx_files(folder)
    if len(files) > 1:
        raise ConfigError(f"{source} has the ONNX files {[path.name for path in files]}; give one of them with --model")
    if not files:
        model, weights = (_file_of(folder, ending) for ending in ((".pdmodel", ".json"), (".pdiparams",)))
        raise ConfigError(
            f"{source} is a model of PaddleSeg without an ONNX file, expected one beside its document; convert it with "
            f"`paddle2onnx --model_dir . --model_filename {model} --params_filename {weights} --save_file model.onnx` "
            "in this folder"
        )
    return files[0]


def _file_of(folder: Path, endings: tuple[str, ...]) -> str:
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(endings))
    return found[0] if found else f"model{endings[0]}"


def _not_supported(found: str, source: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{source} has {found}, which is not supported; expected {expected}; pass the ONNX file with --onnx and give "
        "its preprocessing by --model-config"
    )
