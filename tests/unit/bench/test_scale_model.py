"""The model of a run's cost: its arithmetic, against the code that it describes."""

import dataclasses
import json

import pytest

from fsf_core.score.partition import BlockLimits, block_sizes
from tests.bench import scale_model
from tests.bench.scale_model import CPU, GPU, Job

SMALL = Job(items=100_000, actors=4, actor_items_per_s=10.0, form="operator")


def grown(job: Job, **changes: float) -> Job:
    return dataclasses.replace(job, **changes)


@pytest.mark.parametrize("items", [3, 900, 40_000, 1_000_000])
@pytest.mark.parametrize("actors", [1, 16, 64])
def test_as_many_blocks_as_the_partition_makes_of_one_execution(items: int, actors: int) -> None:
    one_actor_does_all = grown(SMALL, items=items, actors=actors)
    limits = BlockLimits(max_items=256, consumers=actors)
    assert scale_model.blocks(one_actor_does_all) == pytest.approx(len(block_sizes(items, limits)), rel=0.08, abs=2)

    beside_gpus = grown(GPU, items=items, actors=actors, cores=16 * actors)
    limits = BlockLimits(
        max_items=512, consumers=beside_gpus.consumers, blocks_per_consumer=1, last_items=32, multiple=64
    )
    assert scale_model.blocks(beside_gpus) == pytest.approx(len(block_sizes(items, limits)), rel=0.2, abs=2)


def test_executions_hold_every_item_once() -> None:
    for items in (1, 3_999_999, 4_000_000, 4_000_001, 10**8):
        job = grown(GPU, items=items)
        assert (scale_model.executions(job) - 1) * job.execution_items < items
        assert scale_model.executions(job) * job.execution_items >= items


def test_blocks_of_executions_add_up() -> None:
    one, four = grown(GPU, items=GPU.execution_items), grown(GPU, items=4 * GPU.execution_items)
    assert scale_model.blocks(four) == 4 * scale_model.blocks(one)


def test_a_part_has_no_more_units_than_it_may() -> None:
    for job in (SMALL, CPU, GPU):
        assert scale_model.parts(job) * job.part_units >= job.items


@pytest.mark.parametrize("base", [CPU, GPU], ids=["cpu", "gpu"])
def test_more_items_need_more_of_everything(base: Job) -> None:
    few, many = scale_model.seconds(base), scale_model.seconds(grown(base, items=2 * base.items))
    assert all(many[name] > few[name] for name in few)
    assert scale_model.end_mb(grown(base, items=2 * base.items)) > scale_model.end_mb(base)


@pytest.mark.parametrize("base", [CPU, GPU], ids=["cpu", "gpu"])
def test_more_actors_leave_the_work_and_the_images_as_they_are(base: Job) -> None:
    few, many = base, grown(base, actors=64 * base.actors, cores=64 * base.cores)
    assert scale_model.seconds(many)["actors"] == pytest.approx(scale_model.seconds(few)["actors"] / 64)
    assert scale_model.requests(many)["GET images"] == scale_model.requests(few)["GET images"] == base.items
    assert scale_model.possible_blocks_per_s(many) < scale_model.possible_blocks_per_s(few)


def test_a_driver_at_its_limit_takes_one_core() -> None:
    for job in (SMALL, CPU, GPU):
        assert scale_model.driver_cores(job, scale_model.possible_blocks_per_s(job)) == pytest.approx(1.0)


def test_a_job_takes_as_long_as_its_slowest_part_and_what_comes_before_and_after() -> None:
    needed = scale_model.seconds(GPU)
    assert scale_model.total_s(GPU) == pytest.approx(
        needed["actors"] + needed["list"] + needed["starts"] + needed["end"]
    )
    assert scale_model.binding(GPU) == []

    crowded = grown(GPU, actors=1_000, cores=16_000)
    longest = scale_model.binding(crowded)[0]
    assert longest == max(scale_model.seconds(crowded), key=lambda name: scale_model.seconds(crowded)[name])


def test_a_run_on_a_disk_asks_no_store() -> None:
    assert not any(scale_model.requests(SMALL).values())


def test_bytes_of_receipts_are_those_of_their_units_and_their_own() -> None:
    one_part = Job(items=256, actors=1, actor_items_per_s=1.0, form="operator", part_units=256)
    by_units = scale_model.RECEIPT_BYTES * 256 + scale_model.RECEIPT_BASE_BYTES * scale_model.parts(one_part)
    assert scale_model.receipt_mb(one_part) == pytest.approx(by_units / 2**20)


def test_every_measured_point_names_its_job_and_figures_that_the_model_gives() -> None:
    points = json.loads(scale_model.FIGURES.read_text())["points"]
    assert len({point["name"] for point in points}) == len(points) > 3
    figures = [*scale_model.comparisons()]
    assert len(figures) == sum(len(point["measured"]) for point in points)
    assert all(measured > 0 and given > 0 for _, _, measured, given in figures)
