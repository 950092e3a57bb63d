"""Looking at a run: count tables as the seed printed them, and pictures with their classes drawn over them.

Reads committed rows only, and the source picture where one is to be drawn upon.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import masks, runs, storage
from fsf_core.errors import ConfigError, FSFError, OutputError
from fsf_core.manifest import members
from fsf_core.media import images, video


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture with its classes drawn over it."""

    png: bytes
    frame_index: int
    height_px: int
    width_px: int


def find_item(run_uri: str, wanted: str | None) -> str:
    """The id that is meant: exactly, or by the end or the stem of a file name where one fits; by default the first.

    Raises:
        ConfigError: none fits, or several do.
        OutputError: no run is there.
    """
    scored = runs.read_table(run_uri, "masks", columns=["item_id"]).column("item_id")
    failed = runs.read_table(run_uri, "failures", columns=["item_id"]).column("item_id")
    known = sorted({*pc.unique(scored).to_pylist(), *pc.unique(failed).to_pylist()})
    if wanted is None and known:
        return str(known[0])
    if wanted in known:
        return str(wanted)
    near = [i for i in known if wanted and (i.endswith(f"/{wanted}") or PurePosixPath(i).stem == wanted)]
    if len(near) == 1:
        return str(near[0])
    found = f"{len(near)} such ids ({', '.join(near[:5])})" if near else f"no such id among {len(known)}"
    shown = ", ".join(known[:5])
    raise ConfigError(f"asked for item {wanted!r}, found {found}; ids are like {shown}")


def run_table(run_uri: str) -> str:
    """Count table, items and failures of the whole run."""
    stats = runs.read_table(run_uri, "class_stats", columns=["class_id", "class_name", "pixels"])
    frames = runs.read_table(run_uri, "masks", columns=["item_id"])
    failures = runs.read_table(run_uri, "failures", columns=["item_id", "stage", "error_type", "error_message"])
    scored, failed = (len(pc.unique(table.column("item_id"))) for table in (frames, failures))
    lines = [_counts(stats), f"{scored} items with {frames.num_rows} frames, {failed} items with failures"]
    lines += [_failure_line(row) for row in failures.slice(0, 20).to_pylist()]
    if failures.num_rows > 20:  # noqa: PLR2004 - as many as fit a screen
        lines.append(f"… and {failures.num_rows - 20} more in {storage.join(run_uri, 'failures')}")
    return "\n".join(lines)


def item_table(run_uri: str, item_id: str, *, frame_index: int | None = None) -> str:
    """Count table of one item, or of one of its frames, and its failures."""
    stats = runs.read_table(run_uri, "class_stats", item_id=item_id)
    if frame_index is not None:
        stats = stats.filter(pc.equal(stats.column("frame_index"), frame_index))
    failures = runs.read_table(run_uri, "failures", item_id=item_id).to_pylist()
    frames = len(pc.unique(stats.column("frame_index")))
    lines = [f"{item_id}: {frames} frame{'' if frames == 1 else 's'}"]
    if frames:
        lines.append(_counts(stats))
    return "\n".join([*lines, *map(_failure_line, failures)])


def draw(run_uri: str, item_id: str, *, frame_index: int | None, clear_background: bool) -> Drawing:
    """The source picture with the classes of its mask over it.

    Raises:
        ConfigError: the item has no such frame.
        FetchError, DecodeError: the source is no longer there, or not what it was.
    """
    rows = runs.read_table(run_uri, "masks", item_id=item_id).sort_by("frame_index")
    if frame_index is not None:
        rows = rows.filter(pc.equal(rows.column("frame_index"), frame_index))
    if not rows.num_rows:
        which = "no frame" if frame_index is None else f"no frame {frame_index}"
        raise ConfigError(f"item {item_id!r} has {which} in this run; see its failures with `fsf inspect`")
    row = rows.slice(0, 1).to_pylist()[0]
    image_HWC = _source(row, honour_exif=_honours_exif(run_uri))
    class_map_HW: NDArray[Any] = masks.decode_png(row["mask"]["bytes"])
    height_px, width_px = image_HWC.shape[:2]
    if class_map_HW.shape != (height_px, width_px):
        class_map_HW = np.asarray(cv2.resize(class_map_HW, (width_px, height_px), interpolation=cv2.INTER_NEAREST))
    palette_K3 = _palette(run_uri)
    drawn = masks.overlay(image_HWC, class_map_HW, palette_K3, clear_background=clear_background)
    _, png = cv2.imencode(".png", drawn)
    return Drawing(png=png.tobytes(), frame_index=row["frame_index"], height_px=height_px, width_px=width_px)


def _source(row: dict[str, Any], *, honour_exif: bool) -> NDArray[np.uint8]:
    """The picture or video frame that a row of masks was made from."""
    with members.open_item(row["uri"]) as file:
        if row["pts_s"] is None:
            return images.decode_bgr(file.read(), honour_exif=honour_exif, limits=images.ImageLimits())
        index = video.index_video(file)
        for frame in video.decode_frames(file, index):
            if frame.frame_index == row["frame_index"]:
                return frame.image_HWC
    raise FSFError(f"{row['uri']} no longer has frame {row['frame_index']}; was it replaced?")


def _honours_exif(run_uri: str) -> bool:
    return bool(runs.read_document(run_uri, "run.json")["attempts"][-1]["honour_exif"])


def _palette(run_uri: str) -> NDArray[np.uint8]:
    return np.asarray(runs.read_document(run_uri, "run.json")["fingerprint"]["palette"], np.uint8)


def _counts(stats: Any) -> str:
    totals = stats.group_by(["class_id", "class_name"]).aggregate([("pixels", "sum")]).sort_by("class_id").to_pylist()
    if not totals:
        raise OutputError("the run has no scored frames; see its failures")
    return masks.count_table(
        [row["class_name"] for row in totals], np.asarray([row["pixels_sum"] for row in totals], np.int64)
    )


def _failure_line(row: dict[str, Any]) -> str:
    return f"failed: {row['item_id']} in {row['stage']}: {row['error_type']}: {row['error_message']}"
