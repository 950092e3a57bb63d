"""A cut file of MXF, DV or YUV4MPEG is reported: FFmpeg leaves its last frame out, or fills it up, silently."""

import io

import pytest

from fsf_core.errors import DecodeError
from fsf_core.media.video import decode_frames, index_video
from tests.support.clips import clip

RAW = {"codec": "wrapped_avframe", "container": "yuv4mpegpipe"}
DV = {"codec": "dvvideo", "container": "dv", "width_px": 720, "frames": 3}
FILES = {
    "MXF": {"codec": "mpeg2video", "container": "mxf"},
    "DV PAL": DV | {"height_px": 576},
    "DV NTSC": DV | {"height_px": 480, "pixel_format": "yuv411p", "rate": 30},
    "YUV4MPEG": RAW,
    "YUV4MPEG of odd size": RAW | {"width_px": 65, "height_px": 49},
    "YUV4MPEG 4:2:2": RAW | {"pixel_format": "yuv422p", "width_px": 65},
    "YUV4MPEG 4:1:1": RAW | {"pixel_format": "yuv411p", "width_px": 65},
    "YUV4MPEG 4:4:4": RAW | {"pixel_format": "yuv444p"},
    "YUV4MPEG grey": RAW | {"pixel_format": "gray"},
}


def decoded(data):
    found = []
    try:
        index = index_video(io.BytesIO(data))
        for frame in decode_frames(io.BytesIO(data), index):
            found.append(frame.frame_index)  # noqa: PERF401 - what came before the error counts
    except DecodeError as error:
        return found, str(error)
    return found, None


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_lacks_nothing_and_a_cut_one_is_reported(name):
    made = {"frames": 6} | FILES[name]
    whole = clip(**made)

    assert decoded(whole) == ([*range(made["frames"])], None)
    for share in (0.63, 0.97):
        found, error = decoded(whole[: int(len(whole) * share)])
        assert error is not None, share
        assert found == [*range(len(found))]
        assert len(found) <= made["frames"]
