"""The summary of a run as text for people: counts, figures, what it took, and its gates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fsf_core.safe_text import printable

MAX_REASONS = 5
"""Most reasons of failures that are shown."""

MAX_CLASSES = 8
"""Most classes of a line."""


def table(summary: Mapping[str, Any]) -> str:
    """Return the summary as lines of text."""
    return "\n".join(
        [
            _counts(summary),
            *_left_out(summary),
            *_failures(summary),
            *_figures(summary),
            *_regions(summary),
            *_metrics(summary),
            *_drift(summary),
            *_work(summary),
            *_gates(summary),
        ]
    )


def _counts(summary: Mapping[str, Any]) -> str:
    """Return pixels per class and totals of items."""
    import numpy as np

    from fsf_core.masks import count_table

    classes, items = summary["classes"], summary["items"]
    counts = count_table(
        [printable(str(each["name"])) for each in classes], np.asarray([each["pixels"] for each in classes], np.int64)
    )
    failures = ", ".join(f"{count} {name}" for name, count in summary["failures"].items())
    scored = f"{items['scored']} of {items['total']} items scored, {summary['frames']} frames"
    totals = f"{counts}\n{scored}, {items['failed']} failed{f' ({failures})' if failures else ''}"
    return totals + (f", {summary['files_left_out']} files left out" if summary["files_left_out"] else "")


def _left_out(summary: Mapping[str, Any]) -> Iterator[str]:
    from fsf_core.manifest import LeftOut

    for entry in summary["left_out"]:
        yield f"left out: {printable(str(LeftOut(**entry)))}"


def _failures(summary: Mapping[str, Any]) -> Iterator[str]:
    for reason in summary["failure_reasons"][:MAX_REASONS]:
        example = printable(reason["example_item_id"])
        yield f"failed in {reason['stage']}: {reason['units']} {reason['error_type']}, such as {example}"


def _figures(summary: Mapping[str, Any]) -> Iterator[str]:
    means = [
        f"{name.replace('_', ' ')} {described['mean']:.3g}"
        for name, described in summary["figures"].items()
        if described
    ]
    if means:
        yield f"means over items: {', '.join(means)}"


def _regions(summary: Mapping[str, Any]) -> Iterator[str]:
    if summary["regions"]:
        found = [(f"{each['count']:,}", each["name"]) for each in summary["regions"]["classes"] if each["count"]]
        yield f"{summary['regions']['count']:,} regions: {_named(found)}" if found else "0 regions"


def _metrics(summary: Mapping[str, Any]) -> Iterator[str]:
    metrics = summary["metrics"]
    if not metrics:
        return
    accuracy = _number(metrics["accuracy"])
    yield f"labels of {metrics['items']:,} items: mIoU {_bounded(metrics, 'miou')}, accuracy {accuracy}"
    known = sorted((each["iou"], each["name"]) for each in metrics["classes"] if each["iou"] is not None)
    if known:
        yield f"IoU, lowest first: {_named([(f'{iou:.4f}', name) for iou, name in known])}"


def _bounded(metrics: Mapping[str, Any], name: str) -> str:
    bounds = metrics["intervals"].get(name)
    return _number(metrics[name]) + (f" ({bounds['low']:.4f} to {bounds['high']:.4f})" if bounds else "")


def _drift(summary: Mapping[str, Any]) -> Iterator[str]:
    from fsf_core.analysis.drift import describe_verdict, is_judged

    drift = summary["drift"]
    if drift and drift["verdict"] == "same" and not is_judged(drift):
        yield f"against {printable(drift['against'])}: {describe_verdict(drift)}"
    elif drift:
        alarms = [
            f"{each['statistic']} of {printable(str(each['name']))} is {_number(each['value'])}, "
            f"limit {_number(each['limit'])}"
            for each in drift["alarms"]
        ]
        shown = f": {'; '.join(alarms[:MAX_REASONS])}" if alarms else ""
        count = f"{len(alarms)} alarm{'' if len(alarms) == 1 else 's'}"
        yield f"against {printable(drift['against'])}: {drift['verdict']}, {count}{shown}"


def _work(summary: Mapping[str, Any]) -> Iterator[str]:
    work = summary["work"]
    if not work:
        return
    busy = work["bare_session_share"]
    yield (
        f"{work['frames_per_s']:.4g} frames/s of scoring, {work['job_frames_per_s']:.4g} of the job"
        + (f"; the model computes {busy:.1%} of the actors' time" if busy is not None else "")
    )
    stages = ", ".join(
        f"{stage['stage']} {stage['cpu_seconds']:.3g}" for stage in work["stages"] if stage["cpu_seconds"]
    )
    gpu = f", GPU {work['gpu_seconds']:.4g} s" if work["gpu_seconds"] else ""
    cost = f"; a million frames cost {work['cost']['per_million_frames']:,.4g}" if work["cost"] else ""
    yield (
        f"CPU {work['cpu_seconds']:.4g} s ({stages}){gpu}; read {work['bytes_read'] / 1e6:,.1f} MB, "
        f"wrote {work['bytes_written'] / 1e6:,.1f} MB{cost}"
    )


def _gates(summary: Mapping[str, Any]) -> Iterator[str]:
    given = [gate for gate in summary["gates"] if gate["option"]]
    if given:
        yield f"gates: {sum(gate['passed'] for gate in given)} of {len(given)} passed"


def _named(found: Sequence[tuple[str, str]]) -> str:
    """Return values with the names that they belong to; the first few."""
    left = len(found) - MAX_CLASSES
    shown = ", ".join(f"{value} {printable(name)}" for value, name in found[:MAX_CLASSES])
    return shown + (f", and {left} more" if left > 0 else "")


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.4f}"
