"""How long a list of millions takes to begin, and what it costs: `python -m tests.bench.bench_manifest`.

Writes a Parquet list, then runs what the score job does before its first block: reading, checking, settling what is
pending, and cutting the first wave into blocks. No model and no Ray: those cost the same whatever the list.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from fsf_core import runs
from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.score import job
from fsf_core.score.partition import plan_decode_tasks
from fsf_core.stages.decode_row import DecodeSettings

BATCH = 1_000_000


def main() -> None:
    """Print seconds and peak memory of every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the list is kept; without it, a temporary folder")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = (words.folder or Path(folder)) / f"list-{words.rows}.parquet"
        if not path.exists():
            _write(path, words.rows)
        print(f"{words.rows:,} rows, {path.stat().st_size >> 20} MiB, {_peak_mib()} MiB before")
        nothing = runs.completed(str(Path(folder) / "run"))
        with _timed("read and check"):
            manifest = open_manifest(str(path))
        with _timed("what is pending"):
            pending = manifest.items - job._done_items(manifest, nothing)
        with _timed("first wave in blocks"):
            wave = next(job._waves(job._pending_rows(manifest, nothing, {})))
            settings = DecodeSettings(
                profile=preprocess.PROFILES["fastsegformer"], limits=images.ImageLimits(), extra=manifest.extra,
                segment_frames=64, overlays=False, schemes=("s3",),
            )  # fmt: skip
            blocks = plan_decode_tasks(wave, settings, consumers=2, item_s=120.0, block_items=256)
        print(f"{pending:,} pending, {wave.num_rows:,} rows in {len(blocks):,} blocks")


def _write(path: Path, rows: int) -> None:
    schema = pa.schema([("id", pa.string()), ("uri", pa.string()), ("day", pa.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, BATCH):
            numbers = range(start, min(rows, start + BATCH))
            ids = [f"orchard-{number % 97:02d}/{number:09d}" for number in numbers]
            uris = [f"s3://orchards/photos/{name}.jpg" for name in ids]
            writer.write_table(pa.table([ids, uris, ["2026-11-22"] * len(ids)], schema=schema))


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun, cpu = time.monotonic(), time.process_time()
    yield
    spent, worked = time.monotonic() - begun, time.process_time() - cpu
    print(f"{what}: {spent:.1f} s ({worked:.1f} s of CPU), peak {_peak_mib()} MiB", flush=True)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
