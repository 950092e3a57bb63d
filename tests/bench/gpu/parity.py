"""Step a: what the job's stages make of the same pictures on the card, and on the CPU's plain path, pixel by pixel.

Every difference is judged by how near a tie the CPU's probabilities are there, and every column of every table is
compared and must be filled as on the CPU.
"""

# N frames, K classes, H×W pixels

import itertools
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask
from fsf_core.stages.write import write
from tests.bench import stages
from tests.bench.gpu.setting import PRECISIONS, Letter, Setting, cores

NEAR_TIE = 1e-3
"""Difference of the two largest probabilities below which either class is right."""

TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2}
"""Of figures that are no counts of pixels; counts must be equal where class maps are."""

MIN_REGION_PX = 64
"""Masks as rough as noise have thousands of smaller regions."""

UNCOMPARED = {"run_id"}
PROBABILITY = "class_stats.mean_probability"
COUNTS = {"pixels", "ratio", "components", "largest_component_px"}


def run(setting: Setting, letter: Letter) -> dict[str, Any]:
    """Compare one model in both precisions; returns the figures of each."""
    home = setting.work / f"parity-{letter}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    manifest = home / "list.csv"
    pictures = [path for folder in (setting.inputs / "parity", setting.photos) if folder for path in folder.iterdir()]
    chosen = sorted(path for path in pictures if path.is_file())
    manifest.write_text("id,uri\n" + "".join(f"{path.parent.name}/{path.name},{path}\n" for path in chosen))
    bundle, options = (
        setting.bundle(letter),
        {"regions": True, "min_region_px": MIN_REGION_PX, "threads": cores(), "batch_frames": 32},
    )
    cpu = stages.specify(bundle, manifest, home / "cpu", gpu=False, precision="fp32", **options)
    decoded = pa.concat_tables(stages.decoded_tables(cpu, manifest)).combine_chunks()
    started = time.monotonic()
    probabilities = score(cpu, stages.open_model(cpu, "cpu"), decoded, keep=True)
    found: dict[str, Any] = {"pictures": len(chosen), "cpu_s": round(time.monotonic() - started, 1)}
    for precision in PRECISIONS:
        spec = stages.specify(bundle, manifest, home / precision, gpu=True, precision=precision, **options)
        infer = stages.open_model(spec, setting.provider)
        started = time.monotonic()
        score(spec, infer, decoded)
        seconds = round(time.monotonic() - started, 1)
        compared = compare(home / "cpu", home / precision, probabilities, tolerance=TOLERANCES[precision])
        found[precision] = {"variant": spec.variant, "seconds": seconds, **compared}
    shutil.rmtree(home)
    return found


def score(
    spec: PipelineSpec, infer: Infer, decoded: pa.Table, *, keep: bool = False
) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Infer, mask and write decoded units; returns the probabilities on the grid of every frame, if kept."""
    kept: dict[tuple[str, int], NDArray[np.float32]] = {}
    for inferred in infer(decoded):
        if keep:
            for unit, row in enumerate(inferred.select(["item_id", "frames"]).to_pylist()):
                logits = np.frombuffer(inferred.column("outputs")[unit].as_buffer(), np.float32)
                shape = (len(row["frames"]), spec.bundle.num_classes, *spec.bundle.signature.grid_hw)
                for frame, logits_KHW in zip(row["frames"], logits.reshape(shape), strict=True):
                    kept[row["item_id"], frame["frame_index"]] = masks.softmax(logits_KHW)
        write(mask(inferred, spec.mask), spec.write)
    return kept


def compare(
    cpu: Path, card: Path, probabilities: dict[tuple[str, int], NDArray[np.float32]], *, tolerance: float
) -> dict[str, Any]:
    """Compare the tables of two runs over the same pictures.

    Args:
        cpu: folder of the reference.
        card: folder of what is compared with it.
        probabilities: of the reference on the network's grid, by item and frame.
        tolerance: largest difference of figures that are no counts of pixels.
    """
    expected, found = stages.tables_of(cpu), stages.tables_of(card)
    maps = _compare_maps(expected["masks"], found["masks"], probabilities)
    columns = _compare_columns(expected, found, maps.pop("same"), tolerance)
    return {**maps, **columns}


def _compare_maps(
    expected: pa.Table, found: pa.Table, probabilities: dict[tuple[str, int], NDArray[np.float32]]
) -> dict[str, Any]:
    """Compare the class maps of all frames; `same` has the items whose maps are equal."""
    keys = [_keys(table) for table in (expected, found)]
    if keys[0] != keys[1]:
        missing = sorted({*keys[0]} ^ {*keys[1]})[:5]
        return {"frames": len(keys[1]), "missing_frames": missing, "same": set(), "equal_share": 0.0}
    pixels = differing = near = 0
    largest_gap, worst, same = 0.0, 0.0, set()
    confusion: NDArray[np.int64] | None = None
    for key, before, after in zip(
        keys[0], expected.column("mask").to_pylist(), found.column("mask").to_pylist(), strict=True
    ):
        one, other = (masks.decode_png(image["bytes"]) for image in (before, after))
        scores_KHW = probabilities[key]
        classes = len(scores_KHW)
        cells = np.bincount(one.reshape(-1).astype(np.int64) * classes + other.reshape(-1), minlength=classes**2)
        confusion = cells if confusion is None else confusion + cells
        pixels += one.size
        apart = one != other
        count = int(apart.sum())
        if not count:
            same.add(key[0])
            continue
        gaps = _gaps(scores_KHW, apart)
        differing, near = differing + count, near + int((gaps <= NEAR_TIE).sum())
        largest_gap, worst = max(largest_gap, float(gaps.max())), max(worst, count / one.size)
    assert confusion is not None, "there are pictures"
    return {
        "frames": len(keys[0]),
        "pixels": pixels,
        "equal_share": 1 - differing / pixels,
        "differing": differing,
        "not_near_ties": differing - near,
        "largest_gap": round(largest_gap, 6),
        "worst_picture_share": round(worst, 6),
        "mean_iou": round(_mean_iou(confusion.reshape(classes, classes)), 6),
        "same": same,
    }


def _keys(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table.column("item_id").to_pylist(), table.column("frame_index").to_pylist(), strict=True))


def _gaps(probabilities_Khw: NDArray[np.float32], chosen_HW: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the difference of the two largest probabilities of the chosen pixels."""
    size = chosen_HW.shape[::-1]
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)[chosen_HW] for plane in probabilities_Khw]
    second, first = np.sort(np.stack(planes), axis=0)[-2:]
    return first - second


def _mean_iou(confusion_KK: NDArray[np.int64]) -> float:
    """Return the mean IoU over the classes that occur."""
    both, either = np.diag(confusion_KK), confusion_KK.sum(0) + confusion_KK.sum(1) - np.diag(confusion_KK)
    return float((both[either > 0] / either[either > 0]).mean())


def _compare_columns(
    expected: dict[str, pa.Table], found: dict[str, pa.Table], same: set[str], tolerance: float
) -> dict[str, Any]:
    """Compare values and nulls of all columns: of masks for all items, of other tables where class maps are equal."""
    off: dict[str, Any] = {}
    largest: dict[str, float] = {}
    compared = 0
    for name in sorted({*expected} | {*found}):
        if name not in expected or name not in found or expected[name].schema.names != found[name].schema.names:
            off[name] = "the tables have other columns, or one is missing"
            continue
        both = [tables[name] for tables in (expected, found)]
        chosen = (
            [table.drop_columns(["mask"]) for table in both]
            if name == "masks"
            else [_of(table, same) for table in both]
        )
        if len(chosen[0]) != len(chosen[1]):
            off[name] = f"{len(chosen[0])} and {len(chosen[1])} rows"
            continue
        for column in (each for each in chosen[0].schema.names if each not in UNCOMPARED):
            compared += 1
            label = f"{name}.{column}"
            before, after = (table.column(column) for table in chosen)
            if label == PROBABILITY and len(both[0]) == len(both[1]):
                # Of all items: where pixels differ, classes do, and hardly their probabilities.
                largest[label] = round(_largest_difference(*(table.column(column) for table in both)), 6)
            elif pa.types.is_floating(before.type) and column not in COUNTS:
                largest[label] = round(_largest_difference(before, after), 6)
            if reason := _reason(before, after, largest.get(label), tolerance):
                off[label] = reason
    return {"columns": compared, "items_with_equal_maps": len(same), "columns_off": off, "largest_differences": largest}


def _reason(before: pa.ChunkedArray, after: pa.ChunkedArray, largest: float | None, tolerance: float) -> str:
    """Return in what two columns differ, or nothing; numbers may differ by the tolerance."""
    if not before.is_valid().equals(after.is_valid()):
        return f"{before.null_count} and {after.null_count} nulls"
    if largest is not None:
        return f"values differ by up to {largest:.3g}" if largest > tolerance else ""
    return "" if before.equals(after) else f"{_unequal(before, after)} of {len(before)} values differ"


def _of(table: pa.Table, items: set[str]) -> pa.Table:
    return table.filter(pc.is_in(table.column("item_id"), pa.array(sorted(items), pa.string()))).combine_chunks()


def _largest_difference(before: pa.ChunkedArray, after: pa.ChunkedArray) -> float:
    """Return the largest difference of values that neither side lacks."""
    one, other = (np.asarray(column.to_numpy(), np.float64) for column in (before, after))
    return float(np.nanmax(np.abs(one - other), initial=0.0))


def _unequal(before: pa.ChunkedArray, after: pa.ChunkedArray) -> int:
    pairs = itertools.zip_longest(before.to_pylist(), after.to_pylist())
    return sum(one != other for one, other in pairs)
