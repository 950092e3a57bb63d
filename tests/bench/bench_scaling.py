"""How the job scales: with 1 to 64 simulated actors, and with 1,000 to 100,000 items (1,000,000 with --million).

    python -m tests.bench.bench_scaling
    python -m tests.bench.bench_scaling --only blocks --forms stages --block-actors 16

`actors`: the job, whose model sleeps for as long as a GPU would compute (tests/bench/sleeping_model.py), so that 16 of
them fit on 2 cores if the rest of the job does. `items`: the null model and small images show the fixed cost of an
item. `blocks`: what a block costs driver, tracker and Ray in every form of the pipeline, with stages that do nothing
but report (tests/bench/sleeping_job.py), so that 64 actors fit; in the last 60 % of the time in which all actors work,
when no process starts any more. Memory is private: what is resident without files and shared memory. The driver is the
process that was started; Ray's own processes are raylet and gcs. The object store is part of the raylet: its peak is
the growth of /dev/shm. The last line is JSON.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from fsf_core import bench
from tests.bench import meter
from tests.bench.competitors import score_command
from tests.bench.inputs import draw, null_model, write_manifest

ACTORS = (1, 2, 4, 8, 16)
FRAMES_PER_S = 6.0
"""Rate of one simulated actor: at 10 ms per frame, 16 of them keep two cores half busy."""

ITEMS = (1_000, 10_000, 100_000)

BLOCK_ACTORS = (1, 4, 16, 64)
BLOCK_ITEMS = {"operator": 64, "stages": 512, "joined": 512}
"""Images of a block in every form."""

BLOCKS_PER_S, BLOCKS = 16.0, 320
"""Of all actors together, which leaves most of two cores idle; and the full blocks of a run."""

SETTLED = 0.6
"""Share of the time in which all actors work that counts."""


def main() -> None:
    """Measure, and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of each run, including the start of its actors"
    )
    parser.add_argument("--actors", default=",".join(map(str, ACTORS)))
    parser.add_argument("--items", default=",".join(map(str, ITEMS)))
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--block-actors", default=",".join(map(str, BLOCK_ACTORS)))
    parser.add_argument("--forms", default=",".join(BLOCK_ITEMS))
    parser.add_argument("--only", default="actors,items,blocks", help="tables")
    given = parser.parse_args()
    tables = given.only.split(",")
    home = Path(tempfile.mkdtemp(prefix="fsf-scaling-"))
    try:
        images = draw(home / "images", frames=40, height_px=128, width_px=128)
        counts = [int(word) for word in given.actors.split(",") if word]
        items = [int(word) for word in given.items.split(",") if word] + [1_000_000] * given.million
        found = {
            "actors": [_with_actors(count, given.seconds, images, home) for count in counts if "actors" in tables],
            "items": [_with_items(count, images, home) for count in items if "items" in tables],
            "blocks": [
                _with_blocks(form, int(count), home)
                for form in given.forms.split(",")
                for count in given.block_actors.split(",")
                if "blocks" in tables
            ],
        }
    finally:
        shutil.rmtree(home)
    for name, rows in found.items():
        if rows:
            print(f"\n{name}")
            print("  " + "".join(f"{key:>22}" for key in rows[0]))
            for row in rows:
                shown = (value if isinstance(value, str) else f"{value:,}" for value in row.values())
                print("  " + "".join(f"{value:>22}" for value in shown))
    print(json.dumps(found))


def _with_actors(actors: int, seconds: float, images: Path, home: Path) -> dict[str, Any]:
    """Run the job with a number of simulated actors, and return the figures."""
    frames = int(actors * FRAMES_PER_S * seconds)
    out, manifest = home / f"actors-{actors}", write_manifest(images, home / f"actors-{actors}.csv", frames)
    times = home / f"times-{actors}"
    options = score_command(null_model(home), manifest, out, "--batch-frames", "4")[3:]
    sleeping = [sys.executable, "-m", "tests.bench.sleeping_model", str(times), str(actors), str(1 / FRAMES_PER_S)]
    reading = meter.run([*sleeping, *options])
    shutil.rmtree(out)
    begin, end = meter.common_span(times)
    steady, span = meter.steady_rate(times), end - begin
    return {
        "actors": actors,
        "frames_per_s": round(steady, 1),
        "of_the_ideal": round(steady / (actors * FRAMES_PER_S), 3),
        "seconds_together": round(span, 1),
        "driver_cores": round(reading.between("driver", begin, end) / span, 3),
        "raylet_and_gcs_cores": round(reading.between("ray", begin, end) / span, 3),
        "tracker_cores": round(reading.between("tracker", begin, end) / span, 3),
        "all_cores": round((reading.cpu_at(end) - reading.cpu_at(begin)) / span, 2),
        "object_store_mb": round(reading.peak_shm_mb),
        "peak_mb": round(reading.peak_mb),
    }


def _with_blocks(form: str, actors: int, home: Path) -> dict[str, Any]:
    """Hand out blocks that do nothing to a number of actors, and return the figures."""
    block_items, times = BLOCK_ITEMS[form], home / f"blocks-{form}-{actors}"
    words = [form, actors, BLOCKS * block_items, block_items, actors / BLOCKS_PER_S]
    reading = meter.run([sys.executable, "-m", "tests.bench.sleeping_job", str(times), *map(str, words)])
    first, end = meter.common_span(times)
    begin = end - SETTLED * (end - first)
    span, blocks = end - begin, meter.count_records(times, begin, end)
    growth_mb = reading.memory_at("driver", end) - reading.memory_at("driver", begin)
    return {
        "form": form,
        "actors": actors,
        "blocks_per_s": round(blocks / span, 2),
        "first_s": round(first - reading.started, 1),
        **{f"{role}_ms": round(1e3 * reading.between(role, begin, end) / blocks, 2) for role in reading.by_role},
        "driver_mb": round(reading.memory_at("driver", begin)),
        "driver_kb_a_block": round(1024 * growth_mb / blocks, 1),
        "gcs_mb": round(reading.memory_at("gcs", begin)),
        "worker_mb": round(reading.memory_at("workers", begin) / actors),
        "object_store_mb": round(reading.peak_shm_mb),
    }


def _with_items(items: int, images: Path, home: Path) -> dict[str, Any]:
    """Run the null model over a number of items, and return the figures."""
    out, manifest = home / f"items-{items}", write_manifest(images, home / f"items-{items}.csv", items)
    reading = meter.run(score_command(null_model(home), manifest, out))
    summary = json.loads(reading.stdout.splitlines()[-1])
    done = bench.commits(str(out))
    start, end = done[len(done) // 3][0], done[-1][0]
    frames = sum(number for moment, number in done if moment > start)
    shutil.rmtree(out)
    return {
        "items": items,
        "seconds": summary["seconds"],
        "cpu_ms_per_frame": round(1e3 * (reading.cpu_at(end) - reading.cpu_at(start)) / frames, 3),
        "driver_ms_per_frame": round(1e3 * reading.between("driver", start, end) / frames, 3),
        "cpu_ms_per_frame_whole": round(1e3 * reading.cpu_s[-1] / items, 3),
        "parts": len(done),
        "driver_mb": round(reading.memory_at("driver", end)),
        "gcs_mb": round(reading.memory_at("gcs", end)),
        "object_store_mb": round(reading.peak_shm_mb),
        "peak_mb": round(reading.peak_mb),
    }


if __name__ == "__main__":
    main()
