"""Video decoding, compared with a sequential decode and with OpenCV's VideoCapture."""

import io
import pickle
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from fsf_core.errors import LimitError
from fsf_core.media.video import Sampling, decode_frames, index_video
from tests.support.clips import clip, joined
from tests.support.sample_videos import HEALTHY, decoded, digest, encoded, long_h264

each_healthy = pytest.mark.parametrize("name", HEALTHY)


def opencv(video, path):
    path.write_bytes(video)
    capture, images = cv2.VideoCapture(str(path)), []
    while (result := capture.read())[0]:
        images.append(digest(result[1]))
    return images


@each_healthy
def test_segments_together_equal_a_sequential_decode(name):
    whole, error = decoded(encoded(name))
    assert error is None
    assert decoded(encoded(name), segment_frames=7) == (whole, None)
    assert [frame for frame, _, _ in whole] == list(range(len(whole)))


@pytest.mark.parametrize("name", [name for name in HEALTHY if not name.startswith("av1")])
def test_frames_equal_opencvs(name, tmp_path):
    whole, _ = decoded(encoded(name))
    assert [image for _, _, image in whole] == opencv(encoded(name), tmp_path / "clip")


@each_healthy
def test_the_index_has_every_frame_and_its_time(name):
    index = index_video(io.BytesIO(encoded(name)))
    whole, _ = decoded(encoded(name))
    assert index.frames == len(whole) == HEALTHY[name].get("frames", 30) + HEALTHY[name].get("start", 0)
    assert [index.time_s(frame) for frame in range(index.frames)] == [time_s for _, time_s, _ in whole]
    assert whole[0][2][0] == (index.height_px, index.width_px, 3)
    assert index.shortfall is None


@each_healthy
def test_keyframes_only_sampling_returns_the_same_images(name):
    index = index_video(io.BytesIO(encoded(name)))
    whole, _ = decoded(encoded(name))
    keyframes, error = decoded(encoded(name), sampling=Sampling(keyframes_only=True))
    assert keyframes == [whole[frame] for frame in index.keyframes]
    assert error is None


def test_av1_is_decoded_although_opencv_returns_nothing(tmp_path):
    frames, _ = decoded(encoded("av1 mp4"))
    assert len(frames) == 30
    assert opencv(encoded("av1 mp4"), tmp_path / "clip.mp4") == []


def test_an_avi_with_b_frames_keeps_its_frame_rate():
    frames, _ = decoded(encoded("h264 avi, B-frames without timestamps"))
    assert np.diff([time_s for _, time_s, _ in frames]) == pytest.approx(1 / 25)


def test_times_are_the_sources_and_may_start_above_zero():
    ticks = HEALTHY["h264 variable frame rate"]["pts"]
    frames, _ = decoded(encoded("h264 variable frame rate"))
    assert [time_s for _, time_s, _ in frames] == pytest.approx([tick / 25 for tick in ticks])
    assert decoded(encoded("h264 ts"))[0][0][1] > 0


def test_frames_cut_by_an_edit_list_are_not_counted():
    whole, _ = decoded(clip())
    cut, _ = decoded(encoded("h264 edit list"))
    assert [image for _, _, image in cut] == [image for _, _, image in whole[5:]]


def test_a_video_that_changes_size_returns_frames_in_their_own_sizes():
    both = joined(clip(container="mpegts", frames=12), clip(container="mpegts", frames=12, width_px=128, height_px=80))
    frames, error = decoded(both, segment_frames=6)
    assert [image[0] for _, _, image in frames] == [(64, 96, 3)] * 12 + [(80, 128, 3)] * 12
    assert error is None


class CountingFile(io.BytesIO):
    read_bytes = 0

    def read(self, size=-1):
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_decoding_a_late_segment_seeks_to_it():
    video = clip("mjpeg", container="mov", pixel_format="yuvj420p", frames=75, width_px=320, height_px=240)
    index = index_video(io.BytesIO(video))
    source = CountingFile(video)
    last = range(index.frames - 5, index.frames)
    assert len(list(decode_frames(source, index, last))) == 5
    assert source.read_bytes < len(video) / 3


def test_a_path_and_a_file_object_give_the_same_frames(tmp_path):
    path = tmp_path / "odd %03d name:#?.txt"
    path.write_bytes(clip(frames=3))
    index = index_video(path)
    assert [digest(f.image_HWC) for f in decode_frames(path, index)] == [
        digest(f.image_HWC) for f in decode_frames(io.BytesIO(clip(frames=3)), index)
    ]
    assert [f.frame_index for f in decode_frames(str(path), index)] == [0, 1, 2]


def test_an_index_can_be_pickled():
    index = index_video(io.BytesIO(clip()))
    copy = pickle.loads(pickle.dumps(index))  # noqa: S301  # our own bytes
    frames = decode_frames(io.BytesIO(clip()), copy, range(10, 20))
    assert [frame.frame_index for frame in frames] == [*range(10, 20)]


def test_limits_are_enforced():
    with pytest.raises(LimitError, match="96x64"):
        index_video(io.BytesIO(clip()), max_frame_px=1000)
    with pytest.raises(LimitError, match="more than 10 frames"):
        index_video(io.BytesIO(clip()), max_frames=10)


def test_a_frame_that_grows_beyond_the_limit_is_not_decoded():
    both = joined(clip(container="mpegts", frames=12), clip(container="mpegts", frames=12, width_px=320, height_px=240))
    frames, error = decoded(both, max_frame_px=128 * 80)
    assert len(frames) == 12
    assert error.frame_index == 12


def test_a_stalled_decoder_is_an_error():
    index = index_video(io.BytesIO(long_h264()))
    with pytest.raises(LimitError, match="no frame for"):
        list(decode_frames(io.BytesIO(long_h264()), index, stall_s=0.0))


def test_memory_does_not_grow_with_the_length_of_a_video():
    video = clip("mpeg4", frames=75, width_px=320, height_px=240)
    index = index_video(io.BytesIO(video))
    tracemalloc.start()
    count = sum(1 for _ in decode_frames(io.BytesIO(video), index))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 75
    assert peak < 10 * 320 * 240 * 3


def test_closing_the_generator_closes_the_file(tmp_path):
    path = Path(tmp_path / "clip.mp4")
    path.write_bytes(clip())
    frames = decode_frames(path, index_video(path))
    next(frames)
    frames.close()
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path not in opened
