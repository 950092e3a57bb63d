"""First stage: manifest rows to the network's inputs. A bad item becomes a unit with a reason.

What an item is (image or video) is read from its bytes, never from its name. Knows no model beyond its input profile.
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
from fsf_core.stages import units
from fsf_core.stages.decode_row import HEAD_BYTES, DecodeSettings, failures_for_rest, is_video, unit_of_row
from fsf_core.stages.decode_video import decode_video
from fsf_core.stages.units import Frame, Unit

HELD_ITEMS = 64
"""Images that leave together; at 224×224 they are 10 MB."""


def no_alarm(running: bool) -> None:  # noqa: FBT001 - a switch
    """Let every item take its time."""


def decode(rows: pa.Table, settings: DecodeSettings, *, alarm: Callable[[bool], None] = no_alarm) -> Iterator[pa.Table]:
    """Decode manifest rows into units.

    Args:
        rows: item_id, uri, kind, attempt, done_segments (list or null), `extra` where the manifest has columns, and
            where a task gets some segments of a video `share` (first, stop and total) and `plan` (of `pack`).
        settings: as it says.
        alarm: called with True when an item, or the next segment of one, begins, and with False when it is there.
            Segments that were done in an earlier run are decoded past, and count as any other.

    Yields:
        Tables of units (see units.to_table): one for some of the images, one for every segment of a long video.
    """
    held: list[Unit] = []
    every = rows.to_pylist()
    openings = members.open_prefetched([row["uri"] for row in every], schemes=settings.schemes)
    for row, opening in zip(every, openings, strict=True):
        alarm(True)
        for unit in _decode_item(row, opening, settings):
            if unit is None:
                alarm(True)
            elif unit.segments > 1:
                alarm(False)  # who takes the segment may take long
                yield units.to_table([unit], extra=settings.extra)
                alarm(True)
            else:
                held.append(unit)
        alarm(False)
        if len(held) >= HELD_ITEMS:
            yield units.to_table(held, extra=settings.extra)
            held = []
    if held:
        yield units.to_table(held, extra=settings.extra)


def _decode_item(row: Mapping[str, Any], opening: storage.Opener, settings: DecodeSettings) -> Iterator[Unit | None]:
    """All units of one item, whatever goes wrong in the last one; None where a segment was done in an earlier run."""
    blank = unit_of_row(row)
    given: set[int] = set()
    try:
        with opening() as file:
            blank = replace(blank, item_version=storage.etag_or_mtime(file))
            head = file.read(HEAD_BYTES)
            if is_video(head, row["kind"]):
                for unit in decode_video(file, blank, row, settings):
                    given.update(() if unit is None else (unit.segment,))
                    yield unit
            else:
                yield _decode_image(head + _rest(file, head, settings.limits), blank, settings)
    except (ItemError, OSError) as error:
        for unit in failures_for_rest(row, given, None, error):
            yield replace(unit, item_version=blank.item_version)


def _rest(file: BinaryIO, head: bytes, limits: images.ImageLimits) -> bytes:
    """What follows the head.

    Raises:
        LimitError: the file is larger than the limit, and is not read for that.
    """
    most = limits.max_bytes + 1 - len(head)
    with contextlib.suppress(FetchError, OSError):  # a web server that does not tell the size cannot seek either
        size = file.seek(0, os.SEEK_END)
        file.seek(len(head))
        if size > limits.max_bytes:
            raise LimitError(f"found {size} bytes, the limit is {limits.max_bytes}; raise --max-bytes")
        most = size - len(head)  # a read of a gigabyte takes a gigabyte, however short the file
    return file.read(most)


def _decode_image(data: bytes, blank: Unit, settings: DecodeSettings) -> Unit:
    if len(data) > settings.limits.max_bytes:
        raise LimitError(f"found more than {settings.limits.max_bytes} bytes, which is the limit; raise --max-bytes")
    image_HWC = images.decode_bgr(data, honour_exif=settings.profile.honour_exif, limits=settings.limits)
    height_px, width_px = image_HWC.shape[:2]
    return replace(
        blank,
        item_sha256=hashlib.sha256(data).hexdigest(),
        frames=[Frame(frame_index=0, pts_s=None, height_px=height_px, width_px=width_px)],
        inputs_HWC=[preprocess.fit(image_HWC, settings.profile)],
        source_images=[data] if settings.overlays else [],
    )
