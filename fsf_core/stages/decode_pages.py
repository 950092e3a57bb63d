"""Pages of a TIFF to units: each page is a frame, consecutive pages are a segment."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fsf_core.errors import ItemError, LabelError
from fsf_core.manifest import LABEL_COLUMN
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.model.input_figures import input_figures
from fsf_core.stages import units
from fsf_core.stages.decode_row import failures_for_rest
from fsf_core.stages.decode_settings import DecodeSettings, fit_within
from fsf_core.stages.decode_video import encode_jpeg
from fsf_core.stages.labels import FrameLabels, plan_labels
from fsf_core.stages.units import Failure, Frame, Unit

SEGMENT_BYTES = 128 << 20
"""Inputs of the pages of one segment; a larger page is a segment of its own."""


def decode_pages(
    data: bytes, listed: images.Pages, blank: Unit, row: Mapping[str, Any], settings: DecodeSettings
) -> Iterator[Unit | None]:
    """Decode the pages of a TIFF.

    Args:
        data: the whole file.
        listed: its pages, at least one.
        blank: the unit without segments.
        row: a row of the manifest.
        settings: settings of the stage.

    Yields:
        A unit per segment; it ends before the first page that cannot be decoded, and the next one goes on. None for a
        segment that was done in an earlier run. Failed units if the labels cannot be used.
    """
    segments = _segments(listed.pages, settings)
    done = frozenset(row["done_segments"] or ())
    whole = replace(blank, segments=len(segments), item_sha256=hashlib.sha256(data).hexdigest())
    label_uri = row.get(LABEL_COLUMN)
    labels = plan_labels(label_uri, len(listed.pages), settings) if label_uri else None
    if labels and labels.error:
        for unit in failures_for_rest(row, set(), len(segments), LabelError(labels.error), stage="label"):
            yield replace(unit, item_version=blank.item_version)
        return
    for number, span in enumerate(segments):
        if number in done:
            yield None
            continue
        unit = _decode_segment(data, listed, span, replace(whole, segment=number), settings)
        yield FrameLabels(labels, span, settings).attach(unit) if labels and unit.frames else unit


def _segments(pages: Sequence[images.PageEntry], settings: DecodeSettings) -> list[range]:
    """Divide pages into segments of limited frames and bytes, by the sizes that they declare."""
    sizes = [_input_bytes(page, settings) for page in pages]
    chunks = units.chunks([1] * len(pages), settings.segment_frames, sizes=sizes, max_bytes=SEGMENT_BYTES)
    return [range(chunk.start, chunk.stop) for chunk in chunks]


def _input_bytes(page: images.PageEntry, settings: DecodeSettings) -> int:
    """Return the bytes of the network's input for a page; 0 for a page without an input, which fails by itself.

    Whether a limit refuses the input does not count: a job that is resumed with another limit has the same segments.
    """
    try:
        rows, columns = preprocess.input_hw(page.height_px, page.width_px, settings.profile)
    except (ValueError, ZeroDivisionError):
        return 0
    return 3 * rows * columns


def _decode_segment(data: bytes, listed: images.Pages, span: range, unit: Unit, settings: DecodeSettings) -> Unit:
    """Return the unit of consecutive pages, with a failure at the first one that cannot be decoded or found."""
    frames, inputs_HWC, sources, notes = [], [], [], []
    why: Failure | None = None
    for number in span:
        try:
            image_HWC, note = images.decode_page(
                data, listed.pages[number], honour_exif=settings.profile.honour_exif, limits=settings.limits
            )
            input_HWC = fit_within(image_HWC, settings)
        except ItemError as error:
            why = units.failure("decode", error, frame_index=number)
            break
        figures = input_figures(input_HWC, settings.profile.channel_order)
        height_px, width_px = image_HWC.shape[:2]
        frames.append(Frame(frame_index=number, pts_s=None, height_px=height_px, width_px=width_px, figures=figures))
        inputs_HWC.append(input_HWC)
        if settings.overlays:
            sources.append(encode_jpeg(image_HWC))
        if note:
            notes.append(f"page {number}: {note}")
    if why is None and listed.error is not None and span.stop == len(listed.pages):
        why = units.failure("decode", listed.error, frame_index=span.stop)
    unit = replace(unit, frames=frames, inputs_HWC=inputs_HWC, source_images=sources, notes="; ".join(notes) or None)
    return unit.failed(why) if why else unit
