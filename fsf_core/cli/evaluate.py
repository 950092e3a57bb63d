"""Compare masks with labels, and print metrics with their intervals.

fsf evaluate runs/today labels/
fsf evaluate 'photos/*.published.png' 'photos/*.label.png' --classes background,sunburn,ulcer,wind_scarring

Exit codes: 0 done · 2 nothing could be compared · 3 some labels could not be read or do not fit their masks: they are
listed, and the metrics are those of the others.
"""

from collections.abc import Iterable
from typing import Any

from fsf_core.config import EvaluateConfig, parse_colours
from fsf_core.options import SCHEMES
from fsf_core.safe_text import json_line, printable

FAILURES_SHOWN, NAMES_SHOWN = 20, 5
"""Most failures and names that are shown to people; the last line holds more."""


def run(masks: str, labels: str | None, config: EvaluateConfig) -> int:
    """Compare, print and write; returns the exit code."""
    from fsf_core import storage
    from fsf_core.analysis.metrics.evaluate import Request, evaluate
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show, show_error

    request = Request(
        masks=masks,
        labels=labels,
        classes=config.classes,
        palette=parse_colours(config.palette),
        by=tuple(dict.fromkeys(config.by)),
        access=storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts),
        draws=config.draws,
        seed=config.seed,
    )
    document = evaluate(request)
    show(_report(document), lines=True)
    if config.out is not None:
        storage.write_bytes(storage.absolute(config.out), f"{json_line(document)}\n".encode())
        show(f"wrote {config.out}")
    print_json(document)
    pairs = document["pairs"]
    failed_share = pairs["failed"] / max(pairs["failed"] + pairs["compared"], 1)
    if failed_share <= config.max_failed_share:
        return 0
    show_error(
        f"gate: {pairs['failed']} of {pairs['failed'] + pairs['compared']} labels could not be compared, expected a "
        f"share of at most {config.max_failed_share:g}; see failures, or raise --max-failed-share"
    )
    return EXIT_GATE


def _report(document: dict[str, Any]) -> str:
    """Return the metrics as text."""
    lines = _metrics(document)
    for group in document.get("groups", ()):
        title = ", ".join(f"{name} {'(none)' if value is None else value}" for name, value in group["by"].items())
        lines += ["", printable(title), *_metrics(group)]
    return "\n".join([*lines, "", *_account(document)])


def _metrics(document: dict[str, Any]) -> list[str]:
    """Return a table of the classes, and the means."""
    level = round(100 * document["intervals"]["level"])
    header = ("class", "IoU", f"{level} % interval", "recall", "precision", "dice", "boundary IoU", "pixels", "items")
    intervals = document["intervals"]["classes"]
    rows = [
        (
            printable(each["name"]),
            _number(each["iou"]),
            _interval(bounds["iou"]),
            *(_number(each[name]) for name in ("recall", "precision", "dice", "boundary_iou")),
            f"{each['support_px']}",
            f"{each['items']}",
        )
        for each, bounds in zip(document["classes"], intervals, strict=True)
    ]
    mean = (
        "mean",
        _number(document["miou"]),
        _interval(document["intervals"]["miou"]),
        *(_number(document[f"mean_{name}"]) for name in ("recall", "precision", "dice", "boundary_iou")),
        f"{document['pixels']}",
        f"{document['items']}",
    )
    accuracy = f"accuracy {_number(document['accuracy'])} {_interval(document['intervals']['accuracy'])}".rstrip()
    reason = document["intervals"]["reason"]
    return [
        *_aligned([header, *rows, mean]),
        f"{accuracy}, frequency-weighted IoU {_number(document['fwiou'])}",
        *([f"no intervals: {reason}"] if reason else []),
    ]


def _aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    """Return rows with their first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()


def _account(document: dict[str, Any]) -> list[str]:
    """Return what was compared and what was not."""
    pairs = document["pairs"]
    lines = [f"{pairs['compared']} masks compared with their labels, {pairs['failed']} failed"]
    for key, what in (("masks_without_label", "masks have no label"), ("labels_without_mask", "labels have no mask")):
        if rest := pairs[key]["count"]:
            names = pairs[key]["names"]
            shown = f": {', '.join(names[:NAMES_SHOWN])}{', …' if len(names) > NAMES_SHOWN else ''}" if names else ""
            lines.append(printable(f"{rest} {what}{shown}"))
    if document["ignored"]["pixels"]:
        lines.append(f"{document['ignored']['pixels']} pixels are ignored by their labels")
    for each in document["failures"][:FAILURES_SHOWN]:
        place = each["item_id"] if each["frame_index"] is None else f"{each['item_id']} frame {each['frame_index']}"
        lines.append(printable(f"failed: {place}: {each['error_type']}: {each['error_message']}"))
    if len(document["failures"]) > FAILURES_SHOWN:
        lines.append(f"… and {len(document['failures']) - FAILURES_SHOWN} more")
    return [*lines, *(printable(f"warning: {each}") for each in document["warnings"])]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _interval(bounds: dict[str, float] | None) -> str:
    return "" if bounds is None else f"[{bounds['low']:.4f}, {bounds['high']:.4f}]"
