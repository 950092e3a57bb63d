"""The long form of the corpus test: a run of good and bad files, compared with a run of the good ones alone.

    python -m tests.bench.chaos FOLDER --seed 1 --fuzzed 400 --crash-rounds 3

Writes the corpus and two runs into FOLDER. Prints the time and the peak memory of both, the failures of the bad files,
and whether every good file has the same mask in both; exits with 1 if one has not. For kills at random points, see
tests/e2e/test_chaos.py.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from fsf_core import runs
from fsf_core.config import ExportConfig
from fsf_core.export.job import export
from tests.support import corpus, crashers, ledger
from tests.support.processes import Job


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Time and memory of one run."""

    seconds: float
    largest_mb: float
    """Peak resident memory of the largest process."""
    all_mb: float
    """Peak memory of all processes together (proportional set size, which counts shared pages once)."""


def _score(manifest: Path, out: Path, bundle: str) -> Outcome:
    started = time.monotonic()
    job = Job(
        "score", "--bundle", bundle, "--manifest", str(manifest), "--out", str(out), "--provider", "cpu",
        "--segment-frames", "8", "--item-seconds", "10", "--item-memory-mb", "900",
        PYTHONPATH=crashers.POISON,
    )  # fmt: skip
    largest, together, ended = [0.0], [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            sizes = [_sizes(process) for process in job.family()]
            largest[0] = max(largest[0], *(rss for rss, _ in sizes), 0.0)
            together[0] = max(together[0], sum(pss for _, pss in sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code, output = job.wait(3600)
    ended.set()
    watcher.join()
    if code:
        sys.exit(f"exit code {code}: {output}")
    return Outcome(seconds=time.monotonic() - started, largest_mb=largest[0], all_mb=together[0])


def _sizes(process: psutil.Process) -> tuple[float, float]:
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0.0, 0.0
    return memory.rss / 2**20, memory.pss / 2**20


def main() -> int:
    """Run both jobs and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fuzzed", type=int, default=400)
    parser.add_argument("--crash-rounds", type=int, default=3)
    arguments = parser.parse_args()
    home = arguments.folder
    manifests = corpus.write(home, seed=arguments.seed, fuzzed=arguments.fuzzed, crash_rounds=arguments.crash_rounds)
    network = {
        "net": "tests.support.tiny_net:build",
        "profile": "fastsegformer",
        "classes": ("background", "a", "b", "c"),
        "exporter": "torchscript",
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle = export(ExportConfig(**network, out=f"{folder}/bundle")).bundle.uri
        outs = (home / "good run", home / "mixed run")
        good, mixed = (_score(manifest, out, bundle) for manifest, out in zip(manifests, outs, strict=True))

    rows = [ledger.sorted_rows(str(out), "masks", but=("run_id",)) for out in outs]
    same = rows[0] == [row for row in rows[1] if row["item_id"].startswith("good/")]
    counts = [runs.read_document(str(out), "summary.json")["items"] for out in outs]
    print(f"{'':12}{'items':>8}{'failed':>8}{'seconds':>9}{'largest MB':>12}{'all MB':>9}")
    for name, count, outcome in zip(("good alone", "good and bad"), counts, (good, mixed), strict=True):
        print(
            f"{name:12}{count['total']:8}{count['failed']:8}{outcome.seconds:9.1f}"
            f"{outcome.largest_mb:12.0f}{outcome.all_mb:9.0f}"
        )
    failures = runs.read_table(str(outs[1]), "failures").to_pylist()
    print(f"time {mixed.seconds / good.seconds:.2f} times; {dict(Counter(row['error_type'] for row in failures))}")
    lost = [row["item_id"] for row in failures if row["item_id"].startswith("good/")]
    wrong = [*runs.verify(str(outs[0])), *runs.verify(str(outs[1]))]
    print(f"good items with another mask or none: {'none' if same and not lost else lost or 'some'}; problems: {wrong}")
    return 0 if same and not lost and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
