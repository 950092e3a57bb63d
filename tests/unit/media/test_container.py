"""Containers: detected by content, opened without access to other files, refused with a reason."""

import io

import numpy as np
import pytest

from fsf_core.errors import DecodeError, FetchError
from fsf_core.media.video import index_video, sniff_container
from tests.support.clips import audio_only, clip

CONTAINERS = {
    "mov": clip(frames=2),
    "matroska": clip(frames=2, container="matroska"),
    "avi": clip("mpeg4", frames=2, container="avi"),
    "mpegts": clip(frames=2, container="mpegts"),
    "mpeg": clip("mpeg2video", frames=2, container="dvd"),
    "flv": clip(frames=2, container="flv"),
    "asf": clip("wmv2", frames=2, container="asf"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_are_detected_by_content(name):
    assert sniff_container(CONTAINERS[name][:1024]) == name
    assert index_video(io.BytesIO(CONTAINERS[name])).container == name


def test_old_quicktime_and_blu_ray_streams_are_detected():
    assert sniff_container(b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat") == "mov"
    blu_ray = b"".join(b"\x00\x01\x02\x03" + b"\x47" * 1 + bytes(187) for _ in range(3))
    assert sniff_container(blu_ray) == "mpegts"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GIF89a" + bytes(50),
        b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(50),
        b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(50),
        b"\x00\x00\x00\x1cftypavif" + bytes(50),
        b"\x00\x00\x00\x1cftypheic" + bytes(50),
        b"\xff\xd8\xff\xe0" + bytes(50),
        b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n",
        b"ffconcat version 1.0\n",
        b"G" + bytes(500),
    ],
)
def test_images_playlists_and_audio_are_not_videos(head):
    assert sniff_container(head) is None


def test_a_playlist_named_mp4_cannot_open_another_file(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(clip(frames=3))
    script = tmp_path / "clip.mp4"
    for text in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"):
        script.write_text(text)
        with pytest.raises(DecodeError, match="expected a video container"):
            index_video(script)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is a text", "expected a video container"),
        (b"<html><body>404</body></html>", "expected a video container"),
        (np.random.default_rng(0).bytes(5000), "expected a video container"),
        (b"\x00\x00\x00\x20ftypisom" + np.random.default_rng(0).bytes(5000), "cannot open"),
        (b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(5000), "cannot open|no video stream|no frames"),
        (audio_only(), "no video stream .*audio"),
        (clip(frames=0, container="matroska"), "expected|empty|no video stream|no frames|cannot open"),
        (clip()[:2000], "cannot open"),
    ],
)
def test_a_file_that_is_no_video_is_an_error_with_the_reason(data, reason):
    with pytest.raises(DecodeError, match=reason):
        index_video(io.BytesIO(data))


def test_a_missing_file_is_a_fetch_error(tmp_path):
    with pytest.raises(FetchError, match="nowhere"):
        index_video(tmp_path / "nowhere.mp4")
