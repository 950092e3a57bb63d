"""A sample of a run's items, scored again by the bundle of another run: in this process, by the stages, without Ray.

Tells a changed model from changed data. Writes nothing.
"""

# N frames, K classes

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fsf_core import runs, storage
from fsf_core.analysis.drift import Rescored
from fsf_core.analysis.drift.classes import JointClasses, join_classes
from fsf_core.analysis.drift.pixels import Changes
from fsf_core.analysis.items import FIGURES
from fsf_core.errors import ConfigError
from fsf_core.keys import item_key
from fsf_core.masks import decode_png
from fsf_core.media import images, video
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.model.bundle_files import load_bundle
from fsf_core.runs import RunReader
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask

MAX_FRAMES = 32
"""Frames of one item that are scored: the first of a video."""

BATCH_FRAMES = 4


def load_bundle_of(run: RunReader, uri: str, *, option: str) -> Bundle:
    """Load the bundle that scored a run.

    Args:
        run: that it scored.
        uri: of the bundle.
        option: that names it, for the error.

    Raises:
        BundleError: it is missing, altered or malformed.
        ConfigError: it is another one.
    """
    bundle = load_bundle(storage.absolute(uri))
    known = runs.read_fingerprint(run.uri).get("bundle_sha256")
    if bundle.sha256 != known:
        raise ConfigError(
            f"{option} holds bundle {bundle.sha256[:12]}, {storage.redact(run.uri)} was scored by {str(known)[:12]}; "
            "give that bundle"
        )
    return bundle


def rescore(
    run: RunReader,
    other: RunReader,
    bundle: Bundle,
    *,
    items_of: Literal["a", "b"],
    sample: int,
    seed: int = 0,
    access: storage.Access,
) -> Rescored:
    """Score a sample of a run's items by the bundle of another run, and compare the masks.

    Args:
        run: the items, as it lists their sources. Items whose bytes have changed since are left out.
        other: the run of the bundle; its precision is used.
        bundle: that scored it.
        items_of: which of the two runs the items are of.
        sample: number of items; chosen by a hash of their ids, so that the order of the run does not matter.
        seed: of that hash.
        access: which addresses may be opened.

    Raises:
        BundleError: the bundle lacks the precision of the other run.
        ConfigError: one of the runs was scored in windows.
        ProviderError: the model cannot be loaded.
        OutputError: a committed file is missing or damaged.
    """
    for each in (run, other):
        if runs.read_fingerprint(each.uri).get("tile"):
            raise ConfigError(
                f"{storage.redact(each.uri)} was scored with --tile, and items are scored again whole; leave "
                "--bundle-a and --bundle-b out"
            )
    chosen = _choose(run, sample=sample, seed=seed)
    scored = _score([*chosen.values()], run, other, bundle, access)
    replaced = {name for name, found in scored.items() if not _same_source(found, chosen[name])}
    kept = {name: found for name, found in scored.items() if name not in replaced and found["masks"]}
    classes = join_classes(run.classes, other.classes)
    changes, other_size = _compare(run, kept, classes)
    return Rescored(
        items_of=items_of,
        changes=changes,
        features=_features(kept, len(bundle.classes)),
        items=len(kept),
        unreadable=len(chosen) - len(kept) - len(replaced),
        replaced=len(replaced),
        other_size=other_size,
    )


def _choose(run: RunReader, *, sample: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return the first row of masks of a sample of items, by item id."""
    found: dict[str, dict[str, Any]] = {}
    ranks: dict[str, bytes] = {}
    columns = ["item_id", "pts_s", "uri", "item_sha256", "item_version"]
    for batch in run.iter_batches("masks", columns=columns, batch_rows=4096):
        for row in batch.to_pylist():
            name = row["item_id"]
            if name not in ranks:
                found[name], ranks[name] = row, _rank(name, seed)
        if len(found) > 4 * sample:
            found = {name: found[name] for name in sorted(found, key=ranks.__getitem__)[:sample]}
    return {name: found[name] for name in sorted(found, key=ranks.__getitem__)[:sample]}


def _rank(item_id: str, seed: int) -> bytes:
    return hashlib.blake2b(item_key(item_id) + seed.to_bytes(8, "big", signed=True), digest_size=16).digest()


def _score(
    rows: list[dict[str, Any]], run: RunReader, other: RunReader, bundle: Bundle, access: storage.Access
) -> dict[str, dict[str, Any]]:
    """Return the masks, pixels and figures of every frame of these items that can be scored, by item id."""
    known, by = runs.read_fingerprint(run.uri), runs.read_fingerprint(other.uri)
    sampling = known.get("sampling")
    settings = DecodeSettings(
        profile=bundle.profile,
        limits=images.ImageLimits(),
        extra=pa.schema([]),
        segment_frames=MAX_FRAMES,
        overlays=False,
        access=access,
        pages=known.get("pages", "first"),
        sampling=video.Sampling(**sampling) if sampling else video.EVERY_FRAME,
    )
    masking = MaskSettings(
        profile=bundle.profile,
        num_classes=bundle.num_classes,
        palette_K3=np.asarray(bundle.palette, np.uint8),
        grid_hw=bundle.signature.grid_hw,
        output=bundle.output,
        uncovered_id=bundle.profile.uncovered_id(bundle.classes),
        mask_size=known.get("mask_size", "original"),
        limits=images.ImageLimits(),
        clear_background=False,
    )
    infer = Infer(
        bundle_uri=bundle.uri,
        bundle_sha256=bundle.sha256,
        variant=variant_of(by.get("precision", "fp32"), fused=False),
        provider="auto",
        threads=1,
        batch_frames=BATCH_FRAMES,
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one: dict[str, Any] = {"masks": {}, "pixels": np.zeros(bundle.num_classes, np.int64), "figures": []}
        for units in _first_units(row, settings):
            one |= {name: units.column(name)[0].as_py() for name in ("item_sha256", "item_version")}
            for outputs in infer(units):
                _add(one, mask(outputs, masking))
        found[row["item_id"]] = one
    return found


def _first_units(row: dict[str, Any], settings: DecodeSettings) -> Iterator[pa.Table]:
    """Yield the units of an image, or of the first segment of a video."""
    item = pa.table(
        {
            "item_id": [row["item_id"]],
            "uri": [row["uri"]],
            "kind": pa.array(["image" if row["pts_s"] is None else "video"]),
            "row_digest": pa.nulls(1, pa.binary(8)),
            "attempt": pa.array([1], pa.int32()),
            "done_segments": pa.nulls(1, pa.list_(pa.int32())),
        }
    )
    for units in decode(item, settings):
        yield units
        return


def _add(one: dict[str, Any], units: pa.Table) -> None:
    """Add the frames of a unit to those of its item."""
    for row in units.select(["frames", "masks", "pixels"]).to_pylist():
        for frame, png in zip(row["frames"], row["masks"], strict=True):
            one["masks"][frame["frame_index"]] = png
            one["figures"].append(frame)
        if row["pixels"]:
            one["pixels"] += np.asarray(row["pixels"], np.int64).reshape(-1, len(one["pixels"])).sum(0)


def _same_source(scored: dict[str, Any], row: dict[str, Any]) -> bool:
    """Return whether an item has the bytes that it had; by its version where a run knows no digest."""
    for name in ("item_sha256", "item_version"):
        if scored.get(name) and row[name]:
            return bool(scored[name] == row[name])
    return True


def _compare(run: RunReader, scored: dict[str, dict[str, Any]], classes: JointClasses) -> tuple[Changes, int]:
    """Compare the new masks with those of the run; returns the changes, and the frames of two sizes."""
    changes, other_size = Changes(), 0
    for batch in run.iter_batches("masks", columns=["item_id", "frame_index", "mask"], batch_rows=64):
        names = batch.column("item_id").to_pylist()
        frames = batch.column("frame_index").to_pylist()
        for at, (name, frame) in enumerate(zip(names, frames, strict=True)):
            png = scored[name]["masks"].get(frame) if name in scored else None
            if png is None:
                continue
            old = classes.of_a[decode_png(batch.column("mask")[at].as_py()["bytes"])]
            new = classes.of_b[decode_png(png)]
            if old.shape == new.shape:
                changes.add(old.size, int((old != new).sum()))
            else:
                other_size += 1
    return changes, other_size


def _features(scored: dict[str, dict[str, Any]], num_classes: int) -> pa.Table:
    """Return what `item_features` would of these masks: ratios, and the means of the figures."""
    pixels = np.asarray([one["pixels"] for one in scored.values()], np.int64).reshape(-1, num_classes)
    ratios = pixels / np.maximum(pixels.sum(1, keepdims=True), 1)
    figures = {name: [_mean([frame[name] for frame in one["figures"]]) for one in scored.values()] for name in FIGURES}
    return pa.table(
        {
            "item_id": pa.array([*scored], pa.string()),
            **{name: pa.array(values, pa.float64()) for name, values in figures.items()},
            **{f"ratio.{k}": ratios[:, k] for k in range(num_classes)},
        }
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
