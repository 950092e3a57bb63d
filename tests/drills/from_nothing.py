"""From nothing: machines without anything but Python, an S3 bucket, and the commands that an operator types.

On the machine `head`, and then on every worker:

    ray start --head --node-ip-address=HEAD --port=6379 --dashboard-host=HEAD --num-cpus=0
    ray start --address=HEAD:6379

and from any machine that has the store's variables and reaches the dashboard:

    fsf submit --address http://HEAD:8265 -- score --bundle s3://… --manifest s3://… --out s3://…
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from fsf_core import runs, storage
from fsf_core.storage.filesystems import filesystem_of
from tests.drills.workload import Workload
from tests.support import stores
from tests.support.hosts import Host, Hosts
from tests.support.processes import fsf, rows_of, wait_for

BUCKET = "s3://data"
BEGUN_PARTS = 3
"""Parts that are committed when the faults come."""

LIMIT_S = 300.0
"""Longest time from the faults to the end."""

OPTIONS = ("--provider", "cpu", "--part-units", "4", "--segment-frames", "8")


@contextlib.contextmanager
def bucket(folder: Path, work: Workload, *, address: str) -> Iterator[dict[str, str]]:
    """Run a store at an address of this machine with the bundle, the images and videos and a list of them.

    Yields:
        The variables that a process needs to reach it; this process has them too.
    """
    folder.mkdir(exist_ok=True)
    with stores.seaweed(folder, address=address) as store:
        before = dict(os.environ)
        os.environ.update(store.environment)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of the stores of other tests
        try:
            bundle = Path(work.option("--bundle"))
            sources = [(path, f"bundle/{path.relative_to(bundle)}") for path in bundle.rglob("*") if path.is_file()]
            sources += [(path, f"media/{path.name}") for path in work.home.iterdir() if path.suffix in (".jpg", ".mp4")]
            for path, name in sources:
                storage.write_bytes(f"{BUCKET}/{name}", path.read_bytes())
            listed = (work.home / "items.csv").read_text().replace(f",{work.home}/", f",{BUCKET}/media/")
            storage.write_bytes(f"{BUCKET}/items.csv", listed.encode())
            yield store.environment
        finally:
            os.environ.clear()
            os.environ.update(before)
            fsspec.get_filesystem_class("s3").clear_instance_cache()


def score_words(out: str) -> list[str]:
    """Return the command of the job in the bucket."""
    return ["score", "--bundle", f"{BUCKET}/bundle", "--manifest", f"{BUCKET}/items.csv", *OPTIONS, "--out", out]


def local_rows() -> dict[str, list[dict[str, Any]]]:
    """Score the bucket on this machine, without a cluster; returns the tables."""
    code, output = fsf(*score_words(f"{BUCKET}/local"), "--actors", "2")
    assert code == 0, output
    return rows_in(f"{BUCKET}/local")


def score_through_faults(
    hosts: Hosts, work: Workload, folder: Path, *, cut_s: float | None, scored_again: bool
) -> tuple[str, float]:
    """Score the bucket on a cluster of which `three` is killed and `two` is cut off in the middle.

    Args:
        hosts: head, one, two, three, and a laptop outside the cluster.
        work: what is scored.
        folder: for the store.
        cut_s: seconds after which `two` is back; None for never.
        scored_again: whether the bucket is scored on this machine too; otherwise the tables are compared with those of
            the same files on its disk, without the columns that say where a file is.

    Returns:
        The output of `fsf submit`, and the seconds from the faults to its end.

    Raises:
        AssertionError: it fails, or the tables differ from those of a local run.
    """
    out = f"{BUCKET}/run"
    with bucket(folder, work, address=hosts.outside) as environment:
        local = local_rows() if scored_again else without_places(work.rows)
        job = submit(hosts["laptop"], hosts["head"], out, "--actors", "3", **environment)
        wait_for(lambda: parts_in(out) >= BEGUN_PARTS or job.poll() is not None, timeout_s=240)
        assert job.poll() is None, job.communicate()[0]
        began = time.monotonic()
        hosts["three"].kill_processes()
        hosts["two"].cut()
        healing = threading.Timer(cut_s or 0, hosts["two"].heal if cut_s else bool)
        healing.start()
        try:
            output, _ = job.communicate(timeout=LIMIT_S)
        finally:
            healing.cancel()
        assert job.returncode == 0, output
        found = rows_in(out) if scored_again else without_places(rows_in(out))
        assert found == local, "the tables differ from those of the local run"
        return output, time.monotonic() - began


def submit(host: Host, head: Host, out: str, *options: str, **environment: str) -> Any:
    """Submit the job from a host; returns the process, whose output can be read."""
    words = ["fsf", "submit", "--address", head.dashboard, "--", *score_words(out), *options]
    return host.popen(*words, **environment)


def parts_in(out: str) -> int:
    """Count the committed parts of a run in the bucket, published or not."""
    filesystem = filesystem_of(out)
    filesystem.invalidate_cache()
    root = out.removeprefix("s3://")
    names = [*filesystem.glob(f"{root}/receipts/*.arrow"), *filesystem.glob(f"{root}/.attempt-*/receipts/part-*.arrow")]
    return len({name.rpartition("/")[2] for name in names})


def rows_in(out: str) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a run, without the column that differs between any two."""
    with tempfile.TemporaryDirectory() as folder:  # one request after the other would take longer than the job
        copy = Path(folder) / "run"
        filesystem_of(out).get(out.removeprefix("s3://"), str(copy), recursive=True)
        assert runs.verify(str(copy)) == []
        return rows_of(copy)


def without_places(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return tables without the columns that differ between a bucket, where videos have no digest, and a disk."""
    places = ("uri", "item_version", "item_sha256")
    masks = [{name: row[name] for name in row if name not in places} for row in rows["masks"]]
    return {**rows, "masks": masks}
