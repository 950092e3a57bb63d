"""Sampling of frames by number, rate, time and keyframe."""

import io

import pytest

from fsf_core.media.video import Sampling, index_video, select_frames
from tests.support.clips import clip
from tests.support.sample_videos import decoded, encoded


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), range(30)),
        (Sampling(every_nth=7), [0, 7, 14, 21, 28]),
        (Sampling(start_s=0.4, end_s=0.6), [10, 11, 12, 13, 14]),
        (Sampling(every_nth=2, start_s=0.42), [11, 13, 15, 17, 19, 21, 23, 25, 27, 29]),
        (Sampling(fps=5), [0, 5, 10, 15, 20, 25]),
        (Sampling(fps=10), [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27]),
        (Sampling(fps=5, start_s=0.4, end_s=0.9), [10, 15, 20]),
        (Sampling(fps=1000), range(30)),
        (Sampling(keyframes_only=True), [0, 10, 20]),
        (Sampling(keyframes_only=True, start_s=0.1), [10, 20]),
        (Sampling(start_s=99), []),
    ],
)
def test_sampling_selects_the_expected_frames(sampling, expected):
    index = index_video(io.BytesIO(clip()))
    whole, _ = decoded(clip())
    assert select_frames(index, sampling).tolist() == list(expected)
    assert decoded(clip(), sampling=sampling) == ([whole[frame] for frame in expected], None)
    assert decoded(clip(), sampling=sampling, segment_frames=10)[0] == [whole[frame] for frame in expected]


def test_fps_sampling_of_a_variable_frame_rate_selects_what_is_on_screen():
    index = index_video(io.BytesIO(encoded("h264 variable frame rate")))  # frame 10 is on screen until 2 s
    assert select_frames(index, Sampling(fps=2)).tolist() == [0, 6, 10, 11, 15, 18]


@pytest.mark.parametrize(
    "arguments",
    [
        {"every_nth": 0},
        {"fps": 0.0},
        {"fps": float("nan")},
        {"start_s": -1.0},
        {"start_s": 2.0, "end_s": 2.0},
        {"every_nth": 2, "fps": 1.0},
        {"keyframes_only": True, "fps": 1.0},
    ],
)
def test_invalid_sampling_is_refused(arguments):
    with pytest.raises(ValueError, match=r"every_nth|fps|time range"):
        Sampling(**arguments)
