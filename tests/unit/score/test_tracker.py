"""What a job counts: items as items, segments as segments, and when it stops early."""

import pyarrow as pa
import pytest

from fsf_core.keys import item_key
from fsf_core.score.actor_starts import own_code
from fsf_core.score.tracker import JobTracker, Progress, summarize_commit


def units(*rows):
    """Committed units from (item, segment, segments, frames, failed)."""
    frame = pa.struct([("frame_index", pa.int64())])
    names = ("item_id", "segment", "segments", "frames", "failed_stage", "error_type")
    kinds = (pa.string(), pa.int32(), pa.int32(), pa.list_(frame), pa.string(), pa.string())
    return pa.Table.from_pylist(
        [
            {
                "item_id": item, "segment": segment, "segments": segments, "frames": [{"frame_index": 0}] * frames,
                "failed_stage": "decode" if failed else None, "error_type": "DecodeError" if failed else None,
            }
            for item, segment, segments, frames, failed in rows
        ],
        schema=pa.schema(list(zip(names, kinds, strict=True))),
    )  # fmt: skip


def images(prefix, count, *, failed=False):
    return units(*((f"{prefix}{number}", 0, 1, 0 if failed else 1, failed) for number in range(count)))


def tracker(*, early_items=None, earlier=None):
    return JobTracker(early_items=early_items, early_failed_share=0.95, earlier_segments=earlier or {})


def segments(item, numbers, total, *, failed=()):
    return units(*((item, number, total, 0 if number in failed else 64, number in failed) for number in numbers))


def test_a_video_of_24_segments_is_one_item():
    """It was shown as units=24 items=1."""
    job = tracker()
    for first in range(0, 24, 8):
        assert job.add(summarize_commit(segments("v", range(first, first + 8), 24))) is None

    assert job.progress() == Progress(items=1, segments=24, frames=24 * 64, item_shares=1.0)


def test_an_unfinished_video_is_no_item_yet_but_a_share_of_one():
    job = tracker()
    job.add(summarize_commit(pa.concat_tables([images("i", 3), segments("v", range(6), 24)])))

    assert job.progress() == Progress(items=3, segments=6, frames=3 + 6 * 64, item_shares=3.25)


def test_failed_segments_make_one_failed_item_at_once():
    job = tracker()
    job.add(summarize_commit(segments("v", [0, 1], 4, failed=[0, 1])))
    assert (job.progress().failed_items, job.progress().items) == (1, 0)
    job.add(summarize_commit(segments("v", [2, 3], 4, failed=[3])))

    assert (job.progress().failed_items, job.progress().items) == (1, 1)


def test_segments_that_an_earlier_job_committed_count_for_the_video_but_not_for_this_jobs_work():
    job = tracker(earlier={item_key("v"): frozenset(range(20))})
    job.add(summarize_commit(segments("v", [20, 21], 24)))
    assert job.progress() == Progress(segments=2, frames=128, item_shares=0.5)
    job.add(summarize_commit(segments("v", [22, 23], 24)))

    assert job.progress() == Progress(items=1, segments=4, frames=256, item_shares=1.0)


def test_a_segment_that_is_committed_again_after_a_lost_worker_is_counted_once():
    job = tracker()
    job.add(summarize_commit(segments("v", [0, 1], 4)))
    job.add(summarize_commit(segments("v", [1, 2], 4)))

    assert (job.progress().items, job.progress().segments) == (0, 3)


def test_a_vanished_video_ends_with_the_failure_of_its_remaining_segments():
    """Nobody knows then how many segments it had: the failure has the first free number, and is the last one."""
    job = tracker(earlier={item_key("v"): frozenset({0, 1})})
    job.add(summarize_commit(segments("v", [2], 3, failed=[2])))

    assert (job.progress().items, job.progress().failed_items) == (1, 1)


def test_the_early_gate_judges_items_not_segments():
    job = tracker(early_items=3)
    assert job.add(summarize_commit(segments("v", range(24), 24, failed=range(24)))) is None, "one item"
    assert job.add(summarize_commit(images("i", 2, failed=True))) == "3 of the first 3 items failed"


def test_videos_in_progress_do_not_count_as_failed_items_of_the_early_gate():
    job = tracker(early_items=10)
    for number in range(20):
        assert job.add(summarize_commit(segments(f"v{number}", [0], 2, failed=[0]))) is None
    assert job.add(summarize_commit(images("i", 10))) is None
    assert job.progress().failed_items == 20


@pytest.mark.parametrize(("bad", "stops"), [(20, True), (18, False)])
def test_the_early_gate_decides_once(bad, stops):
    job = tracker(early_items=20)
    verdict = job.add(summarize_commit(pa.concat_tables([images("b", bad, failed=True), images("g", 20 - bad)])))
    assert bool(verdict) == stops
    assert job.add(summarize_commit(images("more", 100, failed=True))) == verdict, "kept, and not judged again"


def test_without_a_limit_there_is_no_early_gate():
    assert tracker().add(summarize_commit(images("b", 1000, failed=True))) is None


def test_starts_of_a_block_are_noted_with_their_nodes_until_it_ends():
    job = tracker()
    assert [[*job.begin_block("a", node)] for node in ("x", "y")] == [["x"], ["x", "y"]]
    assert job.begin_block("b", "x") == ["x"]
    job.end_block("a")
    assert job.begin_block("a", "x") == ["x"]


def test_a_node_of_other_code_that_joins_is_known():
    """Only the nodes at the start of the job were compared with the driver."""
    job = tracker()
    job.begin_start("a", "10.0.0.1", own_code())
    assert job.progress().other_nodes == {}
    job.begin_start("b", "10.0.0.2", "0123456789abcdef")

    assert job.progress().other_nodes == {"10.0.0.2": "0123456789abcdef"}
