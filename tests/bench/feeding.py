"""How busy an actor keeps a simulated GPU, and what the actor and the driver cost for it.

    python -m tests.bench.feeding --rates 400,2000,5000 --forms plain,device

The decoded frames are in the object store before the start, so that the GPU waits only for the work of its actor. The
plain form gets normalised floats and returns scores of 803 KB a frame, as a model on CPUs does; the device form gets
the frames as they are and returns class maps of 262 KB, as on a card. On two cores the share says little above some
2,000 frames/s; the CPU milliseconds hold on any machine. The last line is JSON.
"""

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from fsf_core.model.bundle import variant_of
from fsf_core.model.bundle_files import load_bundle
from fsf_core.score import pipeline
from fsf_core.score.spec import BLOCK_ITEMS_SEPARATE
from fsf_core.stages import units
from tests.bench import meter, simulated_ray, sleeping_model
from tests.bench.inputs import null_model

BATCH_FRAMES = 128
SECONDS = 2
"""Of simulated work."""

MIN_FRAMES = 2_048
DISTINCT_BLOCKS = 2
FORMS = {"plain": sleeping_model.SleepingInfer, "device": sleeping_model.SleepingDevice}


def main() -> None:
    """Measure, and print a line per setting and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="400,2000,5000", help="frames/s of the simulated GPU")
    parser.add_argument("--calls", default="2", help="concurrent calls of the model")
    parser.add_argument("--forms", default="plain,device")
    parser.add_argument("--blocks", default=f"64,{BLOCK_ITEMS_SEPARATE}", help="frames of a block")
    parser.add_argument("--rounds", type=int, default=1, help="of all settings; the medians are reported")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fsf-feeding-"))
    simulated_ray.start(cpus=4, object_store_bytes=1_500_000_000)
    settings = [
        {"form": form, "block": int(block), "calls": int(calls), "gpu_frames_per_s": float(rate)}
        for form, rate, calls, block in itertools.product(
            given.forms.split(","), given.rates.split(","), given.calls.split(","), given.blocks.split(",")
        )
    ]
    try:
        bundle = null_model(home)
        rounds = [[feed(bundle, home, **setting) for setting in settings] for _ in range(given.rounds)]
    finally:
        ray.shutdown()
        shutil.rmtree(home)
    found = [
        setting | {name: round(statistics.median(one[name] for one in measured), 3) for name in measured[0]}
        for setting, measured in zip(settings, zip(*rounds, strict=True), strict=True)
    ]
    for row in found:
        print(row)
    print(json.dumps(found))


def feed(
    bundle_uri: Path, home: Path, *, form: str, block: int, calls: int, gpu_frames_per_s: float
) -> dict[str, float]:
    """Return the busy share of the simulated GPU, CPU milliseconds of actor and driver, and bytes in the store."""
    bundle = load_bundle(str(bundle_uri))
    pipeline.CONCURRENT_CALLS = calls
    count = max(MIN_FRAMES, int(SECONDS * gpu_frames_per_s)) // block
    times, spent = (Path(tempfile.mkdtemp(dir=home)) for _ in range(2))
    model: dict[str, Any] = {
        "bundle_uri": bundle.uri, "bundle_sha256": bundle.sha256, "variant": variant_of("fp32", fused=False),
        "provider": "cpu", "threads": 1, "batch_frames": BATCH_FRAMES, "seconds_per_frame": 1 / gpu_frames_per_s,
        "times": str(times), "spent": str(spent),
    }  # fmt: skip
    decoded = decoded_block(block)
    refs = [ray.put(decoded) for _ in range(DISTINCT_BLOCKS)]
    blocks = ray.data.from_arrow_refs([refs[at % DISTINCT_BLOCKS] for at in range(count)])
    scored = blocks.map_batches(
        FORMS[form], batch_size=None, batch_format="pyarrow", num_cpus=1, fn_constructor_kwargs=model,
        compute=pipeline.overlapping_pool(1, 1, 1),
    )  # fmt: skip
    started, out_bytes = time.process_time(), 0
    for bundled in scored.iter_internal_ref_bundles():
        out_bytes += bundled.size_bytes()
    driver_s = time.process_time() - started
    measured = {
        "busy": meter.steady_rate(times) / gpu_frames_per_s,
        "actor_ms_per_frame": 1e3 * sleeping_model.cpu_per_frame(spent),
        "driver_ms_per_block": 1e3 * driver_s / count,
        "store_bytes_per_frame": (decoded.nbytes * count + out_bytes) // (block * count),
    }
    print(form, block, calls, gpu_frames_per_s, measured, flush=True)
    return measured


def decoded_block(frames: int) -> pa.Table:
    """Return a block of images as the decode stage returns it."""
    rng = np.random.default_rng(0)
    frame = units.Frame(frame_index=0, pts_s=None, height_px=512, width_px=512)
    rows = [
        units.Unit(
            item_id=f"{n}", uri=f"{n}", frames=[frame], inputs_HWC=[rng.integers(0, 256, (224, 224, 3), np.uint8)]
        )
        for n in range(frames)
    ]
    return units.to_table(rows, extra=pa.schema([]))


if __name__ == "__main__":
    main()
