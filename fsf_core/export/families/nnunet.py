"""nnU-Net v2: the folder of a trained model is recognised, and refused: one call of its network is not its prediction.

nnU-Net cuts an image into overlapping patches, and its instance norms see one patch at a time; it adds the scores of
all patches and of their mirrored copies with Gaussian weights. It normalises by the statistics of the whole image, and
crops borders of zeros. No graph that takes one image gives the same masks.
"""

import json
from pathlib import Path
from typing import Any

from fsf_core.errors import ConfigError
from fsf_core.export.families.found import FamilyRequest, FoundModel

_PLANS, _DATASET = "plans.json", "dataset.json"


def recognises(path: Path) -> bool:
    """Return whether a folder is a trained model of nnU-Net, or a fold of one, or a file its checkpoint."""
    return _plans_of(path) is not None


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Refuse the model.

    Raises:
        ConfigError: always.
    """
    plans = _plans_of(path) or {"configurations": {}}
    flat = plans["configurations"].get("2d")
    patch = flat.get("patch_size") if isinstance(flat, dict) else None
    size = f" of {'x'.join(map(str, patch))} pixels" if isinstance(patch, list) else ""
    raise ConfigError(
        f"{request.source} is a model of nnU-Net v2 ({plans.get('plans_name', 'plans')}), whose predictions are sums "
        f"over overlapping patches{size} and their mirrored copies, expected a network whose output for one image is "
        "the prediction; predict with nnUNetv2_predict, or export its network to ONNX yourself and pass that with "
        "--onnx, which gives other masks than nnU-Net"
    )


def _plans_of(path: Path) -> dict[str, Any] | None:
    """Return the plans of the trained model that a folder or checkpoint belongs to."""
    folder = path if path.is_dir() else path.parent
    inside = {*folder.glob("fold_*")} if path.is_dir() else set()
    if folder.name.startswith("fold_") and (path.is_dir() or path.name.startswith("checkpoint_")):
        inside, folder = {folder}, folder.parent
    if not inside or not (folder / _DATASET).is_file():
        return None
    try:
        content = json.loads((folder / _PLANS).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and isinstance(content.get("configurations"), dict) else None
