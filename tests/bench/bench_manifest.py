"""Time and memory that a manifest of millions takes before its first item.

Writes a Parquet list, sorted by 15 days, as one file or as a folder of days; then runs what the score job does before
its first block: read and check the list, count the pending items, cut the first group into blocks. Without model and
Ray, which cost the same for every list. `--where "day == '2026-11-07'"` chooses a fifteenth.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from fsf_core import runs, storage
from fsf_core.manifest import Selection, open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.score import job
from fsf_core.score.partition import BlockLimits, executions, plan_decode_tasks
from fsf_core.stages.decode_settings import DecodeSettings

DAYS = 15
BATCH = 200_000
ROW_GROUP_ROWS = 122_880
"""As DuckDB writes them."""


def main() -> None:
    """Print seconds and peak memory of every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the list is kept; without it, a temporary folder")
    parser.add_argument("--by-day", action="store_true", help="a folder day=… for every day instead of one file")
    parser.add_argument("--where", help="a condition on id, uri, day and size")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        name = f"list-{options.rows}" + ("" if options.by_day else ".parquet")
        path = (options.folder or Path(folder)) / name
        if not path.exists():
            _write(path, options.rows, by_day=options.by_day)
        print(f"{options.rows:,} rows, {_peak_mib()} MiB before")
        none_done = runs.find_completed(runs.load_ledger(str(Path(folder) / "run")))
        with _timed("read and check"):
            manifest = open_manifest(str(path), Selection(where=options.where))
        with _timed("read again"):
            assert sum(batch.num_rows for batch in manifest.batches()) == manifest.items
        with _timed("count the pending"):
            pending = manifest.items - job._count_done(manifest, none_done)
        with _timed("first group in blocks"):
            group = next(executions(job._pending_items(manifest, none_done, {})))
            settings = DecodeSettings(
                profile=preprocess.PROFILES["fastsegformer"], limits=images.ImageLimits(), extra=manifest.extra,
                segment_frames=64, overlays=False, access=storage.Access(schemes=("s3",)),
            )  # fmt: skip
            blocks = plan_decode_tasks(group, settings, item_s=120.0, blocks=BlockLimits(max_items=256, consumers=2))
        rows, size_bytes = sum(block.rows for block in blocks), sum(len(block.packed) for block in blocks)
        print(f"{pending:,} pending, {rows:,} rows in {len(blocks):,} blocks of {size_bytes >> 20:,} MiB together")


def _write(path: Path, rows: int, *, by_day: bool) -> None:
    schema = pa.schema([("id", pa.string()), ("uri", pa.string()), ("day", pa.string()), ("size", pa.int64())])
    of_file = schema.remove(2) if by_day else schema
    with ExitStack() as files:
        whole = None if by_day else files.enter_context(pyarrow.parquet.ParquetWriter(path, schema))
        for day in range(DAYS):
            writer = whole
            if writer is None:
                folder = path / f"day=2026-11-{day + 1:02d}"
                folder.mkdir(parents=True)
                writer = files.enter_context(pyarrow.parquet.ParquetWriter(folder / "part-0.parquet", of_file))
            last = (day + 1) * rows // DAYS
            for start in range(day * rows // DAYS, last, BATCH):
                numbers = range(start, min(last, start + BATCH))
                ids = [f"orchard-{number % 97:02d}/{number:09d}" for number in numbers]
                uris = [f"s3://orchards/photos/{name}.jpg" for name in ids]
                columns = [ids, uris, [f"2026-11-{day + 1:02d}"] * len(ids), [number % DAYS for number in numbers]]
                table = pa.table(columns, schema=schema).select(of_file.names)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


@contextmanager
def _timed(step: str) -> Iterator[None]:
    begun, cpu = time.monotonic(), time.process_time()
    yield
    spent, worked = time.monotonic() - begun, time.process_time() - cpu
    print(f"{step}: {spent:.2f} s ({worked:.2f} s of CPU), peak {_peak_mib()} MiB", flush=True)


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
