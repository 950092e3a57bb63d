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
from collections import Counter
from collections.abc import Iterator, Sequence
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
LIMITS = {"GET": 5_500, "PUT": 3_500}
"""Requests per second and prefix that S3 documents: GET and HEAD; PUT, COPY, POST and DELETE."""


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
    rows = _rates(counts, sizes, parts)
    _print_table(rows, sizes, parts)
    found = {
        "items": sizes,
        "parts": parts,
        "receipt_bytes_per_unit": round(sum(each["bytes"] for each in receipts[-1]) / sizes[-1]),
        "requests": {
            f"{row['phase']}: {row['method']} {row['object']}": {
                name: row[name] for name in ("per_item", "per_part", "per_run") if row.get(name)
            }
            for row in rows
        },
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
        for of in (what, "all"):
            yield (f"{phase}, end" if at > end else phase), of, method


def _object(key: str, run: str) -> str:
    """Return what a key is."""
    if key.startswith("/data/images/"):
        return "image"
    if not key.startswith(run):
        return "other"
    name = re.sub(r"^\.attempt-\d+/", "", key.removeprefix(run))
    if not name or name.startswith(".lease-"):
        return "lease, list of attempts"
    folder, _, rest = name.partition("/")
    if name.rstrip("/") in {*FOLDERS, *DERIVED, VIDEOS} or re.fullmatch(r"\.attempt-\d+/?", name):
        return "folder"
    if not rest:
        return name.rstrip("/")
    return "receipt" if folder == "receipts" else "table"


def _rates(counts: Sequence[Counter[Kind]], items: Sequence[int], parts: Sequence[int]) -> list[dict[str, object]]:
    """Return the requests of each kind per item or part, and those of a run."""
    rows = []
    for kind in sorted({*counts[0], *counts[1]}):
        phase, what, method = kind
        first, second = (count[kind] for count in counts)
        row: dict[str, object] = {"phase": phase, "object": what, "method": method, "requests": [first, second]}
        if what == "all":
            rows.append(row)
            continue
        if "lease" not in what:
            unit, (few, many) = ("item", items) if what == "image" else ("part", parts)
            each = (second - first) / (many - few)
            row |= {f"per_{unit}": round(each, 3), "per_run": round(first - each * few, 1)}
        rows.append(row)
    return rows


def _print_table(rows: Sequence[dict[str, object]], items: Sequence[int], parts: Sequence[int]) -> None:
    sizes = [f"{item:,} in {part:,}" for item, part in zip(items, parts, strict=True)]
    print(f"| command | object | method | {' | '.join(sizes)} | per item | per part | per run |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [row["phase"], row["object"], row["method"], *row["requests"]]  # type: ignore[misc]
        cells += [row.get(f"per_{unit}", "") for unit in ("item", "part", "run")]
        print(f"| {' | '.join(map(str, cells))} |")


def _at_scale(rows: Sequence[dict[str, object]], part_units: int) -> dict[str, object]:
    """Return what follows for the end of a run of TARGET_ITEMS: requests, and seconds at the limits of one prefix."""
    parts = -(-TARGET_ITEMS // part_units)
    per_part = Counter[str]()
    for row in rows:
        if row["phase"] == "score, end" and row["method"] != "LIST":
            per_part["GET" if row["method"] in {"GET", "HEAD"} else "PUT"] += row.get("per_part", 0)  # type: ignore[operator]
    return {
        "part_units": part_units,
        "parts": parts,
        **{f"{name}_requests": round(each * parts) for name, each in per_part.items()},
        **{f"{name}_seconds_at_{LIMITS[name]}": round(each * parts / LIMITS[name]) for name, each in per_part.items()},
    }


if __name__ == "__main__":
    main()
