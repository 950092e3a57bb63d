"""First stage: manifest rows to the network's inputs. A bad item becomes a unit with a failure.

Whether an item is an image or a video is read from its bytes, never from its name. Of the model it knows only the
preprocessing profile.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import FetchError, ItemError, LimitError
from fsf_core.manifest import members
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.model.input_figures import input_figures
from fsf_core.stages import units
from fsf_core.stages.decode_row import failures_for_rest, is_video, unit_of_row
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.decode_video import decode_video
from fsf_core.stages.units import Frame, Unit

TABLE_UNITS = 64
"""Images and one-segment videos per output table; at 224×224, 64 images are 10 MB."""


def no_watchdog(running: bool) -> None:  # noqa: FBT001 - a switch
    """Set no time limit."""


def decode(
    rows: pa.Table, settings: DecodeSettings, *, watchdog: Callable[[bool], None] = no_watchdog
) -> Iterator[pa.Table]:
    """Decode manifest rows into units.

    Args:
        rows: item_id, uri, kind, row_digest, attempt, done_segments (list or null), `extra` where the manifest has
            columns, and for a task's share of a video `share` (first, stop, total) and `plan` (of `pack_plan`).
        settings: settings of the stage.
        watchdog: called with True when an item or its next segment begins, and with False when it is done. Segments
            that were done in an earlier run are decoded past, and count like any other.

    Yields:
        Tables of units (see units.to_table): one per `TABLE_UNITS` images, one per segment of a long video.
    """
    held: list[Unit] = []
    items = rows.to_pylist()
    openers = members.open_prefetched([row["uri"] for row in items], settings.access)
    for row, opener in zip(items, openers, strict=True):
        watchdog(True)
        for unit in _decode_item(row, opener, settings, lambda: watchdog(True)):
            if unit is None:
                watchdog(True)
            elif unit.segments > 1:
                watchdog(False)  # the consumer's time does not count
                yield units.to_table([unit], extra=settings.extra)
                watchdog(True)
            else:
                held.append(unit)
        watchdog(False)
        if len(held) >= TABLE_UNITS:
            yield units.to_table(held, extra=settings.extra)
            held = []
    if held:
        yield units.to_table(held, extra=settings.extra)


def _decode_item(
    row: Mapping[str, Any], opener: storage.Opener, settings: DecodeSettings, heartbeat: Callable[[], None]
) -> Iterator[Unit | None]:
    """Decode one item; an error becomes the failure of its remaining units.

    Yields:
        The units of the item; None for a segment that was done in an earlier run.
    """
    blank = unit_of_row(row)
    yielded: set[int] = set()
    try:
        with opener() as file:
            blank = replace(blank, item_version=storage.etag_or_mtime(file))
            size = _size_of(file)
            head = file.read(images.HEAD_BYTES)
            if is_video(head, row["kind"]):
                for unit in decode_video(file, blank, row, settings, heartbeat=heartbeat):
                    yielded.update(() if unit is None else (unit.segment,))
                    yield unit
            else:
                yield _decode_image(_read_whole(file, head, row["uri"], size, settings.limits), blank, settings)
    except (ItemError, OSError) as error:
        for unit in failures_for_rest(row, yielded, None, error):
            yield replace(unit, item_version=blank.item_version)


def _size_of(file: BinaryIO) -> int | None:
    """Return the size of an open file; None for a web server that does not send it, and cannot seek either."""
    with contextlib.suppress(FetchError, OSError):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return size
    return None


def _read_whole(file: BinaryIO, head: bytes, uri: str, size: int | None, limits: images.ImageLimits) -> bytes:
    """Return the head and what follows it.

    Raises:
        LimitError: the file is larger than the limit; it is not read.
        FetchError: it has more or fewer bytes than it had when it was opened.
    """
    if size is None:
        return head + file.read(limits.max_bytes + 1 - len(head))
    if size > limits.max_bytes:
        raise LimitError(f"found {size} bytes, the limit is {limits.max_bytes}; raise --max-bytes")
    data = head + file.read(max(0, size - len(head)))  # read(n) allocates n bytes, however short the file
    if len(data) != size or file.read(1):
        found = "more" if len(data) >= size else len(data)
        raise FetchError(
            f"{storage.redact(uri)} has a size of {size} bytes, found {found}; is it still being written? Copy it, or "
            "leave it out of the manifest"
        )
    return data


def _decode_image(data: bytes, blank: Unit, settings: DecodeSettings) -> Unit:
    """Decode an image and fit it into the network's input.

    Raises:
        LimitError: the image exceeds a limit.
        DecodeError: the image cannot be decoded.
    """
    if len(data) > settings.limits.max_bytes:
        raise LimitError(f"found more than {settings.limits.max_bytes} bytes, which is the limit; raise --max-bytes")
    image_HWC, notes = images.decode_image(data, honour_exif=settings.profile.honour_exif, limits=settings.limits)
    height_px, width_px = image_HWC.shape[:2]
    input_HWC = preprocess.fit(image_HWC, settings.profile)
    figures = input_figures(input_HWC, settings.profile.channel_order)
    return replace(
        blank,
        item_sha256=hashlib.sha256(data).hexdigest(),
        frames=[Frame(frame_index=0, pts_s=None, height_px=height_px, width_px=width_px, figures=figures)],
        inputs_HWC=[input_HWC],
        source_images=[data] if settings.overlays else [],
        notes=notes,
    )
