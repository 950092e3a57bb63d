"""First stage: manifest rows to the network's inputs. A bad item becomes a unit with a failure.

Whether an item is an image or a video is read from its bytes, never from its name. Of the model it knows only the
preprocessing profile.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import storage
from fsf_core.errors import ItemError
from fsf_core.manifest import LABEL_COLUMN, members
from fsf_core.media import images
from fsf_core.model.input_figures import input_figures
from fsf_core.stages import units
from fsf_core.stages.decode_pages import decode_pages
from fsf_core.stages.decode_row import failures_for_rest, is_video, unit_of_row
from fsf_core.stages.decode_settings import DecodeSettings, fit_within, looked_at
from fsf_core.stages.decode_video import decode_video
from fsf_core.stages.labels import label_of_image
from fsf_core.stages.units import Frame, Unit
from fsf_core.stages.whole_files import read_whole, size_of

TABLE_BYTES = 128 << 20
"""Bytes of frames from which a table is yielded before it has table_units: 4 inputs of 4000×3000, 20 of 1920×1080;
source images and labels count too."""


def no_watchdog(running: bool) -> None:  # noqa: FBT001 - a switch
    """Set no time limit."""


def decode(
    rows: pa.Table, settings: DecodeSettings, *, watchdog: Callable[[bool], None] = no_watchdog
) -> Iterator[pa.Table]:
    """Decode manifest rows into units.

    Args:
        rows: item_id, uri, kind, row_digest, attempt, done_segments (list or null), `extra` where the manifest has
            columns, `label_uri` where it names labels, and for a task's share of a video `share` (first, stop, total)
            and `plan` (of `pack_plan`).
        settings: settings of the stage.
        watchdog: called with True when an item or its next segment begins, and with False when it is done. Segments
            that were done in an earlier run are decoded past, and count like any other.

    Yields:
        Tables of units (see units.to_table): one per `table_units` images or `TABLE_BYTES`, one per segment of a long
        video.
    """
    held: list[Unit] = []
    held_bytes = 0
    room = images.Room()
    items = rows.to_pylist()
    openers = members.open_prefetched([row["uri"] for row in items], settings.access)
    labels = labels_of(items, settings)
    for row, opener, with_label in zip(items, openers, labels, strict=True):
        watchdog(True)
        for unit in _decode_item(row, opener, with_label, settings, room, lambda: watchdog(True)):
            if unit is None:
                watchdog(True)
            elif unit.segments > 1:
                watchdog(False)  # the consumer's time does not count
                yield units.to_table([unit], extra=settings.extra, labelled=settings.labelled)
                watchdog(True)
            else:
                held.append(unit)
                held_bytes += _frame_bytes(unit)
        watchdog(False)
        if len(held) >= settings.table_units or held_bytes >= TABLE_BYTES:
            yield units.to_table(held, extra=settings.extra, labelled=settings.labelled)
            held, held_bytes = [], 0
    if held:
        yield units.to_table(held, extra=settings.extra, labelled=settings.labelled)


def _frame_bytes(unit: Unit) -> int:
    """Return the bytes of a unit as `units.frame_bytes` counts those of a table."""
    inputs = sum(array.nbytes for array in unit.inputs_HWC)
    return inputs + sum(map(len, unit.source_images)) + sum(len(label.data) for label in unit.labels if label)


def _decode_item(
    row: Mapping[str, Any],
    opener: storage.Opener,
    with_label: Callable[[Unit], Unit],
    settings: DecodeSettings,
    room: images.Room,
    heartbeat: Callable[[], None],
) -> Iterator[Unit | None]:
    """Decode one item; an error becomes the failure of its remaining units.

    Yields:
        The units of the item; None for a segment that was done in an earlier run.
    """
    version: str | None = None
    yielded: set[int] = set()
    try:
        with opener() as file:
            version = storage.etag_or_mtime(file)
            size = size_of(file)
            head = file.read(images.HEAD_BYTES)
            if is_video(head, row["kind"]):
                blank = unit_of_row(row, item_version=version)
                for unit in decode_video(file, blank, row, settings, heartbeat=heartbeat):
                    yielded.update(() if unit is None else (unit.segment,))
                    yield unit
            else:
                data = read_whole(file, row["uri"], size=size, max_bytes=settings.limits.max_bytes, head=head)
                listed = images.read_pages(data) if settings.pages == "all" else None
                if listed and (len(listed.pages) > 1 or listed.error):
                    for unit in decode_pages(data, listed, unit_of_row(row, item_version=version), row, settings):
                        yielded.update(() if unit is None else (unit.segment,))
                        yield unit
                else:
                    yield with_label(_decode_image(data, row, version, settings, room))
    except (ItemError, OSError) as error:
        for unit in failures_for_rest(row, yielded, None, error):
            yield replace(unit, item_version=version)


def labels_of(items: Sequence[Mapping[str, Any]], settings: DecodeSettings) -> Iterator[Callable[[Unit], Unit]]:
    """Yield for every row what gives the unit of an image its label, while the next labels are fetched."""
    uris = [row.get(LABEL_COLUMN) for row in items]
    openers = storage.open_prefetched([uri for uri in uris if uri], settings.access)
    for uri in uris:
        if uri:
            yield partial(label_of_image, uri=uri, opener=next(openers), settings=settings)
        else:
            yield lambda unit: unit


def _decode_image(
    data: bytes, row: Mapping[str, Any], version: str | None, settings: DecodeSettings, room: images.Room
) -> Unit:
    """Decode an image, in a room for one, and fit it into the network's input.

    Raises:
        LimitError: the image, or the network's input for it, exceeds a limit of its size.
        DecodeError: the image cannot be decoded.
    """
    image_HWC, notes = images.decode_image(
        data,
        honour_exif=settings.profile.honour_exif,
        limits=settings.limits,
        wanted=partial(looked_at, profile=settings.profile),
        room=room,
    )
    height_px, width_px = image_HWC.shape[:2]
    input_HWC = fit_within(image_HWC, settings)
    if np.may_share_memory(input_HWC, image_HWC):  # of the input's own size and order of channels
        input_HWC = input_HWC.copy()
    figures = input_figures(input_HWC, settings.profile.channel_order)
    return unit_of_row(
        row,
        item_version=version,
        item_sha256=hashlib.sha256(data).hexdigest(),
        frames=[Frame(frame_index=0, pts_s=None, height_px=height_px, width_px=width_px, figures=figures)],
        inputs_HWC=[input_HWC],
        source_images=[data] if settings.overlays else [],
        notes=notes,
    )
