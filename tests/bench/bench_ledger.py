"""What it costs the driver to find the remaining work, with nine tenths of the items done.

    python -m tests.bench.bench_ledger              1,000,000 items
    python -m tests.bench.bench_ledger 10000000

Writes a manifest and receipts, then reads them in a separate process as the job does before its first task: opens and
checks the manifest, reads the ledger, subtracts. The last line is JSON.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fsf_core import runs, storage
from fsf_core.keys import item_key, part_name, unit_key
from fsf_core.manifest import open_manifest
from fsf_core.manifest.row_digests import row_digests
from fsf_core.schema import UNITS
from fsf_core.score.changes import row_keys_of

PART_UNITS = 4096
DONE_SHARE = 0.9


def main() -> None:
    """Write the files and measure in a separate process; with --measure, be that process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--measure", metavar="FOLDER")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(_measured(Path(given.measure))))
        return
    with tempfile.TemporaryDirectory(prefix="fsf-ledger-") as home:
        _write(Path(home), given.items)
        words = [sys.executable, "-m", "tests.bench.bench_ledger", "--measure", home]
        subprocess.run(words, check=True, cwd=Path(__file__).parents[2])


def _item_ids(begin: int, end: int) -> list[str]:
    return [f"2026/11/camera-07/line-3/orange-{number:012d}.jpg" for number in range(begin, end)]


def _write(home: Path, items: int) -> None:
    schema = pa.schema([("uri", pa.string())])
    with pyarrow.parquet.ParquetWriter(home / "items.parquet", schema) as writer:
        for begin in range(0, items, 100_000):
            uris = [f"s3://photos/{item_id}" for item_id in _item_ids(begin, min(items, begin + 100_000))]
            writer.write_table(pa.table({"uri": uris}, schema=schema))
    receipts = home / "run" / ".attempt-0001" / "receipts"
    receipts.mkdir(parents=True)
    facts = {"layout": runs.LAYOUT_VERSION, "run_id": "bench", "fingerprint": {}, "attempts": []}
    (home / "run" / "run.json").write_text(json.dumps(facts))
    for begin in range(0, int(DONE_SHARE * items), PART_UNITS):
        _write_receipt(receipts, [f"s3://photos/{name}" for name in _item_ids(begin, begin + PART_UNITS)])


def _write_receipt(folder: Path, item_ids: list[str]) -> None:
    count = len(item_ids)
    keys = [unit_key(item_id, 0) for item_id in item_ids]
    zeros, ones = np.zeros(count, np.int64), np.ones(count, np.int32)
    columns = {
        "unit_key": pa.array(keys, pa.binary(16)),
        "item_key": pa.array([item_key(item_id) for item_id in item_ids], pa.binary(16)),
        "item_id": pa.array(item_ids, pa.string()),
        "segment": zeros.astype(np.int32),
        "segments": ones,
        "frames": ones,
        "first_frame": zeros,
        "last_frame": zeros,
        "failed": pa.array(np.zeros(count, bool)),
        "row_digest": row_digests(pa.table({"uri": pa.array(item_ids, pa.string())}), "/lists"),
    }
    columns |= {field.name: pa.nulls(count, field.type) for field in UNITS if field.name not in columns}
    part = part_name(1, keys)
    facts = {"part": part, "files": {}, "frames": count, "failed_units": 0, "pixels": [count], "attempt": 1}
    table = pa.table(columns, schema=UNITS.with_metadata({"fsf_receipt": json.dumps(facts)}))
    with pa.ipc.new_file(str(folder / f"{part}.arrow"), table.schema) as writer:
        writer.write_table(table)


def _measured(home: Path) -> dict[str, float]:
    started = time.monotonic()
    manifest = open_manifest(str(home / "items.parquet"))
    opened = time.monotonic()
    done = runs.find_completed(runs.load_ledger(storage.absolute(str(home / "run"))))
    read = time.monotonic()
    changes = runs.find_changes(done, row_keys_of(manifest))
    return {
        "items": manifest.items,
        "left": manifest.items - changes.finished_items,
        "changed": changes.changed_items,
        "manifest_s": round(opened - started, 1),
        "ledger_s": round(read - opened, 1),
        "subtract_s": round(time.monotonic() - read, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
