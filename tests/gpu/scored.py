"""A job in this process without Ray, stage after stage as it is planned for a provider; and how two runs compare."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from fsf_core import masks, runs
from fsf_core.config import ScoreConfig
from fsf_core.manifest import open_manifest
from fsf_core.model.bundle import Bundle
from fsf_core.options import ResolvedProvider
from fsf_core.score import plan
from fsf_core.score.placement import Placement
from fsf_core.stages.decode import decode
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import FRAME_FIGURES, mask
from fsf_core.stages.tiles import score_tiled
from fsf_core.stages.write import write
from tests.support import ledger
from tests.support.decode_rows import decode_rows

KEYS = {
    "masks": ("item_id", "frame_index"),
    "class_stats": ("item_id", "frame_index", "class_id"),
    "failures": ("item_id",),
    "regions": ("item_id", "frame_index", "region"),
    "confusion": ("item_id", "label_class_id", "predicted_class_id"),
}
"""Tables of a run, and the columns that identify a row."""

NOISE = {"confidence": 1e-4, "uncertain_share": 1e-3, "mean_probability": 1e-3}
"""Largest differences of what is computed from probabilities, which two processors round differently."""


def score_here(
    bundle: Bundle,
    items: Any,
    out: Any,
    *,
    runs_on: ResolvedProvider,
    planned_for: ResolvedProvider,
    memory_bytes: int | None = None,
    **options: Any,
) -> str:
    """Score a list as the job does that is planned for a provider, on another one in a rehearsal; returns the run."""
    config = ScoreConfig(
        bundle=bundle.uri, manifest=str(items), out=str(out), regions=True, min_region_px=3, segment_frames=8, **options
    )
    manifest = open_manifest(str(items))
    appearance = plan.class_appearance(config, bundle)
    facts = plan.fingerprint(config, bundle, manifest, appearance)
    spec = replace(
        plan.plan_pipeline(
            config,
            bundle=bundle,
            manifest=manifest,
            appearance=appearance,
            placement=Placement(provider=planned_for, min_actors=1, asked_actors=1, actors=1, threads=1),
            attempt=ledger.begin(str(out), fingerprint=facts),
            pending=manifest.items,
        ),
        provider=runs_on,
    )
    infer = Infer(**spec.model, on_device=planned_for != "cpu", memory_bytes=memory_bytes)
    rows = decode_rows(manifest)
    if spec.tile:
        masked = [*score_tiled(rows, infer, replace(spec.tile, batch_frames=infer.batch_frames))]
    else:
        masked = [mask(inferred, spec.mask) for units in decode(rows, spec.decode) for inferred in infer(units)]
    write(pa.concat_tables(masked), spec.write)
    return str(out)


def differing_pixels(run: str, reference: str, *, noise: Mapping[str, float] = NOISE) -> tuple[int, int]:
    """Compare all tables of two runs by key; returns how many pixels of the masks differ, and of how many.

    Frames whose masks are equal must have equal rows, but for the noise. Of others the figures must be within the noise
    too, and no more pixels may change their class than differ.
    """
    found, wanted = (_tables(uri) for uri in (run, reference))
    assert found.keys() == wanted.keys()
    assert found["masks"].keys() == wanted["masks"].keys()
    apart = {key: _differing(found["masks"][key], wanted["masks"][key]) for key in wanted["masks"]}
    changed = {key for key, count in apart.items() if count}
    for name in found:
        for key in found[name].keys() | wanted[name].keys():
            if not _concerns(name, key, changed):
                _require_equal(name, found[name].get(key), wanted[name].get(key), noise)
    for key, row in found["class_stats"].items():
        assert abs(row["pixels"] - wanted["class_stats"][key]["pixels"]) <= apart[key[:2]], key
    for key in changed:
        figures = [{name: row[name] for name in FRAME_FIGURES} for row in (found["masks"][key], wanted["masks"][key])]
        _require_equal("masks", *figures, noise)
    return sum(apart.values()), sum(row["height_px"] * row["width_px"] for row in wanted["masks"].values())


def _tables(uri: str) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """Return the rows of all tables by key, without what differs between any two runs."""
    found = {}
    for name in runs.tables_of(runs.read_fingerprint(uri)):
        rows = runs.read_table(uri, name).to_pylist()
        found[name] = {tuple(row[column] for column in KEYS[name]): row for row in rows}
        assert len(found[name]) == len(rows), f"{name} of {uri} has rows twice"
        for row in rows:
            for column in ("run_id", "bundle_sha256"):
                row.pop(column, None)
            if name == "masks":
                row |= {"class_map": _class_map(uri, row["mask"]), "mask": row["mask"]["path"]}
    return found


def _class_map(uri: str, mask: dict[str, Any]) -> Any:
    """Return the class ids of a mask, of its PNG or else of its TIFF."""
    return masks.decode_png(mask["bytes"]) if mask["bytes"] else np.asarray(Image.open(Path(uri) / mask["path"]))


def _differing(row: dict[str, Any], wanted: dict[str, Any]) -> int:
    """Return how many pixels of two masks differ; takes the class maps out of the rows."""
    class_map_HW, wanted_HW = (each.pop("class_map") for each in (row, wanted))
    assert class_map_HW.shape == wanted_HW.shape
    return int((class_map_HW != wanted_HW).sum())


def _concerns(name: str, key: tuple[Any, ...], changed: set[tuple[Any, ...]]) -> bool:
    """Return whether a row depends on a frame whose mask differs."""
    if name in {"failures", "confusion"}:  # a row is of all frames of its item
        return any(item_id == key[0] for item_id, _ in changed)
    return key[:2] in changed


def _require_equal(
    name: str, row: dict[str, Any] | None, wanted: dict[str, Any] | None, noise: Mapping[str, float]
) -> None:
    """Compare two rows of a table."""
    assert row is not None, f"{name} lacks {wanted}"
    assert wanted is not None, f"{name} has {row}, and the reference has not"
    for column, value in wanted.items():
        if column in noise and value is not None and row[column] is not None:
            assert abs(row[column] - value) <= noise[column], f"{name}.{column}: {row} instead of {wanted}"
        else:
            assert row[column] == value, f"{name}.{column}: {row} instead of {wanted}"
