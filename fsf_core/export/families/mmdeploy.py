"""MMDeploy: the folder of a segmentor for its SDK, with deploy.json and pipeline.json beside the ONNX file.

Preprocessing is read from the steps of pipeline.json, as the SDK runs them. Imports nothing of OpenMMLab.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel

_DEPLOY, _PIPELINE, _DETAIL = "deploy.json", "pipeline.json", "detail.json"

_FILTERS = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic", "area": "area", "lanczos": "lanczos"}
"""Filters of the SDK, which are OpenCV's, by the names of here."""

_IGNORED = {"LoadImageFromFile", "LoadImageFromNDArray", "ImageToTensor", "DefaultFormatBundle", "Collect"}
"""Steps that change no pixel of an image of 8 bits."""


def recognises(path: Path) -> bool:
    """Return whether a folder is one of MMDeploy's SDK, or a file the model of such a folder."""
    folder = path if path.is_dir() else path.parent
    try:
        pipeline, deploy = _document(folder / _PIPELINE), _document(folder / _DEPLOY)
    except ConfigError:
        return False
    if not isinstance(pipeline.get("pipeline"), dict) or not isinstance(deploy.get("models"), list):
        return False
    return path.is_dir() or path.name == _model_of(deploy).get("net")


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the folder of a segmentor.

    Raises:
        ConfigError: it is a model of another task or runtime, or its preprocessing is one that is not supported.
    """
    folder = path if path.is_dir() else path.parent
    deploy, pipeline = _document(folder / _DEPLOY), _document(folder / _PIPELINE)
    model = _onnx_of(folder, deploy, request.source)
    document, classes = document_of(pipeline, f"{_PIPELINE} of {request.source}")
    _require_count(request, classes)
    return FoundModel(
        family="mmdeploy",
        onnx=str(model),
        document=document,
        about_classes=_about_classes(classes, folder),
        notes=_notes(document),
        sources={"input": _PIPELINE, "output": _PIPELINE},
    )


def document_of(pipeline: Mapping[str, Any], source: str) -> tuple[dict[str, dict[str, Any]], int | None]:
    """Return what pipeline.json says about input and output, and the number of classes, None where it has none.

    Args:
        pipeline: content of the file.
        source: names the file in messages.

    Raises:
        ConfigError: it has a step that is not supported, or is none of a segmentor.
    """
    tasks = pipeline["pipeline"].get("tasks", [])
    tasks = [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []
    steps = next((task.get("transforms") for task in tasks if task.get("module") == "Transform"), None)
    post = next((task for task in tasks if task.get("component") == "ResizeMask"), None)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps) or post is None:
        raise ConfigError(
            f"{source} has no steps of preprocessing and the step ResizeMask after the network, expected those of a "
            "segmentor; export it again with tools/deploy.py --dump-info of MMDeploy"
        )
    parameters = post.get("params") if isinstance(post.get("params"), dict) else {}
    classes = parameters.get("num_classes")
    return {"input": _input_keys(steps, source), "output": _output_keys(parameters)}, (
        classes if isinstance(classes, int) else None
    )


def _output_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the output is: with_argmax gives a class map, whose nearest cells are taken; else logits."""
    if parameters.get("with_argmax", True):
        return {"kind": "class_map", "corners": "asymmetric"}
    return {"kind": "logits", "layout": "NKHW", "resized": "logits"}


def _input_keys(steps: list[Mapping[str, Any]], source: str) -> dict[str, Any]:
    """Return what the steps do to an image.

    Raises:
        ConfigError: one is not supported.
    """
    _require_order([step.get("type") for step in steps], source)
    keys: dict[str, Any] = {"channel_order": "bgr", "scale": 1, "mean": 0, "std": 1, "resize": "own"}
    for step in steps:
        kind = step.get("type")
        if kind == "Resize":
            keys |= _resize_keys(step, source)
        elif kind == "Normalize":
            keys |= _normalise_keys(step, source)
        elif kind == "Pad":
            keys |= _pad_keys(step, keys, source)
        elif kind in {"LoadImageFromFile", "LoadImageFromNDArray"}:
            _require_colour(step, source)
            keys["honour_exif"] = step.get("color_type", "color") != "color_ignore_orientation"
        elif kind not in _IGNORED:
            raise _not_supported(f"the step {kind!r}", source, "Resize, Pad and Normalize")
    return keys


def _require_order(kinds: list[Any], source: str) -> None:
    """Refuse a step that occurs twice, and a Resize behind Pad: the keys know one resize, with padding behind it.

    Raises:
        ConfigError: there is one.
    """
    twice = [kind for kind in ("Resize", "Pad", "Normalize") if kinds.count(kind) > 1]
    if twice:
        raise _not_supported(f"the step {twice[0]} twice", source, "it once")
    if {"Resize", "Pad"} <= {*kinds} and kinds.index("Pad") < kinds.index("Resize"):
        raise _not_supported("Resize behind Pad", source, "Resize in front of Pad")


def _resize_keys(step: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Resize does. `size` is width and height, or one number for both."""
    size = step.get("size", step.get("scale"))
    width_px, height_px = size if isinstance(size, list) and len(size) == 2 else (size, size)  # noqa: PLR2004
    interpolation = step.get("interpolation", "bilinear")
    if interpolation not in _FILTERS:
        raise _not_supported(f"the filter {interpolation!r} of Resize", source, ", ".join(_FILTERS))
    if not isinstance(width_px, int) or not isinstance(height_px, int) or width_px < 1:
        raise _not_supported(f"the size {size!r} of Resize", source, "[width, height] in pixels")
    keys: dict[str, Any] = {"interpolation": _FILTERS[interpolation]}
    if height_px == -1:
        return keys | {"resize": "short-side", "short_side": width_px, "rounding": "truncate"}
    if height_px < 1:
        raise _not_supported(f"the size {size!r} of Resize", source, "[width, height] in pixels")
    if step.get("keep_ratio", False):
        sides = {"short_side": min(width_px, height_px), "max_long_side": max(width_px, height_px)}
        return keys | {"resize": "short-side", **sides, "rounding": "half-up"}
    return keys | {"resize": "stretch", "size": f"{height_px}x{width_px}"}


def _normalise_keys(step: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Normalize does: mean and std are in levels and in the order of the network's channels."""
    mean, std = step.get("mean"), step.get("std")
    if not _are_levels(mean) or not _are_levels(std):
        raise _not_supported(f"mean {mean!r} and std {std!r} of Normalize", source, "three numbers each")
    return {"mean": mean, "std": std, "channel_order": "rgb" if step.get("to_rgb", True) else "bgr"}


def _pad_keys(step: Mapping[str, Any], before: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what Pad does at the right and at the bottom, before Normalize or after it.

    Behind Normalize the padding is a normalised number, and here it is a level. Of one number per channel the SDK takes
    the first for all, and the training all, so that these have to be equal.
    """
    multiple = step.get("size_divisor", 1)
    others = {"size", "pad_to_square", "logical_or_val", "add_pix_val", "orientation_agnostic"}
    if any(step.get(name) for name in others) or not isinstance(multiple, int) or multiple < 1:
        raise _not_supported(f"Pad with {sorted(others & {*step})}", source, "Pad with size_divisor")
    if step.get("padding_mode", "constant") != "constant":
        raise _not_supported(f"padding_mode {step['padding_mode']!r} of Pad", source, "constant")
    if multiple == 1:
        return {}
    value = step.get("pad_val", 0)
    value = value["img"] if isinstance(value, dict) and "img" in value else value
    values = value if isinstance(value, list) else [value]
    if not values or values != values[:1] * len(values) or not isinstance(values[0], int | float):
        raise _not_supported(f"pad_val {step.get('pad_val')!r} of Pad", source, "one number")
    mean, std = (_three(before[name]) for name in ("mean", "std"))
    levels = [round(values[0] * std[at] + mean[at]) for at in range(3)]
    if not all(0 <= level <= 255 for level in levels):  # noqa: PLR2004 - levels of 8 bits
        raise _not_supported(
            f"pad_val {step.get('pad_val')!r} of Pad, the levels {levels}", source, "levels of 0 to 255"
        )
    return {"multiple_of": multiple, "to_multiple": "pad", "padding": levels, "align": "top-left"}


def _three(numbers: Any) -> list[float]:
    return list(numbers) if isinstance(numbers, list) else [float(numbers)] * 3


def _are_levels(numbers: Any) -> bool:
    return isinstance(numbers, list) and len(numbers) == 3 and all(isinstance(one, int | float) for one in numbers)  # noqa: PLR2004


def _require_colour(step: Mapping[str, Any], source: str) -> None:
    """Refuse models of one channel.

    Raises:
        ConfigError: images are read as shades of grey, or in another order.
    """
    if step.get("color_type", "color") not in {"color", "color_ignore_orientation"}:
        raise _not_supported(f"color_type {step['color_type']!r}", source, "color: images of three channels")
    if step.get("channel_order", "bgr") != "bgr":
        raise _not_supported(f"channel_order {step['channel_order']!r} of {step.get('type')}", source, "bgr")


def _notes(document: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what the SDK does otherwise, where it differs."""
    padding = [level for level in document["input"].get("padding", ()) if level]
    return (f"the border is padded with the levels {padding}, rounded from normalised ones",) if padding else ()


def _about_classes(found: int | None, folder: Path) -> str:
    """Return the number of the classes and the configuration that names them; the folder does not."""
    try:
        codebase = _document(folder / _DETAIL).get("codebase")
    except ConfigError:
        codebase = None
    config = codebase.get("config") if isinstance(codebase, dict) else None
    trained = f", which are those of {config}" if isinstance(config, str) else ""
    return f"the model has {found or 'its'} classes without names{trained}"


def _require_count(request: FamilyRequest, found: int | None) -> None:
    """Compare the number of names that are given with that of the folder: a class map shows its classes late.

    Raises:
        ConfigError: it is another.
    """
    one = found == 1 and len(request.classes) <= 2  # noqa: PLR2004 - one class is a foreground beside a background
    if request.classes and found and found != len(request.classes) and not one:
        raise ConfigError(
            f"{len(request.classes)} class names are given, but {_PIPELINE} of {request.source} has {found} classes; "
            "pass --classes with one name for each"
        )


def _onnx_of(folder: Path, deploy: Mapping[str, Any], source: str) -> Path:
    """Return the ONNX file of a folder.

    Raises:
        ConfigError: the model is no segmentor, or one for another runtime, or not in the folder.
    """
    task, model = deploy.get("task"), _model_of(deploy)
    if task != "Segmentor":
        raise ConfigError(
            f"{source} is a model of MMDeploy for the task {task!r}, expected a Segmentor; give one, of mmsegmentation"
        )
    net = str(model.get("net", ""))
    path = folder / Path(net).name
    if model.get("backend") != "onnxruntime" or not path.is_file():
        found = "which is not there" if model.get("backend") == "onnxruntime" else f"for {model.get('backend')}"
        raise ConfigError(
            f"the model of {source} is {net!r}, {found}, expected an ONNX file; export it with tools/deploy.py and "
            "configs/mmseg/segmentation_onnxruntime_dynamic.py of MMDeploy, with --dump-info"
        )
    return path


def _model_of(deploy: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the entry of the one network."""
    models = [model for model in deploy.get("models", []) if isinstance(model, dict)]
    return models[0] if len(models) == 1 else {}


def _not_supported(found: str, source: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{source} has {found}, which is not supported; expected {expected}; pass the ONNX file with --onnx and give "
        "its preprocessing by --model-config"
    )


def _document(path: Path) -> Mapping[str, Any]:
    """Read a JSON document.

    Raises:
        ConfigError: it cannot be read, or is no mapping.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}; expected what MMDeploy writes with --dump-info") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, expected a mapping as MMDeploy writes it")
    return content
