"""Films: every scored frame at its time, the source's size and sound, in any number of pieces, listed and verified."""

import contextlib
import json
import tracemalloc
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
from tests.support.clips import clip, overwritten, rotated

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


def reel(tmp_path, data, **given):
    source = tmp_path / "source"
    source.write_bytes(data)
    return rendered_runs.finished(tmp_path / "run", source, **given), source


@pytest.mark.parametrize("name", SOURCES)
def test_a_film_has_the_frames_times_and_length_of_its_source(name, tmp_path):
    home, source = reel(tmp_path, clip(**{"frames": FRAMES, **SOURCES[name]}))
    path, film = rendered_runs.film_of(home, rendered_runs.look())
    before, after = index_video(source), index_video(path)

    assert (after.container, after.codec, after.rotation_deg) == ("mov", "h264", 0)
    assert after.frames == before.frames == film.frames
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
def test_the_sound_is_kept_and_begins_and_ends_with_the_pictures(name, tmp_path):
    home, source = reel(tmp_path, clip(frames=FRAMES, **SOURCES[name]))
    path, film = rendered_runs.film_of(home, rendered_runs.look())

    assert film.sound == ("copied" if "mp4" in name else "aac")
    with av.open(str(path)) as made, av.open(str(source)) as given:
        (sound,) = made.streams.audio
        assert sound.codec_context.name == "aac"
        assert sound.rate == given.streams.audio[0].rate
        samples = sum(frame.samples for frame in made.decode(sound))
        assert samples / sound.rate == pytest.approx(FRAMES / 25, abs=0.1)


def test_a_browser_can_begin_before_it_has_the_whole_file(tmp_path):
    path, _ = rendered_runs.film_of(reel(tmp_path, clip(frames=FRAMES))[0], rendered_runs.look())
    data = path.read_bytes()

    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_every_frame_shows_its_own_mask_whatever_piece_it_is_in(tmp_path):
    path, _ = rendered_runs.film_of(
        reel(tmp_path, clip(frames=FRAMES, width_px=192, height_px=128))[0], rendered_runs.look()
    )
    shown = rendered_runs.pictures(path)

    assert len(shown) == FRAMES
    for number, image_HWC in enumerate(shown):
        expected = np.asarray(rendered_runs.PALETTE, np.uint8)[rendered_runs.class_map(number, 128, 192)][..., ::-1]
        assert np.abs(image_HWC.astype(int) - expected).mean() < 6, number


def test_phone_videos_are_drawn_upright(tmp_path):
    home, source = reel(tmp_path, rotated(clip(frames=4, width_px=96, height_px=64), 90))
    path, _ = rendered_runs.film_of(home, rendered_runs.look(style="blend", clear_background=True))
    index = index_video(path)

    assert (index.height_px, index.width_px, index.rotation_deg) == (96, 64, 0)
    upper, given = (
        rendered_runs.pictures(path)[3][:6],
        rendered_runs.pictures(source)[3][:6],
    )  # class 0: the picture itself
    assert np.abs(upper.astype(int) - given).mean() < 8


def test_sampled_frames_stay_on_screen_until_the_next_one(tmp_path):
    home, _ = reel(tmp_path, clip(frames=FRAMES, audio=True), frames=range(10, 40, 5))
    path, _ = rendered_runs.film_of(home, rendered_runs.look())
    index = index_video(path)

    assert [index.time_s(frame) for frame in range(index.frames)] == pytest.approx([0.2 * n for n in range(6)])
    assert float(index.end * index.time_base) == pytest.approx(1.04)  # until the source's frame 36
    with av.open(str(path)) as film:
        sound = film.streams.audio[0]
        assert sum(frame.samples for frame in film.decode(sound)) / sound.rate == pytest.approx(1.04, abs=0.05)


def test_a_broken_video_becomes_a_film_of_its_good_frames(tmp_path):
    video = overwritten(clip(frames=FRAMES, audio=True, options={"bf": "0"}), 14, b"\xff")
    source = tmp_path / "source"
    source.write_bytes(video)
    good = []
    with contextlib.suppress(BrokenVideoError):
        for frame in decode_frames(source, index_video(source)):
            good.append(frame.frame_index)  # noqa: PERF401 - what came before the error counts
    path, film = rendered_runs.film_of(
        rendered_runs.finished(tmp_path / "run", source, frames=good), rendered_runs.look()
    )

    assert 20 < len(good) < FRAMES
    assert film.frames == index_video(path).frames == len(good)


def test_a_film_that_was_half_made_goes_on_with_the_missing_piece(tmp_path, monkeypatch):
    home, _ = reel(tmp_path, clip(frames=FRAMES))
    wanted = rendered_runs.ordered(home, rendered_runs.look())
    for piece in wanted.pieces[:-1]:
        render.encode_pieces(wanted, [piece], tick=lambda: None)
    opened = []
    real = pieces.video.decode_frames
    monkeypatch.setattr(
        pieces.video, "decode_frames", lambda *given, **named: opened.append(1) or real(*given, **named)
    )
    path, film = rendered_runs.film_of(home, rendered_runs.look())

    assert len(wanted.pieces) == 4
    assert len(opened) == 1
    assert film.frames == index_video(path).frames == FRAMES
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.stem + ".json", path.name]


def test_a_film_of_other_frames_than_the_run_has_is_stale_and_goes(tmp_path):
    home, source = reel(tmp_path, clip(frames=20), frames=range(16))
    path, _ = rendered_runs.film_of(home, rendered_runs.look())
    assert render.verify(home) == []
    assert render.remove_stale(home) == 0
    rendered_runs.finished(Path(home), source, frames=range(16, 20), begin=2)

    assert [line.split(":")[0] for line in render.verify(home)] == ["stale"]
    assert render.remove_stale(home) == 2
    assert not path.exists()


def test_a_film_that_was_touched_and_a_file_that_nobody_lists_are_told(tmp_path):
    home, _ = reel(tmp_path, clip(frames=4))
    path, film = rendered_runs.film_of(home, rendered_runs.look())
    path.write_bytes(path.read_bytes()[:-1])
    (path.parent / "mine.mp4").write_bytes(b"mine")
    assert [line.split(":")[0] for line in render.verify(home)] == ["torn", "orphan"]
    path.unlink()

    assert [line.split(":")[0] for line in render.verify(home)] == ["missing", "orphan"]
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == film.sha256


def test_a_source_that_is_gone_or_another_one_says_so(tmp_path):
    home, source = reel(tmp_path, clip(frames=30))
    source.write_bytes(clip(frames=10))
    with pytest.raises(DecodeError, match="has 10 frames, scored was 29; was it replaced"):
        rendered_runs.ordered(home, rendered_runs.look())
    source.unlink()
    with pytest.raises(FetchError, match="does not exist"):
        rendered_runs.ordered(home, rendered_runs.look())
    with pytest.raises(OutputError, match="no frames of 'other'"):
        rendered_runs.ordered(home, rendered_runs.look(), item_id="other")


def test_the_legend_names_classes_in_their_colours_with_their_shares():
    class_map_HW = rendered_runs.class_map(0, 240, 320)
    plain = paint(np.full((240, 320, 3), 90, np.uint8), class_map_HW, rendered_runs.look(style="blend"))
    drawn = paint(np.full((240, 320, 3), 90, np.uint8), class_map_HW, rendered_runs.look(style="blend", legend=True))
    changed = np.argwhere((plain != drawn).any(axis=2))

    assert changed.max(axis=0)[0] < 60
    assert changed.max(axis=0)[1] < 200
    for colour in rendered_runs.PALETTE[1:]:
        assert (drawn[:60] == colour[::-1]).all(axis=2).sum() > 40


def test_a_legend_larger_than_the_picture_is_cut_off():
    class_map_HW = np.zeros((16, 16), np.uint8)

    assert paint(np.zeros((16, 16, 3), np.uint8), class_map_HW, rendered_runs.look(legend=True)).shape == (16, 16, 3)


def test_masks_at_the_networks_size_are_drawn_at_the_pictures():
    drawn = paint(np.zeros((100, 200, 3), np.uint8), rendered_runs.class_map(0, 50, 50), rendered_runs.look())

    assert drawn.shape == (100, 200, 3)
    assert (drawn[60:] == (0, 0, 128)).all()


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_a_source_that_cannot_be_entered_is_read_once(container, tmp_path, monkeypatch):
    home, _ = reel(tmp_path, clip(frames=FRAMES, container=container))
    begun = []
    real = pieces.video.decode_frames
    monkeypatch.setattr(pieces.video, "decode_frames", lambda *given, **named: begun.append(1) or real(*given, **named))
    path, film = rendered_runs.film_of(home, rendered_runs.look())

    assert len(begun) == (1 if container == "mpegts" else 4)
    assert film.frames == index_video(path).frames == FRAMES


def test_memory_holds_a_few_pictures_of_a_piece(tmp_path):
    home, _ = reel(tmp_path, clip("mpeg4", frames=60, width_px=320, height_px=240))
    wanted = rendered_runs.ordered(home, rendered_runs.look(style="blend", legend=True))
    for piece in wanted.pieces:
        tracemalloc.start()
        render.encode_pieces(wanted, [piece], tick=lambda: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 * 320 * 240 * 3


def test_films_are_listed_with_the_files_of_the_run(tmp_path):
    home, _ = reel(tmp_path, clip(frames=4))
    path, film = rendered_runs.film_of(home, rendered_runs.look())
    runs.publish(home, {"items": {"total": 1}}, others=render.manifest_entries(home))
    files = runs.read_document(home, "manifest.json")["files"]

    assert [file["table"] for file in files] == ["class_stats", "masks", "videos"]
    assert files[-1] == {
        "part": None, "table": "videos", "path": f"videos/{path.name}", "rows": 4, "bytes": path.stat().st_size,
        "sha256": film.sha256,
    }  # fmt: skip
    assert cv2.VideoCapture(str(path)).read()[0]
