"""Manifest rows in the decode stage: kind, segments, and failures for units that were not decoded."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fsf_core.errors import DecodeError, ItemError
from fsf_core.media import images, video
from fsf_core.stages import units
from fsf_core.stages.units import Failure, Unit

SEE_FIRST_FAILURE = Failure(
    stage="decode", error_type=video.BrokenVideoError.__name__, error_message="see the first failure of this item"
)
"""Failure of the segments after the first that lost frames; they are retried together with it."""


def unit_of_row(row: Mapping[str, Any], **known: Any) -> Unit:
    """Return the unit of a row: what is known before its bytes are read, and other fields that are known by now."""
    return Unit(
        item_id=row["item_id"],
        uri=row["uri"],
        attempt=row["attempt"],
        extra=row.get("extra") or {},
        row_digest=row["row_digest"],
        **known,
    )


def failures_for_rest(
    row: Mapping[str, Any],
    yielded: set[int],
    segments: int | None,
    error: ItemError | OSError,
    *,
    stage: str = "decode",
) -> list[Unit]:
    """Return failures for the remaining segments of a row: the first has the reason, the others refer to it.

    Args:
        row: a row of the manifest, or a task's share of one.
        yielded: segments that the row has yielded.
        segments: segments of the whole item, for a row without a share; None if unknown.
        error: what ended the row.
        stage: that failed.
    """
    finished = yielded | {*(row["done_segments"] or ())}
    share = share_of(row)
    if share is not None:
        segments = row["share"]["total"]
        missing = [number for number in share if number not in finished]
    elif segments is not None:
        missing = [number for number in range(segments) if number not in finished]
    else:
        # The failure of a video that vanished after some segments were done must not take the number of one of them.
        missing = [next(number for number in itertools.count() if number not in finished)]
        segments = missing[0] + 1
    why = units.failure(stage, error)
    reference = replace(SEE_FIRST_FAILURE, stage=stage, error_type=why.error_type)
    blank = unit_of_row(row, segments=segments)
    return [replace(blank, segment=number).failed(why if number == missing[0] else reference) for number in missing]


def share_of(row: Mapping[str, Any]) -> range | None:
    """Return the segments that a row asks for; None for the whole item."""
    share = row.get("share")
    return range(share["first"], share["stop"]) if share else None


def is_video(head: bytes, kind: str | None) -> bool:
    """Return whether the first bytes of a file are a video's.

    Raises:
        DecodeError: they are an image's and the manifest says video, or the other way round.
    """
    container = None if images.sniff(head) else video.sniff_container(head)
    if kind == "image" and container:
        raise DecodeError(f"found a video ({container}), the manifest says image; correct the kind")
    if kind == "video" and images.sniff(head):
        raise DecodeError(
            f"found an image ({images.sniff(head)}), the manifest says video; correct the kind or leave it empty"
        )
    return container is not None
