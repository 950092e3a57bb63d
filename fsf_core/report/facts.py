"""The head and the end of a report: figures, gates and notes of a run, and what it was made of."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsf_core import runs, storage
from fsf_core.report.page import duration, metric, number, percent, size


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure at the head of the page."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One gate of the run."""

    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A remark at the head of the page."""

    alarm: bool
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What a run holds, finished or not."""

    items: int
    """Of the manifest; of an unfinished run, those that have a result or a failure so far."""
    scored: int
    failed: int
    frames: int
    videos: int


def lede(counts: Counts, *, finished: bool, gates: Sequence[Gate]) -> list[tuple[str, bool]]:
    """Return the first sentences of the page, in parts; true marks what is emphasized."""
    parts: list[tuple[str, bool]] = []
    if not finished:
        parts += [("This run has not finished. ", True), ("The page shows what is committed so far: ", False)]
    if not counts.items:
        return [*parts, ("No item has a result." if finished else "nothing yet.", False)]
    parts += [(f"{number(counts.scored)} of {number(counts.items)} items", True), (" scored", False)]
    parts.append((f", {number(counts.frames)} frames" if counts.frames != counts.scored else "", False))
    if counts.failed == counts.items:
        parts += [(". ", False), ("All items failed", True)]
    elif counts.failed:
        parts += [
            ("; ", False),
            (f"{number(counts.failed)} failed", True),
            (f" ({percent(counts.failed / counts.items)})", False),
        ]
    parts.append((".", False))
    broken = sum(not gate.passed for gate in gates)
    if broken:
        parts += [(f" {broken} of {len(gates)} gates failed", True), (".", False)]
    elif gates:
        parts.append((" All gates passed." if len(gates) > 1 else " The gate passed.", False))
    return [part for part in parts if part[0]]


def headline(
    counts: Counts, summary: Mapping[str, Any], metrics: Mapping[str, Any] | None, confidence: float | None
) -> list[Figure]:
    """Return the figures at the head of the page; those that the run does not have are left out."""
    figures = [Figure(title="Items scored", value=number(counts.scored), note=f"of {number(counts.items)}")]
    if counts.frames != counts.scored:
        videos = f"{number(counts.videos)} {'video' if counts.videos == 1 else 'videos'}" if counts.videos else ""
        figures.append(Figure(title="Frames", value=number(counts.frames), note=videos))
    share = percent(counts.failed / counts.items) if counts.items else ""
    figures.append(Figure(title="Items failed", value=number(counts.failed), note=share))
    if metrics and metrics.get("miou") is not None:
        figures.append(Figure(title="Mean IoU", value=metric(metrics["miou"]), note=_interval(metrics, "miou")))
        between = _interval(metrics, "accuracy", percent)
        figures.append(Figure(title="Pixel accuracy", value=percent(metrics["accuracy"]), note=between))
    if confidence is not None:
        figures.append(Figure(title="Mean confidence", value=percent(confidence), note="of the winning class"))
    seconds = summary.get("scoring_seconds")
    if seconds and not summary.get("reused_items") and not summary.get("resumed_items"):
        rate = number(counts.frames / seconds)
        figures.append(Figure(title="Frames per second", value=rate, note=f"{duration(seconds)} of scoring"))
    return figures


def _interval(metrics: Mapping[str, Any], name: str, show: Callable[[float], str] = metric) -> str:
    """Return the interval of a figure as text, or nothing."""
    found = metrics["intervals"].get(name)
    return f"{show(found['low'])} to {show(found['high'])}" if found else ""


def gates_of(summary: Mapping[str, Any]) -> list[Gate]:
    """Return the gates that the user asked for, and what failed besides; runs of older versions record none."""
    found = [each for each in summary.get("gates") or () if each["option"] or not each["passed"]]
    return [Gate(passed=bool(each["passed"]), text=_gate_text(each)) for each in found]


def _gate_text(gate: Mapping[str, Any]) -> str:
    """Return what a gate asks for and what the run has."""
    values = ", ".join(f"{name} is {number(value)}" for name, value in (gate.get("values") or {}).items())
    return f"fail if {gate['expression']}: {gate.get('reason') or values}"


def notes_of(summary: Mapping[str, Any]) -> list[Note]:
    """Return what a reader must know before the figures: drift that the job found, videos that were not rendered."""
    notes = []
    drift = summary.get("drift") or {}
    if drift.get("alarms"):
        named = ", ".join(dict.fromkeys(str(each["name"]) for each in drift["alarms"]))
        notes.append(Note(alarm=True, text=f"Drift against {drift.get('against', 'another run')}: {named}."))
    failed = (summary.get("videos") or {}).get("failed") or {}
    if failed:
        notes.append(
            Note(alarm=True, text=f"{len(failed)} of the videos could not be rendered, such as {min(failed)}.")
        )
    return notes


def facts_of(run: runs.RunReader, summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was scored, by what, and how long it took; what the run does not record is left out."""
    known = runs.read_document(run.uri, "run.json")
    fingerprint, attempts = known["fingerprint"], known.get("attempts") or [{}]
    newest, lineage, work = attempts[-1], summary.get("lineage") or {}, summary.get("work") or {}
    found: list[tuple[str, Any]] = [
        ("Run", run.run_id),
        ("Folder", storage.redact(run.uri)),
        ("Night", lineage.get("night")),
        ("Manifest", lineage.get("manifest") or fingerprint.get("manifest")),
        ("Bundle", newest.get("bundle")),
        ("Bundle SHA-256", fingerprint.get("bundle_sha256")),
        ("Checkpoint SHA-256", lineage.get("checkpoint_sha256")),
        ("Network", lineage.get("net")),
        ("Precision", fingerprint.get("precision")),
        ("Provider", summary.get("provider") or newest.get("provider")),
        ("GPUs", _gpus(lineage.get("gpus") or [])),
        ("Actors", summary.get("actors")),
        ("Size of masks", fingerprint.get("mask_size")),
        ("Started", _date(attempts[0].get("started_at"))),
        ("Starts of the job", len(attempts) if len(attempts) > 1 else None),
        ("Duration", duration(summary["seconds"]) if summary.get("seconds") else None),
        ("Scoring", duration(summary["scoring_seconds"]) if summary.get("scoring_seconds") else None),
        ("Reused items", number(summary["reused_items"]) if summary.get("reused_items") else None),
        ("Files left out", number(summary["files_left_out"]) if summary.get("files_left_out") else None),
        *_work_facts(work),
        ("Versions", _versions(lineage, newest)),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _work_facts(work: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return what the run cost."""
    if not work:
        return []
    stages = ", ".join(
        f"{stage['stage']} {duration(stage['cpu_seconds'])}" for stage in work["stages"] if stage["cpu_seconds"]
    )
    cost = work.get("cost") or {}
    return [
        ("CPU time", f"{duration(work['cpu_seconds'])} ({stages})" if stages else duration(work["cpu_seconds"])),
        ("GPU time", duration(work["gpu_seconds"]) if work["gpu_seconds"] else None),
        ("Read", size(work["bytes_read"])),
        ("Written", size(work["bytes_written"])),
        ("A million frames cost", number(cost["per_million_frames"]) if cost.get("per_million_frames") else None),
    ]


def _versions(lineage: Mapping[str, Any], newest: Mapping[str, Any]) -> str | None:
    versions = lineage.get("versions") or {"fsf": newest.get("fsf_version")}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or None


def _gpus(gpus: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the cards that the model ran on, with their drivers and batches."""
    described = (
        f"{gpu['card']} ({size(gpu['memory_bytes'])}), driver {gpu['driver'] or 'unknown'}, CUDA {gpu['cuda']}, "
        f"{gpu['batch_frames']} frames per call"
        for gpu in gpus
    )
    return "; ".join(described) or None


def _date(text: Any) -> str | None:
    """Return a time as people read it; what is no time is left out."""
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return f"{moment:%d %B %Y, %H:%M %Z}".strip().lstrip("0")


def documents_of(run: runs.RunReader, summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the documents of the run that the page shows whole."""
    known = ("run.json", runs.read_document(run.uri, "run.json"))
    return [("summary.json", summary), known] if summary else [known]
