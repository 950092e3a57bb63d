"""A finished or running run for people: count tables as text, and one image with its classes drawn over it.

Reads committed rows only, and the source of an image that is drawn upon.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import masks, runs, storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.render.draw import RenderStyle, add_legend, class_shares, paint
from fsf_core.report.sources import Source, honours_exif, read_source
from fsf_core.safe_text import printable


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """An image with its classes drawn over it."""

    png: bytes
    frame_index: int
    height_px: int
    width_px: int


def find_item(run_uri: str, wanted: str | None) -> str:
    """Return the id that is meant: exactly this one, or the only one that ends with it or has it as its stem.

    Args:
        run_uri: the run.
        wanted: id of an item, or the end of one; None for the first item.

    Raises:
        ConfigError: no id fits, or several do.
        OutputError: there is no run.
    """
    tables = [runs.read_table(run_uri, name, columns=["item_id"]) for name in ("masks", "failures")]
    known = sorted({str(item_id) for table in tables for item_id in pc.unique(table.column("item_id")).to_pylist()})
    if wanted is None and known:
        return known[0]
    if wanted is not None and wanted in known:
        return wanted
    fitting = [name for name in known if wanted and (name.endswith(f"/{wanted}") or PurePosixPath(name).stem == wanted)]
    if len(fitting) == 1:
        return fitting[0]
    found = f"{len(fitting)} such ids ({', '.join(fitting[:5])})" if fitting else f"no such id among {len(known)}"
    raise ConfigError(f"asked for item {wanted!r}, found {found}; ids look like {', '.join(known[:5])}")


def run_table(run_uri: str) -> str:
    """Return the count table, the items and the failures of the whole run, as text."""
    stats = runs.read_table(run_uri, "class_stats", columns=["class_id", "class_name", "pixels"])
    frames = runs.read_table(run_uri, "masks", columns=["item_id", "notes"])
    failures = runs.read_table(run_uri, "failures", columns=["item_id", "stage", "error_type", "error_message"])
    scored, failed = (len(pc.unique(table.column("item_id"))) for table in (frames, failures))
    lines = [_counts(stats), f"{scored} items with {frames.num_rows} frames, {failed} items with failures"]
    noted = len(pc.unique(frames.filter(pc.is_valid(frames.column("notes"))).column("item_id")))
    if noted:
        lines.append(f"{noted} item{'' if noted == 1 else 's'} with notes; see the column notes of masks")
    lines += _label_lines(run_uri)
    lines += [_failure_line(row) for row in failures.slice(0, 20).to_pylist()]
    if failures.num_rows > 20:  # noqa: PLR2004 - a screen
        lines.append(printable(f"… and {failures.num_rows - 20} more in {storage.join(run_uri, 'failures')}"))
    return "\n".join(lines)


def item_table(run_uri: str, item_id: str, *, frame_index: int | None = None) -> str:
    """Return the count table of an item, or of one of its frames, its notes and its failures, as text.

    Raises:
        ConfigError: the item has no such frame, and no failure.
    """
    stats = runs.read_table(run_uri, "class_stats", item_id=item_id)
    if frame_index is not None:
        stats = stats.filter(pc.equal(stats.column("frame_index"), frame_index))
    failures = runs.read_table(run_uri, "failures", item_id=item_id).to_pylist()
    notes = pc.unique(runs.read_table(run_uri, "masks", item_id=item_id, columns=["notes"]).column("notes"))
    frames = len(pc.unique(stats.column("frame_index")))
    if frame_index is not None and not frames and not failures:
        _mask_row(run_uri, item_id, frame_index)  # refuses the frame
    lines = [f"{printable(item_id)}: {frames} frame{'' if frames == 1 else 's'}"]
    if frames:
        lines.append(_counts(stats))
    lines += [printable(f"note: {note}") for note in notes.to_pylist() if note is not None]
    lines += _label_lines(run_uri, item_id) if frame_index is None else []
    return "\n".join([*lines, *map(_failure_line, failures)])


def _label_lines(run_uri: str, item_id: str | None = None) -> list[str]:
    """Return what the labels of a run, or of one item, say of its masks; nothing where it has none."""
    names = ["item_id", "label_class_id", "predicted_class_id", "pixels"]
    cells = runs.read_table(run_uri, "confusion", item_id=item_id, columns=names)
    if not cells.num_rows:
        return []
    pixels = cells.column("pixels")
    correct = pc.equal(cells.column("label_class_id"), cells.column("predicted_class_id"))
    accuracy = pc.sum(pixels.filter(correct), min_count=0).as_py() / pc.sum(pixels).as_py()
    items = len(pc.unique(cells.column("item_id")))
    labelled = f"{items} item{'' if items == 1 else 's'} with labels" if item_id is None else "labelled"
    return [f"{labelled}: {accuracy:.2%} of the pixels correct; see `fsf evaluate`"]


def draw(
    run_uri: str,
    item_id: str,
    *,
    frame_index: int | None,
    clear_background: bool,
    legend: bool = False,
    access: storage.Access | None = None,
) -> Drawing:
    """Draw the classes of an item's mask over its source image.

    Args:
        run_uri: the run.
        item_id: the item.
        frame_index: a frame of a video; None for the first one scored.
        clear_background: leave class 0 undrawn.
        legend: add names, colours and shares of the classes; an image too small for them becomes wider.
        access: which addresses of sources may be opened; None for any.

    Raises:
        ConfigError: the item has no such frame.
        FetchError, DecodeError: the source is gone, or has changed.
        LimitError: the picture is too large to be drawn upon.
    """
    run = runs.open_run(run_uri)
    row = _mask_row(run_uri, item_id, frame_index)
    source = Source(
        uri=row["uri"],
        frame_index=row["frame_index"],
        is_video=row["pts_s"] is not None,
        pixels=row["height_px"] * row["width_px"],
    )
    image_HWC = read_source(source, honour_exif=honours_exif(run_uri), access=access)
    class_map_HW = runs.class_map_of(run_uri, row["mask"])
    look = RenderStyle(
        style="blend", legend=False, clear_background=clear_background, names=run.classes, palette=run.palette
    )
    drawn_HWC = paint(image_HWC, class_map_HW, look)
    if legend:
        shares = class_shares(class_map_HW, len(run.classes))
        drawn_HWC = add_legend(drawn_HWC, names=run.classes, palette=run.palette, shares=shares)
    height_px, width_px = drawn_HWC.shape[:2]
    _, png = cv2.imencode(".png", drawn_HWC)
    return Drawing(png=png.tobytes(), frame_index=row["frame_index"], height_px=height_px, width_px=width_px)


def _mask_row(run_uri: str, item_id: str, frame_index: int | None) -> dict[str, Any]:
    """Return the row of a frame, or of the item's first one.

    Raises:
        ConfigError: there is none.
    """
    rows = runs.read_table(run_uri, "masks", item_id=item_id).sort_by("frame_index")
    if frame_index is not None:
        rows = rows.filter(pc.equal(rows.column("frame_index"), frame_index))
    if not rows.num_rows:
        which = "no frame" if frame_index is None else f"no frame {frame_index}"
        raise ConfigError(f"item {item_id!r} has {which} in this run; see its failures with `fsf inspect`")
    row: dict[str, Any] = rows.slice(0, 1).to_pylist()[0]
    return row


def _counts(stats: pa.Table) -> str:
    """Return the pixels per class as a table.

    Raises:
        OutputError: there are none.
    """
    totals = stats.group_by(["class_id", "class_name"]).aggregate([("pixels", "sum")]).sort_by("class_id").to_pylist()
    if not totals:
        raise OutputError("the run has no scored frames; see its failures")
    return masks.count_table(
        [printable(row["class_name"]) for row in totals], np.asarray([row["pixels_sum"] for row in totals], np.int64)
    )


def _failure_line(row: dict[str, Any]) -> str:
    return printable(f"failed: {row['item_id']} in {row['stage']}: {row['error_type']}: {row['error_message']}")
