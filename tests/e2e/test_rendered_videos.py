"""Rendered videos, made by the commands, in a real browser."""

import json
import os
from pathlib import Path

import pytest

from fsf_core import render, runs
from fsf_core.media.video import index_video
from fsf_core.model.bundle import Bundle
from tests.support import clips, ledger, rendered_runs
from tests.support.browser import chromium
from tests.support.processes import fsf

PLAY = """
const video = document.querySelector("video");
video.onerror = () => done({error: video.error.message});
video.onended = () => {
  done({
    duration_s: video.duration, width_px: video.videoWidth, height_px: video.videoHeight,
    frames: video.getVideoPlaybackQuality().totalVideoFrames, sound_bytes: video.webkitAudioDecodedByteCount,
    ended_s: video.currentTime,
  });
};
video.play();
"""
SHOW = """
const video = document.querySelector("video");
video.onseeked = () => setTimeout(() => done(video.currentTime), 300);
video.currentTime = %s;
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    path.write_bytes(clips.rotated(clips.clip(frames=50, width_px=320, height_px=240, audio=True), 90))
    return path


def test_chromium_plays_every_frame_and_the_sound(clip: Path, tmp_path: Path) -> None:
    home = rendered_runs.finished(tmp_path / "run", clip)
    path, _ = rendered_runs.render_item(home, rendered_runs.look(style="blend", legend=True))
    page = tmp_path / "page.html"
    page.write_text(f'<body style="margin:0"><video src="{path.as_uri()}" width="480"></video>')
    with chromium(tmp_path / "profile") as window:
        window.open(page)
        seen = window.run(PLAY)
        window.run(SHOW % 1.0)
        window.screenshot(Path(os.environ.get("FSF_SCREENSHOTS", tmp_path)) / "rendered.png")

    assert "error" not in seen, seen
    assert (seen["height_px"], seen["width_px"]) == (320, 240)
    assert seen["duration_s"] == pytest.approx(2.0, abs=0.05)
    assert seen["frames"] == 50
    assert seen["ended_s"] == pytest.approx(2.0, abs=0.1)
    assert seen["sound_bytes"] > 0


def test_score_and_render_produce_videos_of_the_same_run(clip: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["score", "--bundle", tiny_bundle.uri, "--manifest", str(clip), "--out", str(out), "--provider", "cpu"]
    code, output = fsf(*words, "--render", "blend", "--legend")
    assert code == 0, output
    first = next((out / "videos").glob("*.mp4"))
    made = first.read_bytes()
    code, output = fsf("render", str(out), "--style", "mask")

    assert code == 0, output
    assert json.loads(output.splitlines()[-1])["films"] == 1
    assert first.read_bytes() != made
    assert index_video(first).frames == 50
    assert runs.verify(str(out)) + render.verify(str(out)) == []
    assert [
        file["path"] for file in runs.read_document(str(out), "manifest.json")["files"] if file["table"] == "videos"
    ] == [f"videos/{first.name}"]


def test_an_unfinished_run_cannot_be_rendered(tmp_path: Path) -> None:
    code, output = fsf("render", str(tmp_path))
    assert (code, "holds no run (run.json is missing)" in output) == (2, True), output

    with ledger.claim_run(str(tmp_path / "run"), fingerprint={"bundle": "ab" * 32}, details={}):
        pass
    code, output = fsf("render", str(tmp_path / "run"))
    assert (code, "holds no finished run" in output) == (2, True), output
