"""Choice of the frames per call where no number is given: a few are measured, and the smallest fast one is kept.

Knows numbers and the clock, no model.
"""

import time
from collections.abc import Callable

LARGEST, SMALLEST = 128, 8
"""Powers of two that are tried, downwards, because each costs seconds at its first call on a GPU. On an H100 a batch of
128 has 8 to 20 % more frames per second than one of 64, and 20 to 40 % more than one of 32 (P and E, 2026-11-28)."""

GAIN = 1.03
"""What a larger batch must gain over a smaller one."""

LIMIT_S = 12.0
"""Time after which no further number is tried."""


def power_of_two(most: int) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << (max(1, most).bit_length() - 1)


def choose_batch(
    measure: Callable[[int], float], *, most: int, clock: Callable[[], float] = time.monotonic
) -> tuple[int, dict[int, float]]:
    """Return the frames per call, and what was measured.

    Args:
        measure: returns the frames per second with a number of frames per call; 0 where the memory does not suffice.
        most: largest number that is allowed.
        clock: seconds from any start.

    Returns:
        The smallest number within GAIN of the best, and frames per second by number; (1, …) where the memory suffices
        for none.
    """
    started, speeds = clock(), dict[int, float]()

    def speed_of(frames: int) -> float:
        speeds[frames] = measure(frames)
        return speeds[frames]

    def has_time() -> bool:
        return clock() - started < LIMIT_S

    first = min(LARGEST, power_of_two(most))
    while not speed_of(first) and first > 1:
        first //= 2
    smaller = first // 2
    while smaller >= SMALLEST and has_time() and speed_of(smaller) * GAIN >= max(speeds.values()):
        smaller //= 2
    best = max(speeds.values())
    return min(frames for frames, speed in speeds.items() if speed * GAIN >= best and (speed or frames == 1)), speeds
