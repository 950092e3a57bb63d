"""What a job takes where the user gives no number."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fsf_core.model.preprocess import PROFILES
from fsf_core.score.partition import block_sizes
from fsf_core.score.pipeline import block_limits
from fsf_core.score.plan import SMALL_JOB_BATCH, SMALL_JOB_ITEMS, _default_batch
from fsf_core.score.spec import BLOCK_ITEMS_SEPARATE, PipelineSpec, frames_per_table

PROFILE = PROFILES["fastsegformer"]


def test_actors_on_gpus_measure_batches_in_jobs_that_are_large_enough_for_it():
    assert _default_batch(PROFILE, gpu=True, pending=SMALL_JOB_ITEMS - 1) == SMALL_JOB_BATCH
    assert _default_batch(PROFILE, gpu=True, pending=SMALL_JOB_ITEMS) is None
    assert _default_batch(PROFILE, gpu=False, pending=10**9) == 4


@pytest.mark.parametrize(
    ("height_px", "width_px", "held", "batch"),
    [(224, 224, 891, 64), (512, 512, 170, 64), (1024, 1024, 42, 32), (1024, 2048, 21, 16), (8192, 8192, 1, 1)],
)
def test_a_batch_is_no_larger_than_what_a_table_holds_of_large_inputs(height_px, width_px, held, batch):
    """A call has one size: of 64 places, tables of 21 frames would leave 43 empty."""
    profile = replace(PROFILE, height_px=height_px, width_px=width_px)

    assert frames_per_table(profile) == held
    assert _default_batch(profile, gpu=True, pending=1) == batch


def test_blocks_of_images_whose_inputs_have_sizes_of_their_own_are_not_cut_before():
    assert frames_per_table(replace(PROFILE, mode="own", height_px=0, width_px=0)) == BLOCK_ITEMS_SEPARATE


@pytest.mark.parametrize(
    ("input_px", "batch_frames", "largest", "multiple"),
    [(224, None, 512, 128), (224, 48, 480, 48), (512, None, 128, 128), (1024, None, 32, 32), (1024, 16, 32, 16)],
)
def test_blocks_are_tables_of_full_calls(input_px, batch_frames, largest, multiple):
    """Whatever power of two an actor measures: it divides the multiple."""
    profile = replace(PROFILE, height_px=input_px, width_px=input_px)
    planned: Any = SimpleNamespace(
        separate_stages=True, batch_frames=batch_frames, decode=SimpleNamespace(profile=profile)
    )
    planned.block_items = PipelineSpec.block_items.fget(planned)

    limits = block_limits(planned, 16)

    assert limits.multiple == multiple
    assert block_sizes(100_000, limits)[0] == largest
    assert largest <= frames_per_table(profile)


def test_a_job_is_planned_while_every_node_is_about_to_be_stopped():
    planned: Any = SimpleNamespace(separate_stages=True, batch_frames=64, block_items=512)

    assert sum(block_sizes(1000, block_limits(planned, 0))) == 1000
