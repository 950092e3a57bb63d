"""The cluster that a job starts for itself, on a real local Ray."""

import time
from typing import Any

import psutil
import pytest

from fsf_core.score.cluster import resources  # isort: split

import ray

pytestmark = pytest.mark.usefixtures("ray_here")


def _workers() -> set[int]:
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.name().startswith("ray::") and "Agent" not in process.name()
    }


def test_workers_stay_and_do_not_grow_in_number_with_the_tasks_that_wait() -> None:
    cpus = int(resources()["CPU"])

    def waiting(seconds: float) -> None:
        time.sleep(seconds)

    def ordering(tasks: int, seconds: float) -> None:
        piece: Any = ray.remote(num_cpus=1)(waiting)
        ray.get([piece.remote(seconds) for _ in range(tasks)])

    order: Any = ray.remote(num_cpus=0.25)(ordering)
    ray.get(order.remote(cpus, 0.1))
    few = _workers()
    assert few
    ray.get(order.remote(10 * cpus, 1.0))
    many = _workers()

    # One for each task at work, as many that were started ahead, and the one that waits.
    assert few <= many
    assert len(many) <= 2 * cpus + 1
