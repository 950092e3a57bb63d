"""What a run asks of an object store: requests by method and object, per item, per part and per run.

    python -m tests.bench.bench_requests                     512 and 2,048 items in parts of 16
    python -m tests.bench.bench_requests --items 256,512 --part-units 8

Runs `fsf score` with the null model, the same command again with nothing left to score, and `fsf verify`. List, images
and run are in a bucket of SeaweedFS, behind a proxy that counts. From two numbers of items follow the requests per item
and per part; the rest is that of a run. Of a lease no such figure is given: it is renewed by time. The last line is
JSON.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote

from fsf_core import runs, storage
from fsf_core.runs.ledger import FOLDERS
from fsf_core.runs.publish import VIDEOS
from fsf_core.schema import DERIVED
from tests.bench.competitors import score_command
from tests.bench.inputs import draw, null_model
from tests.bench.meter import ROOT
from tests.support import fault_injection, stores

Request = tuple[str, str]
"""Method and path."""

Kind = tuple[str, str, str]
"""Phase, object and method."""

TARGET_ITEMS, TARGET_PART_UNITS = 100_000_000, (4096, 256)
LIMITS = {("GET", "HEAD"): 5_500, ("PUT", "COPY", "POST", "DELETE"): 3_500}
"""Requests per second and prefix that S3 documents."""

LEASE = "lease, list of attempts"
"""Requests that follow the time, and not the work."""


def main() -> None:
    """Count, and print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", default="512,2048", help="two numbers of items")
    parser.add_argument("--part-units", type=int, default=16)
    given = parser.parse_args()
    sizes = [int(word) for word in given.items.split(",")]
    with tempfile.TemporaryDirectory(prefix="fsf-requests-") as folder:
        home = Path(folder)
        (home / "store").mkdir()
        with stores.seaweed(home / "store") as store, fault_injection.in_front_of(store.port) as proxy:
            os.environ |= store.environment | {"AWS_ENDPOINT_URL": proxy.url}
            images = draw(home / "images", frames=64, height_px=64, width_px=64)
            for path in images.iterdir():
                storage.write_bytes(f"s3://data/images/{path.name}", path.read_bytes())
            names = sorted(path.name for path in images.iterdir())
            counts = [_count_requests(items, given.part_units, names, null_model(home), proxy) for items in sizes]
            receipts = [runs.read_document(f"s3://data/run-{items}", "manifest.json")["receipts"] for items in sizes]
    parts = [len(each) for each in receipts]
    rows = [_row(kind, counts, sizes, parts) for kind in sorted({*counts[0], *counts[1]})]
    totals = _sum_up(rows)
    _print_tables(rows, totals, [f"{item:,} in {part:,}" for item, part in zip(sizes, parts, strict=True)])
    found = {
        "items": sizes,
        "parts": parts,
        "receipt_bytes_per_unit": round(sum(each["bytes"] for each in receipts[-1]) / sizes[-1]),
        "requests": totals,
        "at_the_end_of_100_million_items": [_at_scale(rows, units) for units in TARGET_PART_UNITS],
    }
    print(json.dumps(found))


def _count_requests(
    items: int, part_units: int, names: Sequence[str], bundle: Path, proxy: fault_injection.ProxyState
) -> Counter[Kind]:
    """Run the three commands for a number of items, and count what they ask."""
    manifest, out = f"s3://data/list-{items}.csv", f"s3://data/run-{items}"
    lines = [f"{number:07d},s3://data/images/{names[number % len(names)]}\n" for number in range(items)]
    storage.write_bytes(manifest, ("id,uri\n" + "".join(lines)).encode())
    score = score_command(bundle, Path("list"), Path("run"), "--part-units", str(part_units))
    score = [{"list": manifest, "run": out}.get(word, word) for word in score]
    counts: Counter[Kind] = Counter()
    for phase, command in {
        "score": score,
        "score again": score,
        "verify": [sys.executable, "-m", "fsf_core.cli", "verify", out],
    }.items():
        counts.update(_kinds(phase, _requests_of(command, proxy), f"/data/run-{items}/"))
    return counts


def _requests_of(command: Sequence[str], proxy: fault_injection.ProxyState) -> list[Request]:
    """Run a command to its end; return its requests in order."""
    found: list[Request] = []
    proxy.watch = lambda method, path: found.append((method, path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    proxy.watch = None
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr[-2000:]}")
    return found


def _kinds(phase: str, requests: Sequence[Request], run: str) -> Iterator[Kind]:
    """Yield the kind of every request; the end of a job begins after the last part is written."""
    staged = [at for at, (method, path) in enumerate(requests) if method == "PUT" and f"{run}.attempt-" in path]
    end = staged[-1] if len(staged) > 1 else len(requests)  # a job without work writes the list of adopted parts alone
    for at, (method, path) in enumerate(requests):
        key, _, query = path.partition("?")
        asked = parse_qs(query, keep_blank_values=True)
        what = _object("/data/" + asked["prefix"][0] if "prefix" in asked else unquote(key), run)
        if "delete" in asked:
            what = "up to 1,000 files"
        method = "LIST" if "list-type" in asked else method  # noqa: PLW2901 - what the method does
        yield (f"{phase}, end" if at > end else phase), what, method


def _object(key: str, run: str) -> str:
    """Return what a key is."""
    if key.startswith("/data/images/"):
        return "image"
    if not key.startswith(run):
        return "other"
    name = re.sub(r"^\.attempt-\d+/", "", key.removeprefix(run))
    if not name or name.startswith(".lease-"):
        return LEASE
    folder, _, rest = name.partition("/")
    if name.rstrip("/") in {*FOLDERS, *DERIVED, VIDEOS} or re.fullmatch(r"\.attempt-\d+/?", name):
        return "folder"
    if not rest:
        return name.rstrip("/")
    return "receipt" if folder == "receipts" else "table"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The requests of one kind."""

    kind: Kind
    counts: tuple[int, int]
    """Of both runs."""
    unit: str
    """item or part; empty where the requests follow the time."""
    each: float
    """Per item or part."""
    rest: float
    """Per run."""


def _row(kind: Kind, counts: Sequence[Counter[Kind]], items: Sequence[int], parts: Sequence[int]) -> Row:
    """Return what a kind of request costs per item or part and per run, from the counts of both runs."""
    few, many = (count[kind] for count in counts)
    unit = "" if kind[1] == LEASE else "item" if kind[1] == "image" else "part"
    sizes = items if unit == "item" else parts
    each = round((many - few) / (sizes[1] - sizes[0]), 3) if unit else 0.0
    return Row(kind=kind, counts=(few, many), unit=unit, each=each, rest=round(few - each * sizes[0], 1))


def _sum_up(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the requests of each phase per item, per part and per run, and those that follow the time."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        totals[row.kind[0]] += Counter({f"per {row.unit}": row.each, "per run": row.rest} if row.unit else
                                       {"by time": row.counts[1]})  # fmt: skip
    return {phase: {name: round(count, 2) for name, count in total.items()} for phase, total in totals.items()}


def _print_tables(rows: Sequence[Row], totals: Mapping[str, Mapping[str, float]], sizes: Sequence[str]) -> None:
    print(f"| command | object | method | {' | '.join(sizes)} | per item | per part | per run |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        figures = [row.each if row.unit == unit else "" for unit in ("item", "part")] + [row.rest if row.unit else ""]
        print(f"| {' | '.join(map(str, [*row.kind, *row.counts, *figures]))} |")
    names = ("per item", "per part", "per run", "by time")
    print(f"\n| command | {' | '.join(names)} |\n|---|---|---|---|---|")
    for phase, total in totals.items():
        print(f"| {phase} | {' | '.join(str(total.get(name, 0)) for name in names)} |")


def _at_scale(rows: Sequence[Row], part_units: int) -> dict[str, float]:
    """Return what follows for the end of a run of TARGET_ITEMS: requests, and seconds at the limits of one prefix."""
    parts = -(-TARGET_ITEMS // part_units)
    found: dict[str, float] = {"part_units": part_units, "parts": parts}
    for kinds, limit in LIMITS.items():
        each = sum(row.each for row in rows if row.kind[0] == "score, end" and row.kind[2] in kinds)
        found |= {"/".join(kinds): round(each * parts), f"seconds_at_{limit}": round(each * parts / limit)}
    return found


if __name__ == "__main__":
    main()
