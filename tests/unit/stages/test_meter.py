"""The meter of a model counts calls, frames, and the time during which at least one call runs."""

import threading
import time

import pytest

from fsf_core.stages.meter import ModelMeter, ModelUse


def test_calls_that_overlap_count_their_time_once() -> None:
    meter = ModelMeter()
    both_run = threading.Barrier(2)

    def call() -> None:
        with meter.call(4):
            both_run.wait(timeout=30)
            time.sleep(0.2)

    threads = [threading.Thread(target=call) for _ in range(2)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - began
    use = meter.take()

    assert (use.calls, use.frames) == (2, 8)
    assert 0.2 <= use.busy_s <= wall_s


def test_what_was_taken_is_not_counted_again_even_within_a_call() -> None:
    meter = ModelMeter()
    with meter.call(1):
        time.sleep(0.05)
        within = meter.take()
    after = meter.take()

    assert within.busy_s >= 0.05
    assert (within.calls, after.calls) == (0, 1)
    assert after.busy_s < 0.05
    assert meter.take() == ModelUse()


def test_a_call_that_raises_is_counted_and_ends() -> None:
    meter = ModelMeter()
    with pytest.raises(RuntimeError), meter.call(3):
        raise RuntimeError

    assert meter.take().calls == 1
    time.sleep(0.02)
    assert meter.take().busy_s == 0.0
