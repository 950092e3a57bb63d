"""The report of a run: read its tables, choose pictures, draw, and write one HTML file."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import __version__, runs, storage
from fsf_core.analysis.items import item_features
from fsf_core.manifest import Manifest, unredacted_uris
from fsf_core.report import classes, facts, failures, items, sections, videos
from fsf_core.report.change import Change, change_section, read_change, shares_before
from fsf_core.report.choose import CHANGED, WORST, FrameKey, Measure, Reason, choose_frames
from fsf_core.report.metrics import Metrics, metrics_section, read_metrics
from fsf_core.report.page import render_page
from fsf_core.report.pictures import Picture, Reading, make_pictures
from fsf_core.report.sources import honours_exif

FILE = "report.html"
"""Name of the page inside the run folder."""

GALLERY_CLASSES, TABLE_CLASSES, TIMELINE_CLASSES = 6, 6, 6
"""Classes with a gallery of their largest regions, with a column of the table of items, with a line of a timeline."""

MIN_PICTURES, MAX_PICTURED_SHARE = 3, 0.25
"""Pictures of a question in a small run: at least 3, and beyond that at most a quarter of the items."""

SECTIONS = (
    ("change", "Change"),
    ("classes", "Classes"),
    ("metrics", "Metrics"),
    ("pictures", "Pictures"),
    ("inputs", "Model and input"),
    ("videos", "Videos"),
    ("failures", "Failures"),
    ("items", "Items"),
)
"""Sections by their key, which is their anchor, in the order of the page; the run itself is the last one."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What goes into a report."""

    pictures: int
    """Pictures per question that they are chosen by."""
    side_px: int
    """Longest side of a picture."""
    access: storage.Access | None
    """Which addresses of sources may be opened."""


def write_report(
    run_uri: str,
    *,
    out: str | None,
    request: ReportRequest,
    manifest: Manifest | None = None,
    against: str | None = None,
) -> dict[str, Any]:
    """Write the report of a run.

    Args:
        run_uri: the run, finished or not.
        out: the file; None for report.html inside the run folder.
        request: what goes into it.
        manifest: of the run, for sources whose addresses hold a credential.
        against: another run, to show what changed since.

    Returns:
        Path and bytes of the file, and what it holds.

    Raises:
        OutputError: there is no run, or a committed file is damaged.
        StorageError: the file cannot be written.
    """
    run = runs.open_run(run_uri)
    target = storage.join(run.uri, FILE) if out is None else out
    change = None if against is None else read_change(run, against)
    page, held = make_page(run, request=request, manifest=manifest, change=change)
    data = page.encode("utf-8", "replace")
    storage.write_bytes(target, data)
    return {"report": storage.redact(target), "bytes": len(data), **held}


def make_page(
    run: runs.RunReader, *, request: ReportRequest, manifest: Manifest | None = None, change: Change | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the page, and how much it holds."""
    finished, summary = run.finished, run.summary or {}
    features = item_features(run).sort_by("item_id")
    before = shares_before(change, run.classes) if change else None
    rows = classes.class_rows(run.classes, _pixels(run), features, before)
    counts = _counts(run, summary, features)
    metrics = read_metrics(run, summary.get("metrics"))
    gates = facts.gates_of(summary)
    groups, failure_total = failures.group_failures(run)
    # Of a small run, most items would be an extreme of every question.
    count = min(request.pictures, max(MIN_PICTURES, math.ceil(features.num_rows * MAX_PICTURED_SHARE)))
    chosen = choose_frames(
        run,
        count=count,
        sample=request.pictures,
        classes=classes.classes_of_interest(rows, GALLERY_CLASSES),
        frames=_ranked(run, metrics, change, count),
    )
    pictures = _pictures(run, chosen, request, manifest, change)
    table = items.item_rows(
        run,
        features,
        classes=classes.classes_of_interest(rows, TABLE_CLASSES),
        figures=_figures(metrics, change),
        failures=_failed_items(run),
    )
    lines, video_total = videos.timelines(run, classes.classes_of_interest(rows, TIMELINE_CLASSES))
    found: dict[str, Any] = {
        "change": change_section(change, run.classes) if change else None,
        "classes": sections.class_section(rows) if counts.frames else None,
        "metrics": metrics_section(metrics, run.classes) if metrics else None,
        "pictures": sections.picture_section(run.classes, pictures, chosen) if pictures else None,
        "inputs": sections.input_section(features, change.features if change else None),
        "videos": {"lines": lines, "total": video_total} if lines else None,
        "failures": sections.failure_section(groups, failure_total) if groups else None,
        "items": sections.item_section(table) if table.rows else None,
    }
    page = render_page(
        {
            **found,
            "sections": [(key, name) for key, name in SECTIONS if found[key]],
            "title": _title(run.uri),
            "lede": facts.lede(counts, finished=finished, gates=gates),
            "headline": facts.headline(
                counts, summary, metrics.document if metrics else None, _mean(features, "confidence")
            ),
            "gates": gates,
            "notes": facts.notes_of(summary),
            "names": run.classes,
            "facts": facts.facts_of(run, summary),
            "documents": facts.documents_of(run, summary),
            "colophon": f"Made by fsf {__version__} from the tables of run {run.run_id}. This file is whole: it loads "
            "nothing, and sends nothing.",
        },
        palette=[*run.palette],
        rows=items.as_json(table) if table.rows else None,
    )
    return page, {"items": table.items, "rows": len(table.rows), "pictures": len(pictures)}


def _title(run_uri: str) -> str:
    """Return the last two names of the folder of a run."""
    names = [name for name in storage.redact(run_uri).rstrip("/").split("/") if name]
    return "/".join(names[-2:])


def _pixels(run: runs.RunReader) -> NDArray[np.int64]:
    """Return the pixels of every class over all frames, from the receipts."""
    pixels_K = np.zeros(len(run.classes), np.int64)
    for receipt in runs.receipts(run.uri):
        pixels_K[: len(receipt.pixels)] += np.asarray(receipt.pixels, np.int64)
    return pixels_K


def _counts(run: runs.RunReader, summary: Mapping[str, Any], features: pa.Table) -> facts.Counts:
    """Count items and frames: those of the summary, or of an unfinished run those that are committed."""
    frames = int(pc.sum(features.column("frames")).as_py() or 0)
    found = features.column("kind").to_pylist().count("video")
    if summary:
        counted = summary["items"]
        return facts.Counts(
            items=counted["total"], scored=counted["scored"], failed=counted["failed"], frames=frames, videos=found
        )
    failed = {item for item, _ in _failed_items(run)}
    scored = {*features.column("item_id").to_pylist()} - failed
    return facts.Counts(
        items=len(scored) + len(failed), scored=len(scored), failed=len(failed), frames=frames, videos=found
    )


def _failed_items(run: runs.RunReader) -> list[tuple[str, str]]:
    """Return every failed item with the type of its first failure."""
    found: dict[str, str] = {}
    for batch in run.iter_batches("failures", columns=["item_id", "error_type", "stage"]):
        for row in batch.to_pylist():
            found.setdefault(row["item_id"], f"{row['error_type']} in {row['stage']}")
    return [*found.items()]


def _mean(features: pa.Table, name: str) -> float | None:
    """Return the mean of a measure over all frames; None where the run does not have it."""
    values, frames = classes.column_floats(features, name), classes.column_floats(features, "frames")
    known = np.isfinite(values)
    return float(np.average(values[known], weights=frames[known])) if known.any() else None


def _figures(metrics: Metrics | None, change: Change | None) -> dict[str, tuple[items.Column, Mapping[str, float]]]:
    """Return the columns of the table of items that do not come from the tables of masks and classes."""
    found: dict[str, tuple[items.Column, Mapping[str, float]]] = {}
    if change:
        found["changed"] = (items.Column(key="changed", title="Changed", kind="percent"), change.changed)
    if metrics:
        column = items.Column(key="miou", title="Mean IoU", kind="metric", ascending=True)
        found["miou"] = (column, metrics.miou_by_item)
    return found


def _ranked(
    run: runs.RunReader, metrics: Metrics | None, change: Change | None, count: int
) -> dict[Measure, list[tuple[FrameKey, float]]]:
    """Return a frame of each of the items that changed most, and of those whose masks differ most from their labels."""
    found: dict[Measure, list[tuple[str, float]]] = {}
    if change:
        changed = ((item, share) for item, share in change.changed.items() if share > 0)
        found[CHANGED] = sorted(changed, key=lambda each: (-each[1], each[0]))[:count]
    if metrics:
        found[WORST] = sorted(metrics.miou_by_item.items(), key=lambda each: (each[1], each[0]))[:count]
    frames = _first_frames(run, {item for ranked in found.values() for item, _ in ranked})
    return {
        measure: [((item, frames[item]), value) for item, value in ranked if item in frames]
        for measure, ranked in found.items()
    }


def _first_frames(run: runs.RunReader, wanted: Iterable[str]) -> dict[str, int]:
    """Return the first scored frame of some items."""
    found: dict[str, int] = {}
    ids = pa.array([*wanted], pa.string())
    for receipt in runs.receipts(run.uri):
        for unit in receipt.units.filter(pc.is_in(receipt.units.column("item_id"), ids)).to_pylist():
            if unit["frames"]:
                item, first = unit["item_id"], unit["first_frame"]
                found[item] = min(first, found.get(item, first))
    return found


def _pictures(
    run: runs.RunReader,
    chosen: Mapping[FrameKey, list[Reason]],
    request: ReportRequest,
    manifest: Manifest | None,
    change: Change | None,
) -> list[Picture]:
    if not chosen:
        return []
    reading = Reading(
        honour_exif=honours_exif(run.uri),
        access=request.access,
        full_uris=unredacted_uris(manifest, {item for item, _ in chosen}) if manifest else {},
        paged=runs.paged_items(run.uri),
        labels_base=storage.parent(str(runs.read_fingerprint(run.uri).get("manifest", ""))),
    )
    return make_pictures(run, chosen, reading, side_px=request.side_px, other=change.other if change else None)
