"""A video decoded by many tasks has the units of one task, damaged or not, each exactly once."""

import io
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.media import images
from fsf_core.media.video import Sampling, index_video, partition_segments, select_frames
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.score import partition
from fsf_core.score.partition import (
    BLOCKS_PER_CONSUMER,
    LAST_BLOCK_ITEMS,
    BlockLimits,
    are_videos,
    block_sizes,
    executions,
    plan_decode_tasks,
)
from fsf_core.stages import decode as decoding
from fsf_core.stages import decode_video, isolated_decode
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_row import failures_for_rest
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.video_plan import VideoPlan, pack_plan, plan_video
from tests.support import assets
from tests.support.clips import clip, overwritten, stored_again

FRAMES = 150
SETTINGS = {"profile": preprocess.PROFILES["fastsegformer"], "limits": images.ImageLimits(), "extra": pa.schema([])}


@cache
def video(**options):
    return clip(frames=FRAMES, **options)


def settings(**changes):
    return DecodeSettings(
        **{**SETTINGS, "segment_frames": 4, "overlays": False, "access": storage.Access(schemes=SCHEMES), **changes}
    )


def rows(path, *, done=None, **more):
    row = {"item_id": "video", "uri": str(path), "kind": None, "row_digest": b"8 bytes.", "attempt": 1}
    row |= {"done_segments": done, **more}
    return pa.Table.from_pylist([row], schema=_schema(more))


def _schema(more):
    share = pa.struct([("first", pa.int32()), ("stop", pa.int32()), ("total", pa.int32())])
    kinds = {"share": share, "plan": pa.large_binary()}
    names = [("item_id", pa.string()), ("uri", pa.string()), ("kind", pa.string()), ("row_digest", pa.binary(8))]
    others = [("attempt", pa.int32()), ("done_segments", pa.list_(pa.int32()))]
    return pa.schema([*names, *others, *((name, kinds[name]) for name in more)])


def shared(path, chosen, *, done=None):
    """All units, decoded share by share as separate tasks would."""
    plan = plan_video(rows(path).to_pylist()[0], chosen)
    assert isinstance(plan, VideoPlan)
    assert len(plan.tasks) > 1
    tables = []
    for task in plan.tasks:
        facts = {"first": task.start, "stop": task.stop, "total": plan.segments}
        tables += decode(rows(path, done=done, share=facts, plan=pack_plan(plan)), chosen)
    return pa.concat_tables(tables)


DAMAGED = {
    "healthy": lambda video: video,
    "one packet of it destroyed": lambda video: overwritten(video, 83, b"\xff"),
    "two places destroyed": lambda video: overwritten(overwritten(video, 31, b"\xff"), 110, b"\xff"),
    "cut off": lambda video: video[: len(video) * 2 // 3],
}
MADE = {
    "h264 mp4": {"container_options": {"moov_size": "16384"}},
    "h264 mkv": {"container": "matroska"},
    "h264 open gop mkv": {"container": "matroska", "options": {"x264-params": "open-gop=1"}},
    "vp9 webm": {"codec": "libvpx-vp9", "container": "webm"},
    "mjpeg avi": {"codec": "mjpeg", "container": "avi", "pixel_format": "yuvj420p"},
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("made", MADE)
def test_shares_of_many_tasks_are_the_units_of_one_task(made, damage, tmp_path):
    path = tmp_path / "video"
    path.write_bytes(DAMAGED[damage](clip(frames=FRAMES, **MADE[made])))

    whole = pa.concat_tables(decode(rows(path), settings()))
    parts = shared(path, settings())

    assert parts.sort_by("segment").to_pylist() == whole.sort_by("segment").to_pylist()
    assert sorted(parts.column("segment").to_pylist()) == [*range(whole.column("segments")[0].as_py())]
    failed = [row for row in parts.to_pylist() if row["error_type"]]
    assert bool(failed) == (damage != "healthy")
    assert all("frame" in row["error_message"] or "see the first" in row["error_message"] for row in failed)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(every_nth=3),
        Sampling(fps=20, start_s=1.0, end_s=5.5),
        Sampling(start_s=2.0),
    ],
)
def test_sampled_frames_are_partitioned_too_with_the_sources_numbers(sampling, tmp_path):
    path = tmp_path / "video"
    path.write_bytes(video())
    chosen = settings(sampling=sampling, segment_frames=2)

    parts = shared(path, chosen)

    frames = [frame["frame_index"] for row in parts.sort_by("segment").to_pylist() for frame in row["frames"]]
    assert frames == select_frames(index_video(path), sampling).tolist()
    assert parts.sort_by("segment").to_pylist() == pa.concat_tables(decode(rows(path), chosen)).to_pylist()


def test_committed_segments_are_not_repeated_and_complete_shares_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "video"
    path.write_bytes(video())
    begun = []
    real = decode_video.video.decode_frames
    monkeypatch.setattr(
        decode_video.video, "decode_frames", lambda *given, **named: begun.append(1) or real(*given, **named)
    )

    found = shared(path, settings(), done=[*range(20), 30])

    assert found.column("segment").to_pylist() == [*range(20, 30), *range(31, 38)]
    assert len(begun) == 2  # of four shares, cut at segments 10, 20 and 30


def test_a_time_range_without_a_frame_is_a_failure_with_the_time_of_the_last_one(tmp_path):
    path = tmp_path / "video"
    path.write_bytes(clip(frames=30))

    (row,) = pa.concat_tables(decode(rows(path), settings(sampling=Sampling(start_s=60)))).to_pylist()

    assert (row["error_type"], row["segment"], row["segments"], row["frames"]) == ("LimitError", 0, 1, [])
    assert "between 60 s and its end, the last one begins at 1.160 s" in row["error_message"]


def test_more_frames_than_allowed_are_refused_before_any_is_decoded(tmp_path):
    path = tmp_path / "video"
    path.write_bytes(clip(frames=30))

    (row,) = pa.concat_tables(decode(rows(path), settings(max_frames=29))).to_pylist()

    assert (row["error_type"], row["frames"]) == ("LimitError", [])
    assert "more than 29 frames" in row["error_message"]


def test_short_videos_and_those_that_cannot_seek_are_not_partitioned(tmp_path):
    made = {"short": clip(frames=20), "stream": clip(frames=FRAMES, container="mpegts"), "frames": video()}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)

    plans = {name: plan_video(rows(tmp_path / name).to_pylist()[0], settings()) for name in made}

    assert plans["short"] is None
    assert plans["stream"] is None
    assert plans["frames"] is not None


def test_frames_that_were_counted_by_decoding_are_not_counted_twice(tmp_path, monkeypatch):
    path, beats = tmp_path / "video", []
    path.write_bytes(stored_again(clip(container="nut", frames=FRAMES), "mp4", _repeat_a_time))
    plan = plan_video(rows(path).to_pylist()[0], settings(), heartbeat=lambda: beats.append(1))
    assert (plan.index.is_counted, len(plan.tasks), plan.index.frames) == (True, 1, FRAMES)
    assert len(beats) > FRAMES // 64
    whole = pa.concat_tables(decode(rows(path), settings()))
    monkeypatch.setattr(decode_video.video, "index_video", None)

    (task,) = plan.tasks
    facts = {"first": task.start, "stop": task.stop, "total": plan.segments}
    shared_whole = pa.concat_tables(decode(rows(path, share=facts, plan=pack_plan(plan)), settings()))

    assert shared_whole.to_pylist() == whole.to_pylist()
    assert whole.column("error_type").null_count == len(whole) == -(-FRAMES // 4)


def _repeat_a_time(packets):
    times = sorted(time for _, time, _ in packets)
    return [[data, times[20] if time == times[21] else time, key] for data, time, key in packets]


def test_a_share_whose_video_is_missing_fails_only_for_its_own_segments():
    row = rows("/nowhere", done=[9], share={"first": 8, "stop": 12, "total": 30}).to_pylist()[0]

    found = pa.concat_tables(decode(pa.Table.from_pylist([row]), settings()))

    assert found.column("segment").to_pylist() == [8, 10, 11]
    assert set(found.column("segments").to_pylist()) == {30}
    assert found.column("error_type").to_pylist() == ["FetchError"] * 3
    assert [unit.segment for unit in failures_for_rest(row, {8, 10}, None, OSError("gone"))] == [11]


@pytest.mark.parametrize(("segment_frames", "span_segments"), [(1, 1), (4, 8), (7, 3), (1000, 8)])
@pytest.mark.parametrize("every_nth", [1, 5, 40])
def test_every_segment_has_exactly_one_task_and_few_frames_are_decoded_twice(segment_frames, span_segments, every_nth):
    index = index_video(io.BytesIO(video()))
    wanted = select_frames(index, Sampling(every_nth=every_nth))

    tasks = partition_segments(index, wanted, segment_frames=segment_frames, span_segments=span_segments)

    segments = -(-len(wanted) // segment_frames)
    assert [number for task in tasks for number in task] == [*range(segments)]
    assert all(len(task) for task in tasks)
    if (segment_frames, span_segments, every_nth) == (4, 8, 1):
        begins = [int(wanted[task.start * segment_frames]) for task in tasks]
        assert [begin % 10 for begin in begins] == [0] * len(begins)  # every tenth frame is a keyframe


@pytest.mark.parametrize("most", [64, 256])
@pytest.mark.parametrize("consumers", [1, 2, 16])
@pytest.mark.parametrize("items", [0, 1, 5, 40, 400, 100_000])
def test_every_image_is_in_one_block_and_the_last_blocks_are_small(items, consumers, most):
    sizes = block_sizes(items, BlockLimits(max_items=most, consumers=consumers))

    assert sum(sizes) == items
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < size <= most for size in sizes)
    assert max(sizes[-consumers:], default=0) <= LAST_BLOCK_ITEMS
    assert len(sizes) <= 8 * consumers * BLOCKS_PER_CONSUMER + items / most
    assert len(sizes) >= min(items, consumers * BLOCKS_PER_CONSUMER // 2), "every consumer has work until the end"


@pytest.mark.parametrize("multiple", [1, 128])
@pytest.mark.parametrize("items", [0, 1, 5, 40, 400, 20_000, 1_000_000])
def test_blocks_of_separate_stages_are_few_and_every_cpu_has_one_until_the_end(items, multiple):
    limits = BlockLimits(max_items=512, consumers=21, blocks_per_consumer=1, last_items=32, multiple=multiple)

    sizes = block_sizes(items, limits)

    assert sum(sizes) == items
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= 512
    assert max(sizes[-21:], default=0) <= 32
    assert len(sizes) <= items / 512 + 21 * 5
    assert len(sizes) >= min(items, 20), "few items are spread over the CPUs"
    assert all(size % multiple == 0 for size in sizes if size >= multiple), "calls of large blocks are full"


def listed(uris, *, kinds=None):
    """Manifest rows of several items, as the driver partitions them."""
    return pa.table(
        {
            "item_id": pa.array([f"item {uri}" for uri in uris], pa.string()),
            "uri": pa.array(uris, pa.string()),
            "kind": pa.array(kinds or [None] * len(uris), pa.string()),
            "extra": pa.array([{"day": f"day {len(uri)}"} for uri in uris], pa.struct([("day", pa.string())])),
            "done_segments": pa.nulls(len(uris), pa.list_(pa.int32())),
        }
    )


@pytest.mark.parametrize(("consumers", "multiple"), [(1, 1), (2, 1), (3, 64), (500, 1)])
@pytest.mark.parametrize("table_rows", [1, 100, 256, 1000, 5000])
def test_tasks_hold_every_row_once_in_order_in_the_same_blocks_however_the_list_is_read(
    table_rows, consumers, multiple
):
    items = listed([f"{number}.jpg" for number in range(5000)])
    limits = BlockLimits(max_items=100, consumers=consumers, multiple=multiple)
    tables = [items.slice(start, table_rows) for start in range(0, 5000, table_rows)]

    tasks = plan_decode_tasks(tables, settings(), item_s=1, blocks=limits)

    assert [task.rows for task in tasks] == block_sizes(5000, limits)
    assert pa.concat_tables([task.table() for task in tasks]).equals(items)


def test_a_task_of_a_few_rows_of_a_long_list_is_small():
    items = listed([f"photos/{number:09d}.jpg" for number in range(50_000)])

    tasks = plan_decode_tasks([items], settings(), item_s=1, blocks=BlockLimits(max_items=100, consumers=1))

    assert max(len(task.packed) for task in tasks) < 5_000
    assert tasks[0].unpacked_bytes < 20_000


def test_videos_are_tasks_of_their_own_before_all_images(monkeypatch):
    monkeypatch.setattr(partition, "_plan_videos", lambda videos, *_: [None] * videos.num_rows)
    tables = [listed(["a.jpg", "b.mp4", "c.png"]), listed(["d.jpg", "e.jpg"], kinds=["image", "video"])]

    tasks = plan_decode_tasks(tables, settings(), item_s=1, blocks=BlockLimits(max_items=2, consumers=1))

    assert [task.table().column("uri").to_pylist() for task in tasks] == [
        ["b.mp4"], ["e.jpg"], ["a.jpg"], ["c.png"], ["d.jpg"],
    ]  # fmt: skip


def test_videos_that_wait_for_their_plans_take_little_more_than_their_rows(monkeypatch):
    before, taken = pa.total_allocated_bytes(), []

    def plan(videos, *_):
        taken.append(pa.total_allocated_bytes() - before - items.nbytes)
        return [None] * videos.num_rows

    monkeypatch.setattr(partition, "_plan_videos", plan)
    items = listed([f"{number}.mp4" for number in range(1000)])

    plan_decode_tasks([items], settings(), item_s=1, blocks=BlockLimits(max_items=2, consumers=1))

    assert taken[0] < 3 * items.nbytes


def test_an_item_is_a_video_by_its_kind_or_else_by_its_name():
    names = {
        "a.mp4": True, "A.MP4": True, "clip.mp4.jpg": False, "mp4": False, ".mp4": False, "x.mp4/y.jpg": False,
        "x.mp4/y": False, "clip.m\u212av": True, "https://cam/a.mov?token=.jpg": True,
        "https://cam/a.jpg?as=.mp4": False, "s3://b/a.mov?x": False, "none": False, "a.tsx": False, "orange.ts": True,
    }  # fmt: skip

    assert are_videos(listed([*names])).tolist() == [*names.values()]
    assert not are_videos(listed([*names], kinds=["image"] * len(names))).any()
    assert are_videos(listed([*names], kinds=["video"] * len(names))).all()
    assert are_videos(listed([])).tolist() == []


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"max_items": 10, "max_videos": 9}, [[4, 4, 4], [4, 4, 4], [4]]),
        ({"max_items": 12, "max_videos": 9}, [[4, 4, 4], [4, 4, 4], [4]]),
        ({"max_items": 99, "max_videos": 2}, [[4, 4], [4, 4], [4, 4], [4]]),
        ({"max_items": 99, "max_videos": 99}, [[4] * 7]),
    ],
)
def test_an_execution_ends_when_it_has_enough_items_or_videos(limits, sizes):
    tables = (listed(["a.jpg", f"{number}.mp4", "b.jpg", "c.jpg"]) for number in range(7))

    assert [[table.num_rows for table in group] for group in executions(tables, **limits)] == sizes


def test_an_execution_ends_when_its_rows_would_fill_the_memory():
    columns = np.random.default_rng(0).bytes(7 * 100 * 1000), bytes(7 * 100 * 1000)
    found = []
    for content in columns:
        cells = pa.array([content[at : at + 1000] for at in range(0, len(content), 1000)])
        items = listed([f"{number}.jpg" for number in range(700)]).append_column("embedding", cells)
        tables = [items.slice(0, 0), *(items.slice(start, 100) for start in range(0, 700, 100))]
        found.append([[table.num_rows for table in group] for group in executions(tables, max_bytes=250_000)])

    assert found == [[[0, 100, 100, 100], [100, 100, 100], [100]], [[0, *[100] * 7]]]


def test_no_items_are_no_execution():
    assert [*executions(iter([]))] == []


@pytest.mark.parametrize(("table_units", "tables"), [(64, [5]), (5, [5]), (2, [2, 2, 1])])
def test_a_block_is_decoded_into_one_table_if_that_may_hold_it(table_units, tables, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(assets.pillow(assets.picture(20, 30), "JPEG"))
    block = pa.concat_tables([rows(path)] * 5)

    assert [table.num_rows for table in decode(block, settings(table_units=table_units))] == tables


@pytest.mark.parametrize(("overlays", "tables"), [(False, [3, 2]), (True, [2, 2, 1])])
def test_source_images_count_among_the_bytes_of_a_table(overlays, tables, tmp_path, monkeypatch):
    """Photographs of 5 MB have inputs of 150 kB: by these alone a table of 512 would hold 2.5 GB of them."""
    path = tmp_path / "image.jpg"
    path.write_bytes(assets.pillow(assets.picture(20, 30), "JPEG"))
    block, chosen = pa.concat_tables([rows(path)] * 5), settings(overlays=overlays, table_units=5)
    for module in (decoding, isolated_decode):
        monkeypatch.setattr(module, "TABLE_BYTES", 2 * 224 * 224 * 3 + 1)

    decoded = [*decode(block, chosen)]
    limits = isolated_decode.ChildLimits(item_s=30, memory_bytes=1 << 30)

    assert [table.num_rows for table in decoded] == tables
    assert [table.to_pylist() for table in isolated_decode.decode_isolated(block, chosen, limits)] == [
        table.to_pylist() for table in decoded
    ]


def test_damage_over_several_segments_is_explained_once_and_has_one_error_type(tmp_path):
    (tmp_path / "video").write_bytes(overwritten(video(gop=30), 33, b"\xff"))

    found = pa.concat_tables(decode(rows(tmp_path / "video"), settings(task_segments=100))).to_pylist()

    failed = [(row["error_type"], row["error_message"]) for row in found if row["error_type"]]
    assert len(failed) > 2
    assert {kind for kind, _ in failed} == {"BrokenVideoError"}
    reasons = [words for _, words in failed if words != "see the first failure of this item"]
    assert len(reasons) == 1
    assert "wanted frames are lost" in reasons[0]
