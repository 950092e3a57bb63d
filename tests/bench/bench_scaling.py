"""How the job scales: with 1 to 16 simulated actors, and with 1,000 to 100,000 items (1,000,000 with --million).

    python -m tests.bench.bench_scaling

An actor sleeps for as long as a GPU would compute (tests/bench/sleeping_model.py), so that 16 of them fit on 2 cores if
the rest of the job does. The null model and small images show the fixed cost of an item. The driver is the process that
was started; Ray's own processes are raylet and gcs. The object store is part of the raylet: its peak is the growth of
/dev/shm. The last line is JSON.
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


def main() -> None:
    """Measure, and print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of each run, including the start of its actors"
    )
    parser.add_argument("--actors", default=",".join(map(str, ACTORS)))
    parser.add_argument("--items", default=",".join(map(str, ITEMS)))
    parser.add_argument("--million", action="store_true")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fsf-scaling-"))
    try:
        images = draw(home / "images", frames=40, height_px=128, width_px=128)
        counts = [int(word) for word in given.actors.split(",") if word]
        items = [int(word) for word in given.items.split(",") if word] + [1_000_000] * given.million
        found = {
            "actors": [_with_actors(count, given.seconds, images, home) for count in counts],
            "items": [_with_items(count, images, home) for count in items],
        }
    finally:
        shutil.rmtree(home)
    for name, rows in found.items():
        if rows:
            print(f"\n{name}")
            print("  " + "".join(f"{key:>22}" for key in rows[0]))
            for row in rows:
                print("  " + "".join(f"{value:>22,}" for value in row.values()))
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
        "all_cores": round((reading.cpu_at(end) - reading.cpu_at(begin)) / span, 2),
        "object_store_mb": round(reading.peak_shm_mb),
        "peak_mb": round(reading.peak_mb),
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
        "object_store_mb": round(reading.peak_shm_mb),
        "peak_mb": round(reading.peak_mb),
    }


if __name__ == "__main__":
    main()
