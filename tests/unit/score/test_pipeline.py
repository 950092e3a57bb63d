"""What the pipeline sets in Ray Data."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray.data import DataContext

from fsf_core.score import pipeline


@pytest.mark.parametrize(("separate_stages", "limit"), [(True, 6.0), (False, float("inf"))])
def test_options_of_ray_data_are_those_of_the_job_and_the_callers_own_stay(separate_stages: Any, limit: float) -> None:
    before = DataContext.get_current()
    kept = before.copy()
    spec: Any = SimpleNamespace(separate_stages=separate_stages, owns_cluster=True, block_items=512)

    with pipeline._ray_data_options(spec, 6.0):
        inside = DataContext.get_current()
        assert inside.execution_options.resource_limits.cpu == limit
        assert inside.target_max_block_size == pipeline.TARGET_BLOCK_BYTES

    assert DataContext.get_current() is before
    assert before.execution_options == kept.execution_options
    assert before.target_max_block_size == kept.target_max_block_size


def test_a_block_of_slow_images_is_no_hang() -> None:
    """A block moves when it ends, and all CPUs may decode their first ones."""

    def timeout_s(block_items: int) -> float:
        spec: Any = SimpleNamespace(separate_stages=True, owns_cluster=True, block_items=block_items)
        with pipeline._ray_data_options(spec, 6.0):
            return float(DataContext.get_current().execution_no_progress_timeout_s)

    assert timeout_s(512) == 5120
    assert timeout_s(1) == pipeline.NO_PROGRESS_TIMEOUT_S


def test_an_execution_has_no_more_tasks_of_small_blocks_than_the_driver_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[list[int]] = []
    monkeypatch.setattr(
        pipeline, "_execute_once", lambda tables, *_: executed.append([table.num_rows for table in tables])
    )
    monkeypatch.setattr(pipeline, "EXECUTION_ITEMS", 40)
    monkeypatch.setattr(pipeline, "EXECUTION_ACTOR_ITEMS", 0)
    monkeypatch.setattr(pipeline, "EXECUTION_TASKS", 3)
    table = pa.table({"uri": [f"{n}.jpg" for n in range(8)], "kind": pa.nulls(8, pa.string())})

    for block_items in (8, 64):
        spec: Any = SimpleNamespace(block_items=block_items, actors=1)
        pipeline.execute([table] * 8, spec, None)

    assert executed == [[8] * 3, [8] * 3, [8] * 2, [8] * 5, [8] * 3]
