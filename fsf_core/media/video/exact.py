"""Which decoded frames are exact: those that no damage can have reached. Knows an index; decodes nothing."""

# a packet's "rank" is its position in decoding order, a frame's number that in presentation order

from collections import deque
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

from fsf_core.media.video.index import VideoIndex

_Numbered = tuple[int, av.VideoFrame]
"""A frame's number and the decoded frame."""


class InexactError(Exception):
    """This pass cannot show that its frames are those of a pass from the start."""


class ExactFrames:
    """Frames held back until no damage can reach them any more.

    A damaged frame spoils what is decoded after it and shown before the next keyframe. Some of that is shown before
    the damaged frame itself (B-frames), therefore frames are held back.
    """

    def __init__(self, index: VideoIndex, *, expected: NDArray[np.bool_], is_last: bool, first: int, stop: int) -> None:
        self._index = index
        self._expected = expected
        self._is_last = is_last
        self._first = first
        self._stop = stop
        # Damage before the keyframe that `first` depends on cannot reach it.
        ordinal = int(np.searchsorted(index.keyframes, first, side="right")) - 1
        self._next = int(index.keyframes[ordinal]) if ordinal >= 0 else 0
        self._begin_rank = int(index.decode_rank[self._next])
        self._horizon = min(index.frames, stop + index.reorder_frames)
        self._lost = np.zeros(index.frames, np.bool_)
        self._numbers = index.numbers()

    def filter(self, frames: "Iterator[tuple[int, av.VideoFrame | None]]") -> Iterator[_Numbered]:
        """Yield the exact frames from first to stop (exclusive), in order.

        Args:
            frames: from PacketDecoder.frames.

        Raises:
            InexactError: a frame is missing or damaged, and this is not the last attempt.
        """
        held: deque[_Numbered] = deque()
        for rank, frame in frames:
            number = int(self._numbers[rank]) if rank < len(self._numbers) else -1
            if frame is None:
                self._mark_failed(rank, number)
                continue
            if number < self._next:
                continue
            self._mark_missing(self._next, number)
            if frame.is_corrupt and self._expected[number]:
                self._mark_lost(number)
            self._next = number + 1
            held.append((number, frame))
            if len(held) > self._index.reorder_frames:
                yield from self._release(held.popleft())
            if self._next >= self._horizon:
                break
        self._mark_missing(self._next, self._horizon)
        while held:
            yield from self._release(held.popleft())

    def _release(self, item: _Numbered) -> Iterator[_Numbered]:
        """Yield a frame that was held back, unless it is out of range or lost."""
        if self._first <= item[0] < self._stop and not self._lost[item[0]]:
            yield item

    def _mark_failed(self, rank: int, number: int) -> None:
        """Mark what depends on a packet that failed: its frame, or that whose second field it holds."""
        if number < 0 and not self._index.is_needed(rank):
            return
        while number < 0 < rank:
            rank -= 1
            number = int(self._numbers[rank]) if rank < len(self._numbers) else -1
        if rank >= self._begin_rank and 0 <= number < self._horizon and self._expected[number]:
            self._mark_lost(number)

    def _mark_missing(self, begin: int, end: int) -> None:
        """Mark the expected frames from begin to end (exclusive) as lost."""
        for frame in (begin + np.flatnonzero(self._expected[begin:end])).tolist():
            self._mark_lost(frame)

    def _mark_lost(self, frame: int) -> None:
        """Mark a frame as lost, and all frames that may have been predicted from it.

        Raises:
            InexactError: this is not the last attempt.
        """
        if not self._is_last:
            raise InexactError
        index = self._index
        begin = max(0, frame - index.reorder_frames)
        ordinal = int(np.searchsorted(index.keyframes, frame, side="right"))
        until = int(index.keyframes[ordinal]) if ordinal < len(index.keyframes) else index.frames
        if index.is_counted:  # of a packet that gave no frame, the place among its neighbours is a guess
            self._lost[begin:until] = True
        else:
            self._lost[begin:until] |= index.decode_rank[begin:until] >= index.decode_rank[frame]
