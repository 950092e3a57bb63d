"""Compare a run with a reference: what drifted, and whether the data or the model changed.

fsf diff runs/reference runs/today
fsf diff runs/reference runs/today --bundle-b bundles/new --out drift
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from fsf_core.config import DiffConfig
from fsf_core.errors import OutputError
from fsf_core.options import SCHEMES

if TYPE_CHECKING:
    from fsf_core.analysis.drift import Rescored
    from fsf_core.runs import RunReader

ROWS_SHOWN = 30
"""Classes that are printed; those with an alarm come first where there are more."""


def run(run_a: str, run_b: str, config: DiffConfig) -> int:
    """Compare, print and write; returns the exit code, which does not depend on the verdict."""
    from fsf_core import runs, storage
    from fsf_core.analysis.drift import compare_runs
    from fsf_core.cli.output import print_json, show
    from fsf_core.report.drift_page import drift_page
    from fsf_core.runs.folder import document_bytes

    a, b = runs.open_run(run_a), runs.open_run(run_b)
    out = None if config.out is None else storage.absolute(config.out)
    if out is not None:
        require_folder(out)
    document = compare_runs(
        a,
        b,
        draws=config.draws,
        seed=config.seed,
        skip=[] if config.pixels else ["pixels"],
        rescored=_rescore(a, b, config),
    )
    show("\n".join(_lines(document)), lines=True)
    if out is not None:
        storage.write_bytes(storage.join(out, "drift.json"), document_bytes(document))
        storage.write_bytes(storage.join(out, "drift.html"), drift_page(document).encode())
        show(f"wrote drift.json and drift.html to {config.out}")
    print_json(document)
    return 0


def require_folder(out: str) -> None:
    """Refuse a folder for results that is a file.

    Raises:
        OutputError: it is one.
    """
    from fsf_core import storage

    if storage.is_local(out) and storage.exists(out) and not storage.is_folder(out):
        raise OutputError(f"{out} is a file, expected a folder for the document and its page; give another --out")


def _rescore(a: "RunReader", b: "RunReader", config: DiffConfig) -> "list[Rescored]":
    """Score samples again, where bundles are given."""
    if config.bundle_a is None and config.bundle_b is None:
        return []
    from fsf_core import storage
    from fsf_core.rescoring import load_bundle_of, rescore

    access = storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts)
    scored = partial(rescore, sample=config.sample, seed=config.seed, access=access)
    # Both bundles are checked before the first item is scored.
    bundle_a = load_bundle_of(a, config.bundle_a, option="--bundle-a") if config.bundle_a else None
    bundle_b = load_bundle_of(b, config.bundle_b, option="--bundle-b") if config.bundle_b else None
    found = [scored(a, b, bundle_b, items_of="a")] if bundle_b else []
    return [*found, scored(b, a, bundle_a, items_of="b")] if bundle_a else found


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield the document as text."""
    from fsf_core.analysis.drift import describe_verdict

    items, failures = document["items"], document["failures"]
    undecided = "" if document["attributed"] else ", data or model not decided"
    yield f"{document['verdict']}: {describe_verdict(document)}{undecided}"
    yield f"model: {document['model']['reason']}"
    yield (
        f"items: {items['both']} in both, {items['only_a']} only in A, {items['only_b']} only in B; "
        f"failures: {failures['new']} new, {failures['gone']} gone"
    )
    changed = document["pixels_changed_share"]
    if changed is not None:
        yield f"pixels: {changed:.3%} of those in both have another class ({document['pixels']['frames']} frames)"
    yield ""
    classes = document["classes"]
    if len(classes) > ROWS_SHOWN:
        classes = sorted(classes, key=lambda row: (not row["alarm"], -(row["psi"] or 0)))[:ROWS_SHOWN]
    yield from table(
        ("class", "A", "B", "items A", "items B", "PSI", "limit", "JS", ""),
        [
            (
                row["name"], percent(row["share_a"]), percent(row["share_b"]), percent(row["present_a"]),
                percent(row["present_b"]), number(row["psi"]), number(row["limits"]["psi"]), number(row["js"]),
                "ALARM" if row["alarm"] else "",
            )
            for row in classes
        ],
    )  # fmt: skip
    if len(classes) < len(document["classes"]):
        yield f"… and {len(document['classes']) - len(classes)} more classes"
    yield ""
    yield from table(
        ("figure", "A", "B", "PSI", "limit", "JS", ""),
        [
            (
                row["name"], number(row["mean_a"]), number(row["mean_b"]), number(row["psi"]),
                number(row["limits"]["psi"]), number(row["js"]), "ALARM" if row["alarm"] else "",
            )
            for row in (*document["inputs"], *document["confidence"])
        ],
    )  # fmt: skip


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, its numbers to the right."""
    from fsf_core.safe_text import printable

    every = [header, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(row[at]) for row in every) for at in range(len(header))]
    for row in every:
        cells = [
            cell.ljust(width) if at in {0, len(row) - 1} else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def percent(share: float | None) -> str:
    """Return a share in percent; a dash for none."""
    return "-" if share is None else f"{share:.2%}"


def number(value: float | None) -> str:
    """Return a number with three significant digits; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - digits that people read
