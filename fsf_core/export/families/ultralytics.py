"""Ultralytics: ONNX exports of its networks, by the metadata that its exporter writes.

Semantic networks (`-sem`) export a class map, or logits; both are read. Instance networks (`-seg`) get the steps from
boxes to a class map. Preprocessing is that of Ultralytics' predictor: scaled evenly with rounded sides, centred, padded
with 114. Imports nothing of Ultralytics.
"""

import ast
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsf_core.class_names import names_in_metadata
from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.onnx_head import metadata_of, outputs_of

_MARKS = {"task", "stride", "imgsz", "names"}
"""Keys that every export has, of whatever version."""

_PADDING = 114
_STRIDE = 32
_PICKLED = b"ultralytics."
"""Begins the name of the module of every class that a .pt file pickles."""
_LARGEST_PICKLE = 64 * 2**20

BACKGROUND = "background"
"""Name of the class of pixels that belong to no instance."""

_INSTANCES = (
    "an instance model: pixels of no instance are background, and where masks overlap the most confident instance has "
    "the pixel, with conf 0.25, iou 0.7 and max_det 300 as Ultralytics' predictor has them by default"
)

_TASKS = {
    "detect": "boxes",
    "obb": "rotated boxes",
    "pose": "boxes with keypoints",
    "classify": "one class for a whole image",
    "depth": "a distance for every pixel",
}


def recognises(path: Path) -> bool:
    """Return whether a file is an ONNX export or a pickled model of Ultralytics, or a folder one of its exports."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() and _is_export(_sidecar(path / "metadata.yaml"))
    return _is_export(metadata_of(path) or {}) or _is_pickled(path)


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read an ONNX export of a semantic or an instance network.

    Raises:
        ConfigError: it is a model of another task or another form.
    """
    if path.is_dir():
        raise ConfigError(
            f"{request.source} is an export of Ultralytics for another runtime, expected its ONNX file; export the "
            f"model with {_COMMAND}"
        )
    if _is_pickled(path):
        raise ConfigError(
            f"{request.source} is a model of Ultralytics as pickled Python objects, which would run code when loaded; "
            f"export it with {_COMMAND}, and give the ONNX file"
        )
    metadata = metadata_of(path) or {}
    names = names_in_metadata(metadata)
    _require_segmentation(request.source, metadata)
    _require_one_name_each(request, names, metadata["task"])
    sources = dict.fromkeys(("input", "output", "classes"), "metadata of the ONNX file")
    if metadata["task"] == "segment":
        return FoundModel(
            family="ultralytics",
            onnx=_with_class_map(path, request.source, metadata, names),
            document={"input": input_keys(metadata), "output": {"kind": "class_map", "corners": "asymmetric"}},
            classes=(BACKGROUND, *names),
            notes=(_INSTANCES, *_notes(metadata)),
            sources=sources,
        )
    rank, floats = _output_of(path, request.source)
    return FoundModel(
        family="ultralytics",
        onnx=str(path),
        document={
            "input": input_keys(metadata),
            "output": output_keys(rank, floats=floats, names=len(request.classes or names)),
        },
        classes=names,
        notes=_notes(metadata),
        sources=sources,
    )


def _with_class_map(path: Path, source: str, metadata: Mapping[str, str], names: tuple[str, ...]) -> bytes:
    """Return an instance model with a class map as its output.

    Raises:
        ConfigError: its metadata has no class names, by whose number its output is read.
    """
    if not names:
        raise ConfigError(
            f"{source} has no class names in its metadata, by whose number its boxes are read; export it again with "
            f"{_COMMAND}"
        )
    from fsf_core.export.families.ultralytics_instances import with_class_map
    from fsf_core.export.graph import model_bytes
    from fsf_core.export.onnx_file import load_onnx

    final = metadata.get("end2end") == "True"
    return model_bytes(with_class_map(load_onnx(path), num_classes=len(names), end2end=final))


def input_keys(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return what the metadata of an export says about its input, below `input` of a model's document."""
    size = _literal(metadata.get("imgsz"))
    height_px, width_px = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)  # noqa: PLR2004
    known_size = all(isinstance(side, int) and side > 0 for side in (height_px, width_px))
    return {
        **({"size": f"{height_px}x{width_px}"} if known_size else {}),
        "resize": "letterbox",
        "rounding": "half-even",
        "interpolation": "linear",
        "channel_order": "rgb",
        "scale": 255,
        "mean": 0,
        "std": 1,
        "padding": _PADDING,
        "align": "centre",
        **({"multiple_of": _stride(metadata)} if _is_dynamic(metadata) else {}),
    }


def output_keys(rank: int, *, floats: bool, names: int) -> dict[str, Any]:
    """Return what the output of a semantic network is: whole numbers are a class map, others logits unless NHW.

    Ultralytics enlarges logits to the input's size, crops the padding, enlarges what is left to the image, and takes
    the largest; of one class, what is above 0.

    Args:
        rank: number of axes.
        floats: whether it holds floating-point numbers.
        names: number of classes.
    """
    if not floats or rank == 3:  # noqa: PLR2004 - without an axis of classes
        return {"kind": "class_map", "corners": "asymmetric"}
    return {
        "kind": "logits" if names > 1 else "binary_logit",
        "layout": "NKHW",
        "resized": "logits",
        "grid": "input",
    }


def _notes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    if not _is_dynamic(metadata):
        return ()
    size = metadata.get("imgsz")
    note = (
        f"the export takes any size: images are scaled to fit {size} and padded to multiples of {_stride(metadata)}, "
        f"as Ultralytics does at imgsz={size}; --input-size changes the former"
    )
    return (note,)


_COMMAND = "`yolo export model=FILE.pt format=onnx imgsz=HEIGHT,WIDTH` where Ultralytics is installed"


def _require_segmentation(source: str, metadata: Mapping[str, str]) -> None:
    """Refuse models that give no regions.

    Raises:
        ConfigError: the task is no segmentation, or the images are not of three channels.
    """
    task = metadata.get("task", "")
    if task not in {"semantic", "segment"}:
        gives = f", which gives {_TASKS[task]}" if task in _TASKS else ""
        raise ConfigError(
            f"{source} is a model of Ultralytics for the task {task!r}{gives}, expected semantic (-sem) or "
            f"segment (-seg); train such a model, as yolo26n-sem, on masks of your classes; export it with {_COMMAND}"
        )
    channels = metadata.get("channels", "3")
    if channels != "3":
        raise ConfigError(
            f"{source} is a model of Ultralytics for images of {channels} channels, expected 3: red, green and blue; "
            "train one on such images"
        )


def _require_one_name_each(request: FamilyRequest, names: tuple[str, ...], task: str) -> None:
    """Compare the number of names that are given with that of the metadata: a class map shows its classes late.

    Raises:
        ConfigError: it is another.
    """
    expected = len(names) + (task == "segment")
    one = len(names) == 1 and len(request.classes) <= 2  # noqa: PLR2004 - a foreground beside a background
    if request.classes and names and len(request.classes) != expected and not one:
        first = f"{BACKGROUND} first, and " if task == "segment" else ""
        raise ConfigError(
            f"{len(request.classes)} class names are given, but the metadata of {request.source} has {len(names)} "
            f"classes; pass --classes with {first}one name for each, or leave it out"
        )


def _output_of(path: Path, source: str) -> tuple[int, bool]:
    """Return the number of axes of the output, and whether it holds floating-point numbers.

    Raises:
        ConfigError: it has several outputs.
    """
    from onnx import TensorProto

    outputs = outputs_of(path)
    if len(outputs) != 1:
        raise ConfigError(
            f"{source} has the outputs {[value.name for value in outputs]}, expected the one of a semantic model "
            f"of Ultralytics; export it again with {_COMMAND}"
        )
    kind = outputs[0].type.tensor_type
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
    return len(kind.shape.dim), kind.elem_type in floats


def _is_export(metadata: Mapping[str, Any]) -> bool:
    return {*metadata} >= _MARKS


def _is_dynamic(metadata: Mapping[str, str]) -> bool:
    arguments = _literal(metadata.get("args"))
    return isinstance(arguments, dict) and arguments.get("dynamic") is True


def _stride(metadata: Mapping[str, str]) -> int:
    stride = _literal(metadata.get("stride"))
    return stride if isinstance(stride, int) and stride > 0 else _STRIDE


def _literal(text: Any) -> Any:
    """Return the Python literal that a text is, or None."""
    try:
        return ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _sidecar(path: Path) -> Mapping[str, Any]:
    """Return the YAML document beside an export, or {} where it is none."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_pickled(path: Path) -> bool:
    """Return whether a file is an archive of torch.save with classes of Ultralytics; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"), None)
            if name is None or archive.getinfo(name).file_size > _LARGEST_PICKLE:
                return False
            return _PICKLED in archive.read(name)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        return False
