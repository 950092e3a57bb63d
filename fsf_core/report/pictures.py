"""Thumbnails of chosen frames: the picture, its mask, its label and the mask of another run, all of one bounded size.

A source that is missing or has changed leaves the mask alone, with a note. Pictures are read and decoded in threads.
"""

# H×W pixels, C channels, K classes

import base64
import io
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from fsf_core import masks, runs, storage
from fsf_core.errors import FSFError
from fsf_core.manifest import LABEL_COLUMN
from fsf_core.render.plan import with_credentials
from fsf_core.report.choose import FrameKey
from fsf_core.report.sources import Recorded, Source, read_label, read_source
from fsf_core.runs.parquet import open_parquet
from fsf_core.schema import MASKS, complete

THREADS = 4
"""Pictures that are decoded at once; each may hold an image of the largest size that a run takes."""

LARGE_SIDE_PX = 2048
"""Longest side that is read of a mask that is too large for a PNG, if not a little more."""

MAX_TOTAL_BYTES = 8_000_000
"""Encoded bytes of all pictures of a page; base64 adds a third."""

QUALITIES = ((1.0, 80), (0.8, 70), (0.6, 60), (0.4, 50))
"""Side over the wanted side, and quality of WebP: the first pair whose pictures fit into MAX_TOTAL_BYTES."""

IGNORED_RGBA = (160, 160, 160, 255)

BATCH_ROWS = 64
"""Rows of masks with their PNG that are in memory at once."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the sources of a run are read."""

    honour_exif: bool
    access: storage.Access | None
    full_uris: Mapping[str, str]
    """Item id to URI for those whose URI holds a credential."""
    paged: frozenset[str] = frozenset()
    """Items whose frames are pages; their labels are folders."""
    labels_base: str = ""
    """Folder that relative addresses of labels count from: that of the manifest."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame, ready for a page; each part is the bytes of an image file, or None where there is none."""

    key: FrameKey
    pts_s: float | None
    height_px: int
    width_px: int
    """Size of the source."""
    shown_height_px: int
    shown_width_px: int
    photo: bytes | None
    mask: bytes
    label: bytes | None
    other: bytes | None
    """Mask of the same frame in the other run."""
    notes: tuple[str, ...]
    shares: tuple[tuple[int, float], ...]
    """Class ids of the mask and their shares of its pixels, the largest first."""

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of all parts."""
        return sum(len(part) for part in (self.photo, self.mask, self.label, self.other) if part)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How thumbnails are made."""

    run_uri: str
    other_uri: str
    """Of the other run."""
    palette_K3: NDArray[np.uint8]
    other_palette_K3: NDArray[np.uint8]
    """Of the other run."""
    side_px: int
    quality: int


def make_pictures(
    run: runs.RunReader,
    keys: Collection[FrameKey],
    reading: Reading,
    *,
    side_px: int,
    other: runs.RunReader | None = None,
) -> list[Picture]:
    """Make the pictures of some frames, within MAX_TOTAL_BYTES together.

    Args:
        run: the run.
        keys: frames that the run has.
        reading: how its sources are read.
        side_px: longest side of a picture.
        other: another run; its mask of the same frame is shown beside, if it has one.

    Returns:
        One picture for each key, in another order.
    """
    rows = {(row["item_id"], row["frame_index"]): row for row in read_rows(run.uri, keys)}
    others = {(row["item_id"], row["frame_index"]): row for row in read_rows(other.uri, keys)} if other else {}
    palettes = [np.asarray(each.palette, np.uint8) for each in (run, other or run)]
    pictures: list[Picture] = []
    with ThreadPoolExecutor(THREADS, "fsf-report") as pool:
        for scale, quality in QUALITIES:
            look = _Look(
                run_uri=run.uri,
                other_uri=(other or run).uri,
                palette_K3=palettes[0],
                other_palette_K3=palettes[1],
                side_px=max(32, int(side_px * scale)),
                quality=quality,
            )
            make = partial(_make, reading=reading, look=look)
            pictures = [*pool.map(lambda key: make(rows[key], others.get(key)), rows)]  # noqa: B023 - used at once
            if sum(picture.size_bytes for picture in pictures) <= MAX_TOTAL_BYTES:
                break
    return pictures


def read_rows(run_uri: str, keys: Collection[FrameKey]) -> Iterator[dict[str, Any]]:
    """Yield the rows of masks of some frames, with the PNG; each part that holds one is read once.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    by_item: dict[str, list[int]] = {}
    for item, frame in keys:
        by_item.setdefault(item, []).append(frame)
    for receipt in runs.receipts(run_uri):
        wanted = _frames_in(receipt, by_item)
        if not wanted:
            continue
        with open_parquet(run_uri, receipt.files["masks"]["path"], streamed=True) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, use_threads=False):
                ids, frames = batch.column("item_id").to_pylist(), batch.column("frame_index").to_pylist()
                for row, key in enumerate(zip(ids, frames, strict=True)):
                    if key in wanted:
                        wanted.remove(key)
                        yield complete(batch.slice(row, 1), MASKS).to_pylist()[0]
                if not wanted:
                    break


def _frames_in(receipt: runs.Receipt, by_item: Mapping[str, Sequence[int]]) -> set[FrameKey]:
    """Return the wanted frames that the units of a part cover."""
    items = pa.array([*by_item], pa.string())
    return {
        (unit["item_id"], frame)
        for unit in receipt.units.filter(pc.is_in(receipt.units.column("item_id"), items)).to_pylist()
        if unit["frames"]
        for frame in by_item[unit["item_id"]]
        if unit["first_frame"] <= frame <= unit["last_frame"]
    }


def _make(
    row: Mapping[str, Any],
    other: Mapping[str, Any] | None,
    *,
    reading: Reading,
    look: _Look,
) -> Picture:
    """Make one picture; what cannot be read becomes a note."""
    notes = [str(row["notes"])] if row.get("notes") else []
    step = _step(row)
    class_map_HW = runs.class_map_of(look.run_uri, row["mask"], step=step)
    if step > 1:
        notes.append(f"Every {step}th row and column of the mask is shown, and counted in the shares")
    size = fit(row["height_px"], row["width_px"], look.side_px)
    photo = _noted(notes, "Picture", lambda: _photo(_read(row, reading), size, look.quality))
    label = None
    if row.get(LABEL_COLUMN) and row["pts_s"] is None and row["item_id"] not in reading.paged:
        label = _noted(notes, "Label", lambda: _png(_label(row, reading, look), size, look.palette_K3))
    before = None
    if other is not None:
        before = _noted(
            notes,
            "Other mask",
            lambda: _png(
                runs.class_map_of(look.other_uri, other["mask"], step=_step(other)), size, look.other_palette_K3
            ),
        )
    return Picture(
        key=(row["item_id"], row["frame_index"]),
        pts_s=row["pts_s"],
        height_px=row["height_px"],
        width_px=row["width_px"],
        shown_height_px=size[0],
        shown_width_px=size[1],
        photo=photo,
        mask=_png(class_map_HW, size, look.palette_K3),
        label=label,
        other=before,
        notes=tuple(notes),
        shares=_shares(class_map_HW),
    )


def _step(row: Mapping[str, Any]) -> int:
    """Return the step between the rows and columns of a mask that are read: 1 but for one that is no PNG."""
    return 1 if row["mask"]["bytes"] else max(1, max(row["height_px"], row["width_px"]) // LARGE_SIDE_PX)


def _shares(class_map_HW: masks.ClassMap) -> tuple[tuple[int, float], ...]:
    counts = np.bincount(class_map_HW.reshape(-1))
    order = np.argsort(-counts, kind="stable")
    return tuple((int(k), float(counts[k] / class_map_HW.size)) for k in order if counts[k])


def _noted(notes: list[str], what: str, make: Callable[[], bytes]) -> bytes | None:
    """Return what a function makes, or None and a note that says why not."""
    try:
        return make()
    except (FSFError, OSError, ValueError, MemoryError) as error:
        reason = str(error) if isinstance(error, FSFError) else type(error).__name__
        notes.append(f"{what} not shown: {reason}")
        return None


def _read(row: Mapping[str, Any], reading: Reading) -> NDArray[np.uint8]:
    """Read the source of a row."""
    uri = with_credentials(row["uri"], reading.full_uris.get(row["item_id"]))
    return read_source(
        Source(
            uri=uri,
            frame_index=row["frame_index"],
            is_video=row["pts_s"] is not None,
            pixels=row["height_px"] * row["width_px"],
        ),
        honour_exif=reading.honour_exif,
        access=reading.access,
        recorded=Recorded(sha256=row["item_sha256"], version=row["item_version"]),
    )


def _label(row: Mapping[str, Any], reading: Reading, look: _Look) -> masks.ClassMap:
    """Read the label of an image."""
    return read_label(
        storage.absolute(row[LABEL_COLUMN], reading.labels_base),
        palette_K3=look.palette_K3,
        num_classes=len(look.palette_K3),
        access=reading.access,
    )


def fit(height_px: int, width_px: int, side_px: int) -> tuple[int, int]:
    """Return height and width of a picture whose longest side is at most `side_px`, never enlarged."""
    scale = min(1.0, side_px / max(height_px, width_px))
    return max(1, round(height_px * scale)), max(1, round(width_px * scale))


def _photo(image_HWC: NDArray[np.uint8], size: tuple[int, int], quality: int) -> bytes:
    small_HWC = cv2.resize(image_HWC, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    buffer = io.BytesIO()
    Image.fromarray(cv2.cvtColor(small_HWC, cv2.COLOR_BGR2RGB)).save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _png(class_map_HW: masks.ClassMap, size: tuple[int, int], palette_K3: NDArray[np.uint8]) -> bytes:
    """Paint a class map as a PNG with the colours of the classes; ids without a colour are ignored pixels, and grey.

    Black is clear, so that a class drawn in black leaves the picture below it visible.
    """
    small_HW = cv2.resize(class_map_HW, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    colours_N4 = np.full((1 << (8 * small_HW.itemsize), 4), IGNORED_RGBA, np.uint8)
    colours_N4[: len(palette_K3), :3] = palette_K3
    colours_N4[: len(palette_K3), 3] = np.where(palette_K3.any(axis=1), 255, 0)
    present, places = np.unique(small_HW, return_inverse=True)
    buffer = io.BytesIO()
    if len(present) <= 256:  # noqa: PLR2004 # entries of a PNG palette
        image = Image.fromarray(places.reshape(small_HW.shape).astype(np.uint8), "P")
        image.putpalette(colours_N4[present].tobytes(), "RGBA")
    else:
        image = Image.fromarray(colours_N4[small_HW])
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(kind: str, data: bytes) -> str:
    """Return an image file as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
