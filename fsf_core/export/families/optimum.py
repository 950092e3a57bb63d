"""ONNX files of transformers, as Optimum and transformers.js keep them: beside config.json, or in a folder onnx.

Preprocessing and classes are read as from a folder with weights; the output is its logits, enlarged to the image.
"""

from pathlib import Path
from typing import Any

from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.onnx_head import metadata_of, outputs_of
from fsf_core.export.families.optional import load
from fsf_core.export.families.transformers import EXTRA
from fsf_core.export.families.transformers.classes import read_classes
from fsf_core.export.families.transformers.folder import CONFIG, read_json, task_of
from fsf_core.export.foreign import FOREIGN, in_one_line

_LOGITS = "logits"
"""Name of the output with the scores."""


def recognises(path: Path) -> bool:
    """Return whether a file is an ONNX model beside a configuration, or a folder has one and no weights of PyTorch."""
    folder = _folder_of(path)
    if folder is None:
        return False
    if path.is_file():
        return metadata_of(path) is not None
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    return not weights and bool(_onnx_files(folder))


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the file with its configuration.

    Raises:
        ConfigError: it is of another task, or there are several files.
    """
    folder = _folder_of(path)
    assert folder is not None, "recognises has seen it"
    raw = read_json(folder / CONFIG)
    if task_of(raw, request.source) != "semantic":
        raise ConfigError(
            f"{request.source} is an ONNX file of {raw['model_type']}, whose masks are made of queries behind the "
            "graph; expected a score for each class and cell; give the folder with the model's weights"
        )
    file = path if path.is_file() else _only_onnx(folder, request.source)
    load("transformers", EXTRA)
    from fsf_core.export.families.transformers.preprocessing import read_preprocessing

    preprocessing = read_preprocessing(folder, raw)
    config = _config_of(folder, request.source)
    classes, notes, about_classes = read_classes(raw, config, given=request.classes)
    return FoundModel(
        family="optimum",
        onnx=str(file),
        document={"input": preprocessing.document, "output": _output_keys(file, int(config.num_labels))},
        classes=classes,
        about_classes=about_classes,
        notes=(*preprocessing.notes, *notes),
        sources={"input": preprocessing.file, "output": CONFIG, "classes": CONFIG},
        advice=preprocessing.why_not,
    )


def _output_keys(file: Path, count: int) -> dict[str, Any]:
    """Return what the output is, and its name where there are others."""
    outputs = [value.name for value in outputs_of(file)]
    name = {"name": _LOGITS} if len(outputs) > 1 and _LOGITS in outputs else {}
    return {"kind": "binary_logit" if count == 1 else "logits", "resized": "logits", **name}


def _config_of(folder: Path, source: str) -> Any:
    """Return the library's record of the configuration.

    Raises:
        ConfigError: the library does not know the model.
    """
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except FOREIGN as error:
        raise ConfigError(
            f"{CONFIG} of {source} cannot be read: {in_one_line(error)}; expected one of a model that transformers "
            "knows; pass the ONNX file with --onnx, and give its preprocessing"
        ) from error


def _folder_of(path: Path) -> Path | None:
    """Return the folder with the configuration of a model of transformers."""
    folders = [path] if path.is_dir() else [path.parent]
    if path.is_file() and path.parent.name == "onnx":
        folders.append(path.parent.parent)
    for folder in folders:
        try:
            config = read_json(folder / CONFIG)
        except (OSError, ValueError):
            continue
        if isinstance(config.get("model_type"), str):
            return folder
    return None


def _onnx_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")])


def _only_onnx(folder: Path, source: str) -> Path:
    """Return the ONNX file of a folder.

    Raises:
        ConfigError: there are several.
    """
    files = _onnx_files(folder)
    if len(files) > 1:
        names = [path.relative_to(folder).as_posix() for path in files]
        raise ConfigError(f"{source} has the ONNX files {names}; give one of them with --model")
    return files[0]
