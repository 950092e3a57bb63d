"""QGIS Deepness: ONNX files with the metadata that its plugin documents, such as model_type and class_names.

Its tiles are RGB, divided by 255 and then standardised. Imports nothing of Deepness.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsf_core.class_names import names_in_metadata
from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.onnx_head import metadata_of, outputs_of

_KEYS = {"resolution", "tile_size", "tiles_size", "tiles_overlap", "standardization_mean", "seg_thresh"}
"""Keys of which one tells its files apart from others with a `model_type`."""

_TASKS = {"segmentor", "detector", "regressor", "recognition", "superresolution"}


def recognises(path: Path) -> bool:
    """Return whether a file is an ONNX model with Deepness' metadata."""
    metadata = metadata_of(path) or {}
    return str(_json(metadata.get("model_type"))).lower() in _TASKS and bool(_KEYS & {*metadata})


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the metadata of a segmentor.

    Raises:
        ConfigError: it is a model of another task.
    """
    metadata = metadata_of(path) or {}
    has_one_channel = _has_one_channel(path)
    task = str(_json(metadata.get("model_type")))
    if task.lower() != "segmentor":
        raise ConfigError(
            f"{request.source} is a model of QGIS Deepness with model_type {task}, expected Segmentor; give one that "
            "has a class for every pixel"
        )
    return FoundModel(
        family="deepness",
        onnx=str(path),
        document=document_of(metadata, has_one_channel=has_one_channel),
        classes=names_in_metadata(metadata),
        notes=() if has_one_channel else _notes(metadata),
        sources=dict.fromkeys(("input", "output", "classes"), "metadata of the ONNX file"),
    )


def document_of(metadata: Mapping[str, str], *, has_one_channel: bool) -> dict[str, dict[str, Any]]:
    """Return what the metadata says; how whole pictures become a tile is not in it, and is asked for.

    Without a mean or a standard deviation in the metadata Deepness applies neither. One that is no list of one or
    three numbers is left to be asked for.
    """
    named = {key: metadata.get(f"standardization_{key}") for key in ("mean", "std")}
    both: dict[str, Any] = {"mean": 0, "std": 1}
    if None not in named.values():
        both = {key: numbers for key, text in named.items() if (numbers := _numbers(text))}
    side = next((value for name in ("tile_size", "tiles_size") if _is_side(value := _json(metadata.get(name)))), None)
    threshold = _json(metadata.get("seg_thresh"))
    return {
        "input": {"channel_order": "rgb", "scale": 255, **both, **({"size": f"{side}x{side}"} if side else {})},
        "output": {"threshold": threshold} if has_one_channel and _is_share(threshold) else {},
    }


def _notes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return what Deepness does with the numbers of several channels that are below the threshold."""
    threshold = _json(metadata.get("seg_thresh"))
    if not _is_share(threshold):
        return ()
    note = (
        f"Deepness gives class 0 to pixels whose largest number is below seg_thresh {threshold}; here they have the "
        "class of that number"
    )
    return (note,)


def _has_one_channel(path: Path) -> bool:
    """Return whether the output has the scores of a foreground alone."""
    from fsf_core.export.graph import sizes_of

    sizes = sizes_of(outputs_of(path)[0])
    return len(sizes) == 3 or sizes[1:2] == (1,)  # noqa: PLR2004 - without an axis of channels


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _numbers(text: str | None) -> list[float]:
    """Return the numbers of a list of one or three; none of another."""
    found = _json(text)
    valid = isinstance(found, list) and len(found) in {1, 3} and all(isinstance(one, int | float) for one in found)
    return found if valid else []


def _json(text: str | None) -> Any:
    """Return what a text of JSON holds, or the text itself."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text
