"""Peak memory and time of pictures scored in windows, at several sizes, beside a loop that holds the whole picture.

    python -m tests.bench.bench_tiles                  100, 400 and 900 megapixels, and the loop at 100
    python -m tests.bench.bench_tiles 100 --whole 100 400 --keep DIR

The pictures are tiled TIFFs in Deflate, written in strips. The model is a null model, 4 classes by the brightness of
cells of 8×8 pixels in windows of 512×512 with 64 of overlap, so that what is measured is everything else: reading,
masks, blending, counting, writing. Each measurement is a process of its own, of one thread. The loop is what a script
does: decode, add softmax by weight into an array of all classes, take the largest. The last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.bench.meter import machine

ROOT = Path(__file__).parents[2]
WINDOW_PX, OVERLAP_PX, CELL_PX, CLASSES = 512, 64, 8, 4
LEVELS = np.float32([40, 100, 150, 220])[:, None, None]


def main() -> None:
    """Make the pictures and measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megapixels", nargs="*", type=int, default=[100, 400, 900])
    parser.add_argument("--whole", nargs="*", type=int, default=[100], help="sizes at which the loop is measured too")
    parser.add_argument("--keep", type=Path, help="folder for pictures and masks (default: removed at the end)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(_measured(given.child[0], Path(given.child[1]))))
        return
    print(machine())
    with tempfile.TemporaryDirectory(prefix="fsf-tiles-") as temporary:
        home = given.keep or Path(temporary)
        found = [_child(how, _picture(home, size)) for size in given.megapixels for how in ("tiled", "whole")
                 if how == "tiled" or size in given.whole]  # fmt: skip
    print(json.dumps(found))


def _picture(home: Path, megapixels: int) -> Path:
    """Write a square picture of shaded hills, in strips; return its path."""
    import rasterio

    path, side = home / f"{megapixels}.tif", round((megapixels * 1e6) ** 0.5)
    if path.exists():
        return path
    rng = np.random.default_rng(1)
    hills = cv2.resize(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8), (side, 4096), interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(0, 12, (512, side, 1), dtype=np.uint8)
    form = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "blockxsize": 512, "blockysize": 512}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)}
    with rasterio.open(path, "w", **form, **place, height=side, width=side, compress="deflate", zlevel=1) as file:
        for top in range(0, side, 512):
            height = min(512, side - top)
            at = top % 4096
            strip = np.clip(hills[at : at + height].astype(int) * 0.9 + grain[:height], 0, 255).astype(np.uint8)
            strip = np.pad(strip, ((0, height - len(strip)), (0, 0), (0, 0)), mode="edge")
            file.write(strip.transpose(2, 0, 1), window=rasterio.windows.Window(0, top, side, height))
    return path


def _child(how: str, path: Path) -> dict[str, Any]:
    """Measure in a process of its own, and print what was found."""
    words = [sys.executable, "-m", "tests.bench.bench_tiles", "--child", how, str(path)]
    output = subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    found = {"how": how, "megapixels": int(path.stem), **json.loads(output.splitlines()[-1])}
    print(found, flush=True)
    return found


def _measured(how: str, path: Path) -> dict[str, Any]:
    """Score a picture in this process."""
    cv2.setNumThreads(1)
    _warm_up()
    idle_mb, started, cpu_s = _peak_mb(), time.monotonic(), time.process_time()
    counted = (_tiled if how == "tiled" else _whole)(path)
    return {
        "pixels": counted,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_s, 1),
        "peak_mb": _peak_mb(),
        "of_imports_mb": idle_mb,
        "picture_mb": round(path.stat().st_size / 1e6),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _warm_up() -> None:
    """Load everything before the measurement begins."""
    from fsf_core.masks import compile_kernels
    from fsf_core.stages import tiles

    assert tiles
    compile_kernels()


def null_scores(input_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return logits on the grid: how near the brightness of a cell is to the level of each class."""
    grid = (input_HWC.shape[1] // CELL_PX, input_HWC.shape[0] // CELL_PX)
    cells_hw = cv2.resize(input_HWC, grid, interpolation=cv2.INTER_AREA).mean(axis=2, dtype=np.float32)
    return -np.abs(cells_hw[None] - LEVELS) / 16


def _tiled(path: Path) -> list[int]:
    """Score with the stage; returns the pixels of each class."""
    from fsf_core import masks, runs, storage
    from fsf_core.media.images import ImageLimits
    from fsf_core.model.profile import Profile
    from fsf_core.stages import units
    from fsf_core.stages.decode_settings import DecodeSettings
    from fsf_core.stages.mask import MaskSettings
    from fsf_core.stages.tiles import TileSettings, score_tiled

    profile = Profile(
        name="null", height_px=WINDOW_PX, width_px=WINDOW_PX, mode="stretch", interpolation="linear", honour_exif=True
    )
    grid_px = WINDOW_PX // CELL_PX
    limits = ImageLimits(max_pixels=1)
    staging = runs.Staging(run_uri=str(path.with_suffix(".run")), number=1)
    Path(staging.folder).mkdir(parents=True, exist_ok=True)
    decode = DecodeSettings(
        profile=profile, limits=limits, extra=pa.schema([]), segment_frames=1, overlays=True,
        access=storage.Access(schemes=("file",)),
    )  # fmt: skip
    mask = MaskSettings(
        profile=profile, num_classes=CLASSES, palette_K3=masks.voc_palette(CLASSES), grid_hw=(grid_px, grid_px),
        mask_size="original", limits=limits, clear_background=False, min_region_px=100,
    )  # fmt: skip

    def infer(table: pa.Table) -> Iterator[pa.Table]:
        inputs = units.as_array(table.column("inputs"), np.uint8, (WINDOW_PX, WINDOW_PX, 3))
        outputs = units.stack([null_scores(each) for each in inputs], units.frame_counts(table))
        yield table.drop_columns(["inputs"]).append_column("outputs", outputs)

    row = pa.table(
        {
            "item_id": [path.name], "uri": [str(path)], "kind": pa.array(["image"]),
            "row_digest": pa.nulls(1, pa.binary(8)), "attempt": pa.array([1], pa.int32()),
            "done_segments": pa.nulls(1, pa.list_(pa.int32())),
        }
    )  # fmt: skip
    settings = TileSettings(overlap_px=OVERLAP_PX, batch_frames=4, decode=decode, mask=mask, staging=staging)
    [table] = score_tiled(row, infer, settings)
    [done] = table.to_pylist()
    assert done["error_type"] is None, done["error_message"]
    path.with_suffix(".jpg").write_bytes(done["overlays"][0])
    return list(done["pixels"])


def _whole(path: Path) -> list[int]:
    """Score with a loop that holds the picture and the sums of all of its classes."""
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(1 << 40)
    image_HWC = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = image_HWC.shape[:2]
    sums_KHW = np.zeros((CLASSES, height, width), np.float32)
    counts_HW = np.zeros((height, width), np.float32)
    ramp = np.minimum(np.arange(WINDOW_PX) + 1, np.arange(WINDOW_PX, 0, -1)).clip(max=OVERLAP_PX).astype(np.float32)
    weights_HW = ramp[:, None] * ramp / OVERLAP_PX**2
    step = WINDOW_PX - OVERLAP_PX
    for top in (*range(0, height - WINDOW_PX, step), height - WINDOW_PX):
        for left in (*range(0, width - WINDOW_PX, step), width - WINDOW_PX):
            place = (slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX))
            scores_Khw = null_scores(image_HWC[place])
            powers_Khw = np.exp(scores_Khw - scores_Khw.max(0))
            probabilities_Khw = powers_Khw / powers_Khw.sum(0)
            for k, plane_hw in enumerate(probabilities_Khw):
                sums_KHW[k][place] += cv2.resize(plane_hw, (WINDOW_PX, WINDOW_PX)) * weights_HW
            counts_HW[place] += weights_HW
    sums_KHW /= counts_HW
    class_map_HW = sums_KHW.argmax(0).astype(np.uint8)
    cv2.imwrite(str(path.with_suffix(".mask.tif")), class_map_HW)
    return [int(count) for count in np.bincount(class_map_HW.reshape(-1), minlength=CLASSES)]


if __name__ == "__main__":
    main()
