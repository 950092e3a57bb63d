"""The order in which a decoder returns the frames of a video, as far as the packets prove it, and their times.

Arithmetic on a scan: nothing is opened or decoded. Times are data here, not the identity of a frame.
"""

# n frames; a packet's "rank" is its position among the stored packets of its stream, in decoding order

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.video.scan import KINDS, NO_TIME, PacketScan

DEFAULT_RATE = Fraction(25)
"""Frames per second where nothing states them, as FFmpeg assumes."""

_FRAME, _UNCLEAR, _UNKNOWN = KINDS.index("frame"), KINDS.index("unclear"), KINDS.index("unknown")


def proven_order(scan: PacketScan, *, has_pts: bool) -> NDArray[np.int64] | None:
    """Return the rank of every frame's packet, in the order of presentation; None if only a decoder can tell.

    Proof is one of: the codec shows frames in the order in which it decodes them, or its headers say so; in the order
    that the headers give, the times ascend; the headers give the order, and the container stores no times of
    presentation (AVI). Around damage, the times decide where they do not contradict the headers elsewhere.

    Args:
        scan: all packets.
        has_pts: whether the container stores times of presentation, so that pts are not FFmpeg's guess.
    """
    kinds = np.asarray(scan.kinds, np.int8)
    if (kinds == _UNCLEAR).any() or scan.first_keyframe is None:
        return None
    ranks = np.flatnonzero((kinds == _FRAME) | (kinds == _UNKNOWN)).astype(np.int64)
    pts, is_ordered = np.asarray(scan.pts, np.int64)[ranks], np.asarray(scan.is_ordered, np.bool_)[ranks]
    natural = np.lexsort((np.asarray(scan.orders, np.int64)[ranks], np.asarray(scan.epochs, np.int64)[ranks]))
    all_ordered = bool(is_ordered.all()) and not scan.gaps
    if all_ordered:
        shown = pts[natural]
        is_plain = bool((np.diff(natural) > 0).all()) or not has_pts
        return ranks[natural] if is_plain or bool((np.diff(shown[shown != NO_TIME]) > 0).all()) else None
    by_time = np.argsort(pts, kind="stable")
    if not has_pts or bool((pts == NO_TIME).any()) or bool((np.diff(pts[by_time]) == 0).any()):
        return None
    return None if _contradicts(scan, ranks, is_ordered, pts) else ranks[by_time]


def _contradicts(
    scan: PacketScan, ranks: NDArray[np.int64], is_ordered: NDArray[np.bool_], pts: NDArray[np.int64]
) -> bool:
    """Return whether the times contradict the headers between two packets that cannot be read, or step back there."""
    dts = np.asarray(scan.dts, np.int64)[ranks]
    dts = dts[dts != NO_TIME]
    if bool((np.diff(dts) < 0).any()):
        return True
    # Packets with the same number have no unreadable packet between them, and no gap.
    scope = np.cumsum(~is_ordered) + np.searchsorted(np.asarray(scan.gaps, np.int64), ranks, side="right")
    epochs, orders = np.asarray(scan.epochs, np.int64)[ranks], np.asarray(scan.orders, np.int64)[ranks]
    natural = np.lexsort((orders, epochs, scope, ~is_ordered))
    by_time = np.lexsort((pts, epochs, scope, ~is_ordered))
    known = int(is_ordered.sum())
    return not np.array_equal(natural[:known], by_time[:known])


def frame_times(scan: PacketScan, ranks: NDArray[np.int64], *, has_pts: bool, usual_ticks: int) -> NDArray[np.int64]:
    """Return the tick of every frame, in the order given.

    A frame's time is its packet's pts. Where the container stores none at all (AVI with B-frames), the n frames have
    the n dts of their packets, ascending; a frame without a time gets one between its neighbours.

    Args:
        scan: all packets.
        ranks: of the frames' packets, in the order of presentation.
        has_pts: whether the container stores times of presentation.
        usual_ticks: duration of a frame where no times give it.
    """
    pts, dts = np.asarray(scan.pts, np.int64)[ranks], np.asarray(scan.dts, np.int64)[ranks]
    if not has_pts or bool((pts == NO_TIME).all()):
        pts = np.sort(dts)
    known = np.flatnonzero(pts != NO_TIME)
    if len(known) == len(pts):
        return pts
    if not len(known):
        return np.arange(len(pts), dtype=np.int64) * usual_ticks
    steps = np.diff(pts[known]) // np.maximum(1, np.diff(known))
    usual_ticks = int(np.median(steps[steps > 0])) if (steps > 0).any() else usual_ticks
    numbers = np.arange(len(pts))
    # Whole ticks from the left, so that large times lose nothing in floating point.
    left = known[np.maximum(0, np.searchsorted(known, numbers, side="right") - 1)]
    right = known[np.minimum(len(known) - 1, np.searchsorted(known, numbers, side="left"))]
    span, gap = pts[right] - pts[left], right - left
    between = np.where((gap > 0) & (span > 0), span // np.maximum(1, gap), usual_ticks)
    filled: NDArray[np.int64] = pts[left] + (numbers - left) * between
    return filled


def running_clock(pts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times that never step back: those of the source, as long as they do not.

    A single frame stamped out of line, back or ahead, is put to the frame before it. Where the times step back for
    good, a clock began anew: from there on it continues the one before, a usual frame later.
    """
    if len(pts) < 2 or not bool((np.diff(pts) < 0).any()):  # noqa: PLR2004 - a single frame has no steps
        return pts
    clock = pts.copy()
    before, here, after = clock[:-2], clock[1:-1], clock[2:]
    alone = (before <= after) & ((here < before) | (here > after))
    clock[1:-1] = np.where(alone, before, here)
    steps = np.diff(clock)
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    steps[steps < 0] = usual
    clock[1:] = clock[0] + np.cumsum(steps)
    return clock


def usual_duration(rate: Fraction | None, time_base: Fraction) -> int:
    """Return the ticks of a frame at a rate, 25 frames per second where there is none."""
    return max(1, round(1 / (rate or DEFAULT_RATE) / time_base))
