"""The files of a folder of transformers, and what it is for. Imports no library and loads no weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fsf_core.errors import CheckpointError, ConfigError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files with all weights; beside an index, shards of them."""

Task = Literal["semantic", "universal"]
"""semantic: one score per class and cell. universal: queries, each with classes and a mask."""

UNIVERSAL = ("detr", "eomt", "eomt_dinov3", "mask2former", "maskformer", "oneformer")
"""Model types whose processors make semantic maps of queries."""
_UNIVERSAL_ENDS = ("ForUniversalSegmentation", "ForSegmentation")
_FOR_OTHERS = {
    "ForImageClassification": "classifies whole images",
    "ForObjectDetection": "detects boxes",
    "ForDepthEstimation": "estimates depth",
    "ForMaskGeneration": "segments what a prompt points at",
    "ForCausalLM": "is a language model",
    "ForMaskedLM": "is a language model",
    "ForConditionalGeneration": "generates text",
    "ForInstanceSegmentation": "segments instances",
    "Model": "is a backbone without a head",
    "Backbone": "is a backbone without a head",
}


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no object of JSON.
    """
    content = json.loads(path.read_bytes().decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - to callers it is not the file that it should be
    return content


def task_of(config: Mapping[str, Any], source: str) -> Task:
    """Return what the model's outputs are.

    Raises:
        ConfigError: the model is for something else.
    """
    model_type = config["model_type"]
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    if not names and model_type in UNIVERSAL:
        return "universal"
    if not names or any(name.endswith("ForSemanticSegmentation") for name in names):
        return "semantic"  # without a name the weights show whether the head is there
    own = model_type in UNIVERSAL and any(name.endswith(_UNIVERSAL_ENDS) for name in names)
    if own or names == ["MaskFormerForInstanceSegmentation"]:
        return "universal"
    purpose = next((what for end, what in _FOR_OTHERS.items() if names[0].endswith(end)), "is for another task")
    raise ConfigError(
        f"--model {source} holds a {names[0]}, which {purpose}; expected a model for semantic segmentation, such as "
        "SegformerForSemanticSegmentation or Mask2FormerForUniversalSegmentation; name another folder"
    )


def require_loadable(path: Path, config: Mapping[str, Any], source: str) -> None:
    """Refuse a folder that the library would load only in part, or with code of its own.

    Raises:
        ConfigError: it needs code that comes with it, or is an adapter or quantised.
        CheckpointError: a file with weights is missing.
    """
    processor = path / "preprocessor_config.json"
    remote = "auto_map" in config or (processor.is_file() and "auto_map" in _json_or_empty(processor))
    if remote:
        raise ConfigError(
            f"--model {source} runs code that comes with it (auto_map), expected an architecture of transformers "
            "itself: code beside weights is not executed here; export it to ONNX with its own code, and pass that file"
        )
    if (path / "adapter_config.json").is_file():
        raise ConfigError(
            f"--model {source} holds an adapter (adapter_config.json), expected whole weights; merge it into its base "
            "model with merge_and_unload, and save that"
        )
    if config.get("quantization_config"):
        raise ConfigError(
            f"--model {source} has quantised weights (quantization_config), expected float weights; save the model "
            "without quantisation; --precisions int8 quantises it here"
        )
    if absent := _absent_files(path):
        raise CheckpointError(
            f"--model {source} lacks {', '.join(absent)}; expected all files that save_pretrained wrote; copy it again"
        )


def _absent_files(path: Path) -> list[str]:
    """Return the files with weights that are missing."""
    for name in WEIGHTS:
        if (path / name).is_file():
            return []
        index = path / f"{name}.index.json"
        if index.is_file():
            shards = _json_or_empty(index).get("weight_map")
            names = sorted({str(shard) for shard in shards.values()}) if isinstance(shards, dict) else [name]
            return [shard for shard in names if not (path / shard).is_file()]
    return [" or ".join(WEIGHTS)]


def _json_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}
