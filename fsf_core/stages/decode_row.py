"""What decoding goes by: its settings, what kind of file a row is, and the units that a row owes."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from fsf_core.errors import DecodeError, ItemError
from fsf_core.media import images, video
from fsf_core.model import preprocess
from fsf_core.stages import units
from fsf_core.stages.units import Failure, Unit

HEAD_BYTES = 4096

TASK_SEGMENTS = 8
"""Segments of a task, unless it is told otherwise: with 64 frames each, 4 s of work at 1080p."""

SAME_LOSS = Failure(
    stage="decode", error_type=video.BrokenVideoError.__name__, error_message="see the first failure of this video"
)
"""Segments behind the first that lost frames: they fail, and are tried again, with it."""


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """What a decode task needs to know; plain values, so that it travels to any worker."""

    profile: preprocess.Profile
    limits: images.ImageLimits
    extra: pa.Schema
    """Pass-through columns of the manifest."""
    segment_frames: int
    """Most frames of one unit."""
    overlays: bool
    """Whether the source pictures travel along, to be drawn upon."""
    schemes: tuple[str, ...]
    """URI schemes that may be opened."""
    sampling: video.Sampling = video.EVERY_FRAME
    """Which frames of a video are wanted."""
    max_frames: int = video.MAX_FRAMES
    """Most frames of one video, wanted or not."""
    task_segments: int = TASK_SEGMENTS
    """Segments that one task decodes of a long video."""


def unit_of_row(row: Mapping[str, Any]) -> Unit:
    """What is known of an item before its bytes are."""
    return Unit(item_id=row["item_id"], uri=row["uri"], attempt=row["attempt"], extra=row.get("extra") or {})


def failures_for_rest(
    row: Mapping[str, Any], given: set[int], segments: int | None, error: ItemError | OSError
) -> list[Unit]:
    """The segments that a row still owes when an error ends it: the first has the reason, the others refer to it.

    Args:
        row: of the manifest, or a task's share of one.
        given: segments that it has given.
        segments: of the whole item, where the row does not say; None where nobody knows.
        error: what ended it.
    """
    gone = given | {*(row["done_segments"] or ())}
    share = share_of(row)
    if share is not None:
        segments = row["share"]["total"]
        missing = [number for number in share if number not in gone]
    elif segments is not None:
        missing = [number for number in range(segments) if number not in gone]
    else:
        # A video that vanished after some of its segments were done must not take the number of one of them.
        missing = [next(number for number in itertools.count() if number not in gone)]
        segments = missing[0] + 1
    why = units.failure("decode", error)
    others = replace(SAME_LOSS, error_type=why.error_type)
    blank = replace(unit_of_row(row), segments=segments)
    return [replace(blank, segment=number).failed(why if number == missing[0] else others) for number in missing]


def share_of(row: Mapping[str, Any]) -> range | None:
    """The segments of a video that a row stands for; None for all of the item."""
    share = row.get("share")
    return range(share["first"], share["stop"]) if share else None


def is_video(head: bytes, kind: str | None) -> bool:
    """Whether the bytes are a video's.

    Raises:
        DecodeError: they are a picture and the manifest says video, or the other way round.
    """
    container = None if images.sniff(head) else video.sniff_container(head)
    if kind == "image" and container:
        raise DecodeError(f"found a video ({container}), the manifest says image; correct its kind")
    if kind == "video" and images.sniff(head):
        raise DecodeError(
            f"found a picture ({images.sniff(head)}), the manifest says video; correct its kind or leave it empty"
        )
    return container is not None
