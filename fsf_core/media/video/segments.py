"""Which frames are wanted, and how a video is cut into pieces that separate tasks can decode.

Knows the index and arithmetic on it. Decodes nothing and opens nothing, so planning a run costs no pictures.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.video.index import VideoIndex


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRange:
    """Consecutive frames of one video, decoded by one task. Where to seek for it stands in the index."""

    number: int
    """Position among the video's segments, 0 first."""
    total: int
    """How many segments the video has."""
    first_frame: int
    last_frame: int
    """Exclusive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Which frames of a video are wanted. Times count from the video's first frame, wherever its clock begins."""

    every_nth: int = 1
    """Keep every n-th frame of the range, beginning with its first."""
    fps: float | None = None
    """Keep the picture that is on screen at each tick of this rate; a picture on screen for two ticks is kept once."""
    start_s: float = 0.0
    """Frames shown from this time on."""
    end_s: float | None = None
    """Frames shown before this time."""
    keyframes_only: bool = False
    """Keep the frames that the container marks as keyframes; by far the cheapest way through a long video."""

    def __post_init__(self) -> None:
        if self.every_nth < 1:
            raise ValueError(f"every_nth is {self.every_nth}; it must be at least 1")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps is {self.fps}; it must be above 0 and finite")
        if not 0 <= self.start_s < float("inf") or (self.end_s is not None and not self.end_s > self.start_s):
            raise ValueError(f"the time range is {self.start_s} s to {self.end_s} s; it must not be empty or negative")
        if (self.every_nth > 1) + (self.fps is not None) + self.keyframes_only > 1:
            raise ValueError("every_nth, fps and keyframes_only exclude each other; give one")

    def to_json(self) -> dict[str, Any]:
        """Return what run.json holds of a sampling. The keys are names on disk."""
        return {
            "every_nth": self.every_nth,
            "fps": self.fps,
            "start_s": self.start_s,
            "end_s": self.end_s,
            "keyframes_only": self.keyframes_only,
        }


EVERY_FRAME = Sampling()


def plan_segments(index: VideoIndex, target_frames: int) -> tuple[FrameRange, ...]:
    """Cut a video at keyframes into segments of at least target_frames, the last one excepted.

    Together they hold every frame once, in order. The cut depends on nothing but the index and target_frames.
    Containers that cannot seek exactly (index.seekable) are cut all the same: the task of a later segment decodes from
    the start and discards, which costs little beside the network.
    """
    if target_frames < 1:
        raise ValueError(f"target_frames is {target_frames}; it must be at least 1")
    cuts = [0]
    for keyframe in index.keyframes.tolist():
        if keyframe - cuts[-1] >= target_frames:
            cuts.append(keyframe)
    cuts.append(index.frames)
    total = len(cuts) - 1
    return tuple(
        FrameRange(number=number, total=total, first_frame=cuts[number], last_frame=cuts[number + 1])
        for number in range(total)
    )


def partition_segments(
    index: VideoIndex, wanted: NDArray[np.int64], *, segment_frames: int, span_segments: int, dense: bool = True
) -> tuple[range, ...]:
    """Share numbered segments out among tasks, so that little is decoded twice; segment k holds wanted[k·n : (k+1)·n].

    A task that begins inside a group of pictures decodes from the keyframe before. So among the segments that may
    begin a task, some on either side of the even cut, the one that lies closest behind a clean keyframe does. The cut
    depends on nothing but the arguments.

    Args:
        index: of the video.
        wanted: frame numbers, ascending; at least one.
        segment_frames: n.
        span_segments: how many segments a task should get where every frame is wanted; fewer where frames between are
            decoded too.
        dense: whether the frames between the wanted ones are decoded; false for keyframes alone.

    Returns:
        Segment numbers of each task, consecutive; one task where decoding has to begin at the start anyway.
    """
    segments = -(-len(wanted) // segment_frames)
    apart = (int(wanted[-1]) - int(wanted[0]) + 1) / len(wanted) if dense else 1
    step = max(1, round(span_segments / apart))
    ahead = _decoded_ahead(index, wanted[::segment_frames])
    cuts = [0]
    while index.seekable and segments - cuts[-1] >= step + step // 2 and segments - cuts[-1] > 1:
        even = cuts[-1] + step
        near = range(max(cuts[-1] + 1, even - step // 4), min(segments - 1, even + step // 4) + 1)
        cuts.append(min(near, key=lambda number: (ahead[number], abs(number - even))))
    return tuple(range(start, stop) for start, stop in pairwise([*cuts, segments]))


def _decoded_ahead(index: VideoIndex, frames: NDArray[np.int64]) -> list[int]:
    """How many frames are decoded before each of these when decoding begins for it."""
    ordinals = np.searchsorted(index.keyframes, frames, side="right") - 1
    entries = np.where(index.clean, np.arange(len(index.clean)), 0)
    entry = np.maximum.accumulate(entries)[np.maximum(ordinals, 0)] if len(entries) else np.zeros_like(frames)
    begin = index.keyframes[entry] if len(entries) else np.zeros_like(frames)
    return [int(count) for count in frames - begin]


def select_frames(index: VideoIndex, sampling: Sampling) -> NDArray[np.int64]:
    """The frames that a sampling keeps: int64 frame numbers, ascending, possibly none."""
    first = int(np.searchsorted(index.pts, _ticks(index, sampling.start_s), side="left"))
    end = index.frames
    if sampling.end_s is not None:
        end = int(np.searchsorted(index.pts, _ticks(index, sampling.end_s), side="left"))
    if sampling.keyframes_only:
        return index.keyframes[(index.keyframes >= first) & (index.keyframes < end)]
    if sampling.fps is not None:
        return _at_rate(index, first, end, sampling)
    return np.arange(first, end, sampling.every_nth, dtype=np.int64)


def _ticks(index: VideoIndex, seconds: float) -> int:
    """The first tick of the video's clock that is not before this time."""
    return int(index.pts[0]) + -int(-_exact(seconds) // index.time_base)


def _exact(number: float) -> Fraction:
    """The decimal that a person typed, not the nearest binary fraction."""
    return Fraction(str(number))


def _at_rate(index: VideoIndex, first: int, end: int, sampling: Sampling) -> NDArray[np.int64]:
    """Frames first to end (exclusive) that are on screen at the ticks of sampling.fps, which begin at start_s."""
    assert sampling.fps is not None
    if first >= end:
        return np.empty(0, np.int64)
    begin, step = _exact(sampling.start_s), 1 / _exact(sampling.fps)
    last_s = int(index.pts[end - 1] - index.pts[0]) * index.time_base
    due = [
        int(index.pts[0]) + int((begin + number * step) // index.time_base)
        for number in range(int((last_s - begin) // step) + 1)
    ]
    on_screen = np.searchsorted(index.pts, np.asarray(due, np.int64), side="right") - 1
    return np.unique(np.clip(on_screen, first, end - 1)).astype(np.int64)
