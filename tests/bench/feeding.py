"""How busy an actor keeps a simulated GPU, by the number of model calls it has in flight.

    python -m tests.bench.feeding

The decoded frames are in the object store before the start, so that the GPU waits only for the work of its actor: to
fetch blocks, normalise them, and hand over logits. The last line is JSON.
"""

import argparse
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from fsf_core.model.bundle import variant_of
from fsf_core.model.bundle_files import load_bundle
from fsf_core.score import pipeline
from fsf_core.stages import units
from tests.bench import meter, sleeping_model
from tests.bench.inputs import null_model

BATCH_FRAMES = 32
FRAMES = 1_920


def main() -> None:
    """Measure, and print a line per setting and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="100,200,400", help="frames/s of the simulated GPU")
    parser.add_argument("--calls", default="1,2")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fsf-feeding-"))
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        bundle = null_model(home)
        found = [
            {"calls": calls, "gpu_frames_per_s": rate, "busy": busy(bundle, home, calls=calls, frames_per_s=rate)}
            for rate in map(float, given.rates.split(","))
            for calls in map(int, given.calls.split(","))
        ]
    finally:
        ray.shutdown()
        shutil.rmtree(home)
    for row in found:
        print(f"a GPU of {row['gpu_frames_per_s']:g} frames/s, {row['calls']} calls in flight: busy {row['busy']:.0%}")
    print(json.dumps(found))


def busy(bundle_uri: Path, home: Path, *, calls: int, frames_per_s: float) -> float:
    """Return the share of the time between the first and the last logits in which the simulated GPU was busy."""
    bundle = load_bundle(str(bundle_uri))
    pipeline.CONCURRENT_CALLS = calls
    block = decoded_block()
    count = FRAMES // BATCH_FRAMES
    times = home / f"times-{calls}-{frames_per_s:g}"
    model: dict[str, Any] = {
        "bundle_uri": bundle.uri, "bundle_sha256": bundle.sha256, "variant": variant_of("fp32", fused=False),
        "provider": "cpu", "threads": 1, "batch_frames": BATCH_FRAMES, "seconds_per_frame": 1 / frames_per_s,
        "times": str(times),
    }  # fmt: skip
    blocks = ray.data.from_arrow_refs([ray.put(block) for _ in range(count)])
    scored = blocks.map_batches(
        sleeping_model.SleepingInfer, batch_size=None, batch_format="pyarrow",
        compute=pipeline.overlapping_pool(1, 1, 1), num_cpus=1, fn_constructor_kwargs=model,
    )  # fmt: skip
    for _ in scored.iter_internal_ref_bundles():
        pass
    return meter.steady_rate(times) / frames_per_s


def decoded_block() -> pa.Table:
    """Return a block of images as the decode stage returns it."""
    rng = np.random.default_rng(0)
    frame = units.Frame(frame_index=0, pts_s=None, height_px=512, width_px=512)
    rows = [
        units.Unit(
            item_id=f"{n}", uri=f"{n}", frames=[frame], inputs_HWC=[rng.integers(0, 256, (224, 224, 3), np.uint8)]
        )
        for n in range(BATCH_FRAMES)
    ]
    return units.to_table(rows, extra=pa.schema([]))


if __name__ == "__main__":
    main()
