"""Rendered videos: frames, times, size and sound of the source, in any number of pieces, listed and verified."""

import contextlib
import hashlib
import json
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fsf_core import render, runs
from fsf_core.errors import DecodeError, FetchError, OutputError
from fsf_core.media.video import BrokenVideoError, decode_frames, index_video
from fsf_core.render import pieces, plan
from fsf_core.render.draw import paint
from tests.support import rendered_runs
from tests.support.clips import MATRICES, clip, oriented, overwritten, rotated

FRAMES = 45
SOURCES = {
    "h264 mp4": {},
    "h264 mp4 with sound": {"audio": True},
    "variable frame rate": {
        "pts": [0, 1, 3, 4, 9, 10, 11, 20, 21, 22, 23, 50, 51, 52, 53, 54, 70, 71, 72, 99],
        "frames": 20,
    },
    "edit list": {"start": -5, "container_options": {"avoid_negative_ts": "disabled"}, "frames": FRAMES + 5},
    "transport stream with sound": {"container": "mpegts", "audio": True},
    "avi with sound": {"codec": "mpeg4", "container": "avi", "audio": True},
    "webm": {"codec": "libvpx-vp9", "container": "webm"},
    "odd sides": {"codec": "ffv1", "container": "matroska", "width_px": 65, "height_px": 49},
    "one frame": {"frames": 1},
}


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch):
    monkeypatch.setattr(plan, "PIECE_FRAMES", 12)


def run_over(tmp_path, data, **given):
    source = tmp_path / "source"
    source.write_bytes(data)
    return rendered_runs.finished(tmp_path / "run", source, **given), source


@pytest.mark.parametrize("name", SOURCES)
def test_a_rendered_video_has_the_frames_times_and_duration_of_its_source(name, tmp_path):
    home, source = run_over(tmp_path, clip(**{"frames": FRAMES, **SOURCES[name]}))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    before, after = index_video(source), index_video(path)

    assert (after.container, after.codec, after.orientation) == ("mov", "h264", 1)
    assert after.frames == before.frames == rendered.frames
    ours = [before.time_s(frame) - before.time_s(0) for frame in range(before.frames)]
    assert [after.time_s(frame) for frame in range(after.frames)] == pytest.approx(ours, abs=1e-5)
    assert after.end * after.time_base == pytest.approx(
        float((before.end - before.pts[0]) * before.time_base), abs=1e-4
    )
    assert (after.height_px, after.width_px) == (
        before.height_px + before.height_px % 2,
        before.width_px + before.width_px % 2,
    )
    assert render.verify(home) == []


@pytest.mark.parametrize("name", [name for name in SOURCES if "sound" in name])
def test_sound_starts_and_ends_with_the_video(name, tmp_path):
    home, source = run_over(tmp_path, clip(frames=FRAMES, **SOURCES[name]))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())

    assert rendered.sound == ("copied" if "mp4" in name else "aac")
    with av.open(str(path)) as made, av.open(str(source)) as given:
        (sound,) = made.streams.audio
        assert sound.codec_context.name == "aac"
        assert sound.rate == given.streams.audio[0].rate
        samples = sum(frame.samples for frame in made.decode(sound))
        assert samples / sound.rate == pytest.approx(FRAMES / 25, abs=0.1)


def test_playback_can_start_before_the_whole_file_is_downloaded(tmp_path):
    path, _ = rendered_runs.render_item(run_over(tmp_path, clip(frames=FRAMES))[0], rendered_runs.look())
    data = path.read_bytes()

    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as video:
        assert video.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_every_frame_shows_its_own_mask(tmp_path):
    path, _ = rendered_runs.render_item(
        run_over(tmp_path, clip(frames=FRAMES, width_px=192, height_px=128))[0], rendered_runs.look()
    )
    shown = rendered_runs.images_of(path)

    assert len(shown) == FRAMES
    for number, image_HWC in enumerate(shown):
        expected = np.asarray(rendered_runs.PALETTE, np.uint8)[rendered_runs.class_map(number, 128, 192)][..., ::-1]
        assert np.abs(image_HWC.astype(int) - expected).mean() < 6, number


def test_rotated_videos_are_rendered_upright(tmp_path):
    home, source = run_over(tmp_path, rotated(clip(frames=4, width_px=96, height_px=64), 90))
    path, _ = rendered_runs.render_item(home, rendered_runs.look(style="blend", clear_background=True))
    index = index_video(path)

    assert (index.height_px, index.width_px, index.orientation) == (96, 64, 1)
    upper, given = (
        rendered_runs.images_of(path)[3][:6],
        rendered_runs.images_of(source)[3][:6],
    )  # class 0: the source itself
    assert np.abs(upper.astype(int) - given).mean() < 8


ASPECTS = {
    "DV, 16:9": ({"container": "mp4"}, Fraction(64, 45), 1),
    "DVD": ({"codec": "mpeg2video", "container": "vob", "width_px": 720, "height_px": 576}, Fraction(64, 45), 1),
    "HDV": ({"container": "mpegts"}, Fraction(4, 3), 1),
    "camera with AVI": ({"codec": "mpeg4", "container": "avi"}, Fraction(12, 11), 1),
    "Matroska": ({"container": "matroska"}, Fraction(16, 9), 1),
    "turned by a quarter": ({"container": "mp4"}, Fraction(16, 9), 6),
    "turned by a half": ({"container": "mp4"}, Fraction(16, 9), 3),
    "mirrored and turned by a quarter": ({"container": "mov"}, Fraction(16, 9), 5),
    "square": ({"container": "mp4"}, Fraction(1), 1),
    "not stated": ({"container": "mp4"}, None, 6),
}


@pytest.mark.parametrize("case", ASPECTS)
def test_pixels_keep_their_shape(case, tmp_path):
    """Kind: pixels that are not square. The rendered video has the ratio of its source, swapped by a quarter turn."""
    made, aspect, orientation = ASPECTS[case]
    data = clip(frames=3, pixel_aspect=aspect, **made)
    home, source = run_over(tmp_path, oriented(data, MATRICES[orientation]) if orientation > 1 else data)
    path, _ = rendered_runs.render_item(home, rendered_runs.look())

    with av.open(str(source)) as given, av.open(str(path)) as made:
        stated = given.streams.video[0].sample_aspect_ratio or Fraction(1)
        assert stated == (aspect or 1)
        found = made.streams.video[0]
        assert found.sample_aspect_ratio == (1 / stated if orientation >= 5 else stated)
        assert found.codec_context.sample_aspect_ratio == found.sample_aspect_ratio  # in the bit stream too


def test_a_pause_of_days_and_a_frame_out_of_line_are_rendered(tmp_path):
    """MP4 refused both: a frame of 2³¹ ticks or more, and times that do not ascend."""
    pause = 50_000 * 25
    data = clip(container="mpegts", frames=6, pts=[0, 1, 2, pause, pause + 1, pause + 2], options={"bf": "0"})
    home, _ = run_over(tmp_path, data)
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    index = index_video(path)

    assert rendered.frames == index.frames == 6
    times = [0, 0.04, 0.08, 50_000, 50_000.04, 50_000.08]
    assert [index.time_s(frame) for frame in range(6)] == pytest.approx(times, abs=1e-3)


def test_sampled_frames_stay_on_screen_until_the_next_one(tmp_path):
    home, _ = run_over(tmp_path, clip(frames=FRAMES, audio=True), frames=range(10, 40, 5))
    path, _ = rendered_runs.render_item(home, rendered_runs.look())
    index = index_video(path)

    assert [index.time_s(frame) for frame in range(index.frames)] == pytest.approx([0.2 * n for n in range(6)])
    assert float(index.end * index.time_base) == pytest.approx(1.04)  # until the source's frame 36
    with av.open(str(path)) as video:
        sound = video.streams.audio[0]
        assert sum(frame.samples for frame in video.decode(sound)) / sound.rate == pytest.approx(1.04, abs=0.05)


def test_a_damaged_video_is_rendered_from_its_intact_frames(tmp_path):
    video = overwritten(clip(frames=FRAMES, audio=True, options={"bf": "0"}), 14, b"\xff")
    source = tmp_path / "source"
    source.write_bytes(video)
    good = []
    with contextlib.suppress(BrokenVideoError):
        for frame in decode_frames(source, index_video(source)):
            good.append(frame.frame_index)  # noqa: PERF401 - what came before the error counts
    path, rendered = rendered_runs.render_item(
        rendered_runs.finished(tmp_path / "run", source, frames=good), rendered_runs.look()
    )

    assert 20 < len(good) < FRAMES
    assert rendered.frames == index_video(path).frames == len(good)


def test_rendering_resumes_with_the_missing_piece(tmp_path, monkeypatch):
    home, _ = run_over(tmp_path, clip(frames=FRAMES))
    render_plan = rendered_runs.plan_for(home, rendered_runs.look())
    for piece in render_plan.pieces[:-1]:
        render.encode_pieces(render_plan, [piece], heartbeat=lambda: None)
    opened = []
    real = pieces.video.decode_frames
    monkeypatch.setattr(
        pieces.video, "decode_frames", lambda *given, **named: opened.append(1) or real(*given, **named)
    )
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())

    assert len(render_plan.pieces) == 4
    assert len(opened) == 1
    assert rendered.frames == index_video(path).frames == FRAMES
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.stem + ".json", path.name]


def test_a_video_of_other_frames_than_the_run_has_is_stale_and_removed(tmp_path):
    home, source = run_over(tmp_path, clip(frames=20), frames=range(16))
    path, _ = rendered_runs.render_item(home, rendered_runs.look())
    assert render.verify(home) == []
    rendered_runs.publish(home)
    assert path.exists()
    shown = render.derived_videos(runs.open_ledger(home))
    rendered_runs.finished(Path(home), source, frames=range(16, 20), begin=2, derived=shown)

    assert [line.split(":")[0] for line in render.verify(home)] == ["stale"]
    rendered_runs.publish(home)
    assert [*path.parent.iterdir()] == []
    assert render.verify(home) == []


def test_a_video_that_is_rendered_again_replaces_the_other_only_when_it_is_published(tmp_path):
    home, _ = run_over(tmp_path, clip(frames=4))
    path, first = rendered_runs.render_item(home, rendered_runs.look())
    blend = rendered_runs.look(style="blend")
    second = rendered_runs.encode_item(home, blend)

    assert hashlib.sha256(path.read_bytes()).hexdigest() == first.sha256 != second.sha256
    assert render.verify(home) == []
    rendered_runs.publish(home, blend)

    assert hashlib.sha256(path.read_bytes()).hexdigest() == second.sha256
    assert render.verify(home) == []
    assert [each.style for each in render.up_to_date(runs.open_ledger(home), look=blend)] == [blend]
    assert render.up_to_date(runs.open_ledger(home), look=rendered_runs.look()) == []


def test_verify_reports_changed_missing_and_unlisted_files(tmp_path):
    home, _ = run_over(tmp_path, clip(frames=4))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    path.write_bytes(path.read_bytes()[:-1])
    (path.parent / "unlisted.mp4").write_bytes(b"unlisted")
    assert [line.split(":")[0] for line in render.verify(home)] == ["torn", "orphan"]
    path.unlink()

    assert [line.split(":")[0] for line in render.verify(home)] == ["missing", "orphan"]
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == rendered.sha256


def test_repair_takes_a_rotten_video_out_of_the_run(tmp_path):
    """Its size is that of the receipt, so only its checksum tells."""
    home, _ = run_over(tmp_path, clip(frames=4))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert [line.split(":")[0] for line in render.verify(home)] == ["torn"]

    assert runs.repair(home, render.sound_videos).finished
    assert not path.exists()
    assert render.verify(home) + runs.verify(home) == []
    assert rendered_runs.render_item(home, rendered_runs.look()) == (path, rendered)


@pytest.mark.parametrize("content", ["no receipt", "[]", '{"item_id": "clip"}'])
def test_a_damaged_receipt_is_reported_and_its_video_rendered_again(content, tmp_path):
    """It ended every command, fsf score after everything had been scored."""
    home, _ = run_over(tmp_path, clip(frames=4))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    receipt = path.with_suffix(".json")
    receipt.write_text(content)

    assert render.verify(home)[0].startswith(f"torn: videos/{receipt.name} is not the receipt of a rendered video")
    assert render.up_to_date(runs.open_ledger(home)) == []
    assert rendered_runs.render_item(home, rendered_runs.look()) == (path, rendered)
    assert render.verify(home) == []


def test_a_missing_or_replaced_source_is_an_error(tmp_path):
    home, source = run_over(tmp_path, clip(frames=30))
    source.write_bytes(clip(frames=10))
    with pytest.raises(DecodeError, match="has 10 frames, but frame 29 was scored; was it replaced"):
        rendered_runs.plan_for(home, rendered_runs.look())
    source.unlink()
    with pytest.raises(FetchError, match="does not exist"):
        rendered_runs.plan_for(home, rendered_runs.look())
    with pytest.raises(OutputError, match="no frames of 'other'"):
        rendered_runs.plan_for(home, rendered_runs.look(), item_id="other")


def test_the_legend_shows_colour_name_and_share_of_every_class():
    class_map_HW = rendered_runs.class_map(0, 240, 320)
    plain = paint(np.full((240, 320, 3), 90, np.uint8), class_map_HW, rendered_runs.look(style="blend"))
    drawn = paint(np.full((240, 320, 3), 90, np.uint8), class_map_HW, rendered_runs.look(style="blend", legend=True))
    changed = np.argwhere((plain != drawn).any(axis=2))

    assert changed.max(axis=0)[0] < 60
    assert changed.max(axis=0)[1] < 200
    for colour in rendered_runs.PALETTE[1:]:
        assert (drawn[:60] == colour[::-1]).all(axis=2).sum() > 40


def test_a_legend_larger_than_the_image_is_cut_off():
    class_map_HW = np.zeros((16, 16), np.uint8)

    assert paint(np.zeros((16, 16, 3), np.uint8), class_map_HW, rendered_runs.look(legend=True)).shape == (16, 16, 3)


def test_masks_smaller_than_the_image_are_enlarged():
    drawn = paint(np.zeros((100, 200, 3), np.uint8), rendered_runs.class_map(0, 50, 50), rendered_runs.look())

    assert drawn.shape == (100, 200, 3)
    assert (drawn[60:] == (0, 0, 128)).all()


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_a_source_without_exact_seeking_is_decoded_once(container, tmp_path, monkeypatch):
    home, _ = run_over(tmp_path, clip(frames=FRAMES, container=container))
    begun = []
    real = pieces.video.decode_frames
    monkeypatch.setattr(pieces.video, "decode_frames", lambda *given, **named: begun.append(1) or real(*given, **named))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())

    assert len(begun) == (1 if container == "mpegts" else 4)
    assert rendered.frames == index_video(path).frames == FRAMES


def test_memory_holds_only_a_few_frames_of_a_piece(tmp_path):
    home, _ = run_over(tmp_path, clip("mpeg4", frames=60, width_px=320, height_px=240))
    render_plan = rendered_runs.plan_for(home, rendered_runs.look(style="blend", legend=True))
    for piece in render_plan.pieces:
        tracemalloc.start()
        render.encode_pieces(render_plan, [piece], heartbeat=lambda: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 320 * 240 * 3


def test_rendered_videos_are_listed_in_the_manifest_of_the_run(tmp_path):
    home, _ = run_over(tmp_path, clip(frames=4))
    path, rendered = rendered_runs.render_item(home, rendered_runs.look())
    files = runs.read_document(home, "manifest.json")["files"]

    assert [file["table"] for file in files] == ["class_stats", "masks", "videos"]
    assert files[-1] == {
        "part": None, "table": "videos", "path": f"videos/{path.name}", "rows": 4, "bytes": path.stat().st_size,
        "sha256": rendered.sha256,
    }  # fmt: skip
    assert cv2.VideoCapture(str(path)).read()[0]
