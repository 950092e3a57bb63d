"""What Ray lets a node of 16 CPUs and one GPU do: the job's operators with sleeping stages, on any machine.

    python -m tests.bench.scheduling rate=2000 block=512,consumers=21,per=1,last=32,limit=16

The stages take time and no CPU, so that the driver, the raylet and the workers have the machine. Reports the share of
the simulated GPU's time in which it was busy, and CPU milliseconds per decode task and per frame. A first run, which
starts the workers, does not count. The last line is JSON.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import ray

from fsf_core.score import pipeline
from fsf_core.score.cluster import KEEP_WORKERS
from fsf_core.score.local_ray import patches
from fsf_core.score.local_ray.patches import patched_ray_data
from fsf_core.score.partition import BlockLimits, block_sizes, pack_task
from tests.bench import meter, simulated_ray, sleeping_stages

CPUS = 16
DEFAULTS: dict[str, float] = {
    "rate": 5000, "block": 64, "consumers": 1, "per": 4, "last": 8, "flight": 2, "part": 64, "writers": 2, "limit": 0,
    "gather": 50,
}  # fmt: skip
"""What a variant does not name: frames/s of the GPU, maximum images of a block, consumers, blocks per consumer and
images of the last blocks (see BlockLimits), blocks in flight per call, units of a part, writers, CPUs that Ray Data
uses (0: all), milliseconds that the driver gathers results for."""

SECONDS = 8
"""Of simulated work."""


def main() -> None:
    """Measure, and print a line per setting and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="+", help="settings by name: rate=5000,block=256,limit=16")
    parser.add_argument("--cpus", type=int, default=CPUS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--input-bytes", type=int, default=64)
    parser.add_argument("--output-bytes", type=int, default=64)
    given = parser.parse_args()
    chosen = [settings_of(variant) for variant in ("block=64", *given.variants)]
    home = Path(tempfile.mkdtemp(prefix="fsf-sched-"))
    context = simulated_ray.start(
        cpus=given.cpus, object_store_bytes=2_000_000_000, num_gpus=1, _system_config=dict(KEEP_WORKERS)
    )
    found = []
    try:
        for settings in chosen:
            pipeline.BLOCKS_IN_FLIGHT = int(settings["flight"])
            patches.READY_GATHER_S = settings["gather"] / 1e3
            limits = {"cpu": settings["limit"]} if settings["limit"] else {}
            context.execution_options.resource_limits = ray.data.ExecutionResources(**limits)
            found.append(run(home, given, settings))
            print(settings, found[-1], flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(home)
    print(json.dumps(found[1:]))


def settings_of(variant: str) -> dict[str, float]:
    """Return the settings of a variant, such as "rate=5000,block=256".

    Raises:
        SystemExit: it names another setting.
    """
    named = {name: float(value) for name, _, value in (each.partition("=") for each in variant.split(","))}
    if unknown := named.keys() - DEFAULTS.keys():
        sys.exit(f"{variant} sets {', '.join(sorted(unknown))}, expected some of {', '.join(DEFAULTS)}")
    return DEFAULTS | named


def run(home: Path, given: Any, chosen: dict[str, float]) -> dict[str, Any]:
    """Run the operators on as many rows as the GPU takes seconds for."""
    frames_per_s, block_items = chosen["rate"], int(chosen["block"])
    costs = sleeping_stages.Costs(
        decode_ms=1.3, mask_ms=0.85, write_ms=0.3, infer_ms=1e3 / frames_per_s, input_bytes=given.input_bytes,
        output_bytes=given.output_bytes,
    )  # fmt: skip
    limits = BlockLimits(
        max_items=block_items, consumers=int(chosen["consumers"]), blocks_per_consumer=int(chosen["per"]),
        last_items=int(chosen["last"]),
    )  # fmt: skip
    frames = int(frames_per_s * given.seconds)
    times = home / f"{time.time():.2f}"
    sizes = block_sizes(frames, limits)
    tasks = [pack_task(pa.table({"item_id": [f"{n}" for n in range(size)]})) for size in sizes]
    pipeline.measured = SimpleNamespace(
        decode=sleeping_stages.decode, Infer=sleeping_stages.Infer, mask=sleeping_stages.mask
    )
    spec: Any = SimpleNamespace(
        gpus=1.0, actors=1, min_actors=1, asked_actors=1, owns_cluster=True, separate_stages=True,
        block_items=block_items, decode=costs, child=None, mask=costs, model={"costs": costs, "times": str(times)},
    )  # fmt: skip
    started, begun = time.perf_counter(), time.time()
    before, raylet, workers = time.process_time(), _ray_cpu(), _worker_cpu()
    with patched_ray_data():
        masked = pipeline.separate_operators(tasks, spec, None)
        masked.write_datasink(
            sleeping_stages.Sink(costs, int(chosen["part"])),
            ray_remote_args={"num_cpus": pipeline.WRITE_CPUS},
            concurrency=int(chosen["writers"]),
        )
    driver_s, ray_s, wall_s = time.process_time() - before, _ray_cpu() - raylet, time.perf_counter() - started
    worker_s = [now - then for now, then in zip(_worker_cpu(), workers, strict=True)]
    rate = meter.steady_rate(times)
    cpu_s = {"driver": driver_s, "raylet": ray_s, "worker": worker_s[0], "actor": worker_s[1]}
    return {
        "frames": frames,
        "tasks": len(tasks),
        "busy": round(rate / frames_per_s, 3),
        "frames_per_s": round(rate),
        **{f"{name}_ms_per_block": round(1e3 * seconds / len(tasks), 2) for name, seconds in cpu_s.items()},
        "cpu_ms_per_frame": round(1e3 * sum(cpu_s.values()) / frames, 3),
        "driver_share": round(driver_s / wall_s, 2),
        "first_s": round(min(float(path.read_text().split()[0]) for path in times.iterdir()) - begun, 2),
        "seconds": round(wall_s, 1),
    }


def _cmd(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _worker_cpu() -> tuple[float, float]:
    """Return the CPU seconds of all workers and of the actor."""
    workers = [0.0, 0.0]
    for process in psutil.Process().children(recursive=True):
        command = _cmd(process)
        if "ray::" in command and "Agent" not in command:
            with contextlib.suppress(psutil.Error):
                workers["MapWorker" in command] += sum(process.cpu_times()[:2])
    return workers[0], workers[1]


def _ray_cpu() -> float:
    """Return the CPU seconds of raylet and GCS."""
    processes = psutil.Process().children(recursive=True)
    return sum(sum(each.cpu_times()[:2]) for each in processes if each.name() in ("raylet", "gcs_server"))


if __name__ == "__main__":
    main()
