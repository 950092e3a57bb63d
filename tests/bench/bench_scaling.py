"""How the job grows: over 1 to 16 simulated actors, and over 1,000 to 100,000 items (1,000,000 with --million).

    python -m tests.bench.bench_scaling

An actor sleeps as a GPU would compute (tests/bench/sleepy.py), so that 16 of them fit on 2 cores as long as the rest of
the job does. The null model and small pictures show what an item costs where nothing else does. The driver is the
process that was started; Ray's own are raylet and gcs, and the object store lives inside the raylet: the largest sum of
its objects is what /dev/shm grew by. The last line is JSON.
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
from tests.bench.competitors import score_words
from tests.bench.inputs import draw, listed, null_model

ACTORS = (1, 2, 4, 8, 16)
FRAMES_PER_S = 6.0
"""Of one simulated actor: 16 of them then keep two cores half busy at 10 ms a frame."""

ITEMS = (1_000, 10_000, 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of each number of actors; actors that start take of it"
    )
    parser.add_argument("--actors", default=",".join(map(str, ACTORS)))
    parser.add_argument("--items", default=",".join(map(str, ITEMS)))
    parser.add_argument("--million", action="store_true")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="fsf-scaling-"))
    try:
        pictures = draw(home / "pictures", frames=40, height_px=128, width_px=128)
        counts = [int(word) for word in given.actors.split(",") if word]
        items = [int(word) for word in given.items.split(",") if word] + [1_000_000] * given.million
        found = {
            "actors": [_with_actors(count, given.seconds, pictures, home) for count in counts],
            "items": [_with_items(count, pictures, home) for count in items],
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


def _with_actors(actors: int, seconds: float, pictures: Path, home: Path) -> dict[str, Any]:
    """One number of simulated actors."""
    frames = int(actors * FRAMES_PER_S * seconds)
    out, manifest = home / f"actors-{actors}", listed(pictures, home / f"actors-{actors}.csv", frames)
    times = home / f"times-{actors}"
    words = score_words(null_model(home), manifest, out, "--batch-frames", "4")[3:]
    sleepy = [sys.executable, "-m", "tests.bench.sleeping_model", str(times), str(actors), str(1 / FRAMES_PER_S)]
    reading = meter.run([*sleepy, *words])
    shutil.rmtree(out)
    begin, end = meter.together(times)
    steady, span = meter.steady(times), end - begin
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


def _with_items(items: int, pictures: Path, home: Path) -> dict[str, Any]:
    """One length of the manifest through the null model."""
    out, manifest = home / f"items-{items}", listed(pictures, home / f"items-{items}.csv", items)
    reading = meter.run(score_words(null_model(home), manifest, out))
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
