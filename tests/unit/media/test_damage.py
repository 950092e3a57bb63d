"""Truncated and damaged videos: exact frames as far as possible, then an error with the first missing one."""

import io
import pickle

import numpy as np
import pytest

from fsf_core.errors import ItemError
from fsf_core.media.video import Sampling, decode_frames, index_video
from tests.support.clips import clip, overwritten, packets_of, with_duration
from tests.support.sample_videos import OPEN_GOP, decoded, encoded, long_h264

TRUNCATED = {
    "mp4": {"container_options": {"moov_size": "8192"}},
    "fragmented mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mkv": {"container": "matroska"},
    "webm": {"codec": "libvpx-vp9", "container": "webm"},
    "ts": {"container": "mpegts"},
    "avi": {"codec": "mpeg4", "container": "avi"},
    "avi with B-frames": {"container": "avi"},
    "flv": {"container": "flv"},
    "asf": {"codec": "wmv2", "container": "asf"},
}


@pytest.mark.parametrize("share", [0.5, 0.7])
@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_video_returns_its_frames_and_then_an_error(name, share):
    video = clip(frames=75, **TRUNCATED[name])
    whole, _ = decoded(video)
    cut = video[: int(share * len(video)) - 1]
    frames, error = decoded(cut)
    assert frames or name.startswith("avi")  # AVI's headers and index are half of a file this small
    assert frames == whole[: len(frames)]
    assert error.frame_index == len(frames)
    assert decoded(cut, segment_frames=10)[0] == frames


def test_frames_before_a_truncation_can_be_decoded_without_an_error():
    cut = clip(frames=75, container="matroska")[:-9000]
    assert len(decoded(cut, sampling=Sampling(end_s=0.2))[0]) == 5
    assert decoded(cut, sampling=Sampling(end_s=0.2))[1] is None
    assert "declares 3.000 s" in str(decoded(cut)[1])


def test_a_declared_duration_that_is_too_long_is_an_error():
    video = clip(container="matroska")
    frames, error = decoded(with_duration(video, 60.0))
    assert len(frames) >= 27
    assert "declares 60.000 s" in str(error)
    assert len(decoded(with_duration(video, 0.2))[0]) == 30
    assert decoded(with_duration(video, 0.2))[1] is None


def test_only_frames_that_depend_on_a_damaged_one_are_lost():
    video = long_h264()
    whole, _ = decoded(video)
    position = next(n for n, (_, _, pts, key) in enumerate(packets_of(video)) if key and pts > 0) + 10
    assert packets_of(video)[position][3]  # frame 20, a keyframe
    frames, error = decoded(overwritten(video, position))
    numbers = [frame for frame, _, _ in frames]
    # When a keyframe is lost, up to three frames still in the decoder may come out of order.
    assert set(range(20, 30)) <= set(range(75)) - set(numbers) <= set(range(17, 30))
    assert frames == [whole[number] for number in numbers]
    first = min(set(range(75)) - set(numbers))
    assert error.frame_index == first
    assert f"frame {first} at {first / 25:.3f} s" in str(error)
    assert f"{75 - len(numbers)} of 75" in str(error)
    assert pickle.loads(pickle.dumps(error)).frame_index == first  # noqa: S301  # our own bytes


def test_damage_outside_the_wanted_frames_is_not_an_error():
    video = long_h264()
    damaged = overwritten(video, 20)
    assert decoded(damaged)[1] is not None
    assert decoded(damaged, sampling=Sampling(every_nth=10, end_s=0.8))[1] is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"options": OPEN_GOP},
        {"codec": "libx265"},
        {"codec": "libsvtav1"},
        {"container": "avi"},
        {"codec": "mpeg4", "options": {"bf": "2"}},
    ],
)
@pytest.mark.parametrize("packet", [3, 11, 24])
def test_damage_loses_the_same_frames_in_segments_as_in_one_pass(options, packet):
    video = clip(frames=40, **options)
    whole, _ = decoded(video)
    damaged = overwritten(video, packet, b"\xff")
    frames, error = decoded(damaged)
    assert len(frames) < 40
    assert error.frame_index == min(set(range(40)) - {frame for frame, _, _ in frames})
    assert frames == [whole[frame] for frame, _, _ in frames]
    assert decoded(damaged, segment_frames=10)[0] == frames


@pytest.mark.parametrize(
    ("container", "options"),
    [("matroska", {}), ("matroska", {"cluster_time_limit": "400"})],
    ids=["one cluster", "many clusters"],
)
def test_bytes_that_the_demuxer_skips_silently_are_reported(container, options):
    video = clip(frames=60, container=container, container_options=options)
    whole, _ = decoded(video)
    at = packets_of(video)[20][0]
    damaged = video[:at] + bytes(200) + video[at + 200 :]
    frames, error = decoded(damaged)
    assert len(frames) < 60
    assert 10 < error.frame_index <= 20
    assert frames[: error.frame_index] == whole[: error.frame_index]
    assert decoded(damaged, segment_frames=10)[0] == frames
    assert decoded(damaged, segment_frames=10)[1] is not None


@pytest.mark.parametrize("name", ["h264 mp4", "h264 mkv", "h264 ts", "mpeg4 avi", "h264 flv", "mpeg2 ps", "wmv asf"])
def test_random_damage_never_loses_frames_silently(name):
    video = encoded(name)
    rng = np.random.default_rng(7)
    for _ in range(12):
        data = bytearray(video)
        for position in rng.integers(16, len(data), 6):
            data[position] = rng.integers(256)
        try:
            index = index_video(io.BytesIO(bytes(data)))
            frames = [f.frame_index for f in decode_frames(io.BytesIO(bytes(data)), index)]
        except ItemError:
            continue
        assert frames == list(range(index.frames))


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
def test_pieces_of_a_keyframe_that_are_lost_in_a_transport_stream_are_reported(codec):
    """Kind: a broadcast loses pieces of packets; FFmpeg's decoder of H.265 returns damaged pictures without a word."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    video = clip(codec, container="mpegts", frames=40, width_px=320, height_px=240, options=options)
    whole, _ = decoded(video)
    keyframe = [position for position, _, _, key in packets_of(video) if key][2] // 188 * 188
    damaged = video[: keyframe + 2 * 188] + video[keyframe + 4 * 188 :]
    frames, error = decoded(damaged)
    assert 20 <= len(frames) < 40
    assert all(image in {image for _, _, image in whole} for _, _, image in frames)
    assert error.frame_index == min(set(range(40)) - {number for number, _, _ in frames})
    assert decoded(damaged, segment_frames=10)[0] == frames
