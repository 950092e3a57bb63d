"""Which of several video streams is scored: the video, in whatever order the file holds its streams.

The kind is "a stream that a player does not show comes first": thumbnails, covers, previews, another programme. The
reference is FFmpeg's av_find_best_stream, and for streams of the same mark the size.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from fsf_core.media.video import decode_frames, estimate_frames, index_video
from tests.support.clips import picture

FRAMES = 12
THUMBNAIL = {"codec": "mjpeg", "size": (24, 32), "frames": 1, "pixel_format": "yuvj420p"}
SMALL = {"codec": "libx264", "size": (24, 32), "frames": FRAMES}
VIDEO = {"codec": "libx264", "size": (64, 96), "frames": FRAMES}


def file_of(container, *streams):
    """Write video streams in this order; each holds pictures of its own, by its seed."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        made, packets = [], []
        for given in streams:
            stream = output.add_stream(given["codec"], rate=25)
            stream.height, stream.width = given["size"]
            stream.pix_fmt = given.get("pixel_format", "yuv420p")
            stream.codec_context.thread_count = 1
            stream.disposition = given.get("mark", Disposition(0))
            made.append(stream)
        for stream, given in zip(made, streams, strict=True):
            height_px, width_px = given["size"]
            for number in range(given["frames"]):
                image_HWC = picture(number, height_px=height_px, width_px=width_px)
                frame = av.VideoFrame.from_ndarray(image_HWC, format="bgr24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                packets += stream.encode(frame)
            packets += stream.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return file.getvalue()


def scored(data):
    """Return the stream, the number of frames and their size."""
    source = io.BytesIO(data)
    index = index_video(source)
    frames = list(decode_frames(source, index))
    assert len(frames) == index.frames
    assert {frame.image_HWC.shape[:2] for frame in frames} == {(index.height_px, index.width_px)}
    assert estimate_frames(source) in (0, index.frames, None)
    size = {"height_px": index.height_px, "width_px": index.width_px}
    assert np.abs(frames[-1].image_HWC.astype(int) - picture(index.frames - 1, **size)).mean() < 25
    return index.stream_index, index.frames, (index.height_px, index.width_px)


MARKED = {"mark": Disposition.default}
COVER = THUMBNAIL | {"mark": Disposition.attached_pic}
ALIKE = {  # no stream is marked as default, or all are
    "a thumbnail, then the video": ((THUMBNAIL, VIDEO), 1),
    "the video, then a thumbnail": ((VIDEO, THUMBNAIL), 0),
    "a large thumbnail": ((THUMBNAIL | {"size": (480, 640)}, VIDEO), 1),
    "a small stream, then a large one": ((SMALL, VIDEO), 1),
    "two of one size": ((VIDEO, VIDEO), 0),
}
BY_MARK = {
    "a thumbnail, then the video marked as default": ((THUMBNAIL, VIDEO | MARKED), 1),
    "a large stream, then a small one marked as default": ((VIDEO, SMALL | MARKED), 1),
    "a large stream marked as default, then a small one": ((VIDEO | MARKED, SMALL), 0),
}


@pytest.mark.parametrize("container", ["matroska", "nut", "mpegts", "avi", "mp4", "mov"])
@pytest.mark.parametrize("case", ALIKE)
def test_the_larger_stream_with_several_frames_is_scored(case, container):
    streams, expected = ALIKE[case]
    if container in ("mp4", "mov"):  # which mark the first, unless some are marked
        streams = [stream | MARKED for stream in streams]
    if container == "mpegts":  # holds no MJPEG
        streams = [stream | {"codec": "mpeg2video", "pixel_format": "yuv420p"} for stream in streams]

    assert scored(file_of(container, *streams)) == (expected, FRAMES, streams[expected]["size"])


@pytest.mark.parametrize("container", ["matroska", "nut", "mp4", "mov"])
@pytest.mark.parametrize("case", BY_MARK)
def test_the_default_mark_comes_before_size(case, container):
    streams, expected = BY_MARK[case]

    assert scored(file_of(container, *streams)) == (expected, FRAMES, streams[expected]["size"])


def test_the_choice_is_noted():
    (note,) = index_video(io.BytesIO(file_of("matroska", THUMBNAIL, SMALL, VIDEO))).notes

    assert note == "video stream 2 (96x64) was scored, not 0 (32x24), 1 (32x24)"
    assert index_video(io.BytesIO(file_of("mp4", COVER, VIDEO))).notes == ()


def test_covers_count_for_nothing():
    data = file_of("mp4", COVER | {"size": (480, 640)}, VIDEO)
    with av.open(io.BytesIO(data)) as written:
        assert {stream.disposition for stream in written.streams.video} == {
            Disposition.default,
            Disposition.attached_pic,
        }

    assert scored(data)[1:] == (FRAMES, VIDEO["size"])


def test_the_choice_is_made_once_for_index_and_decoding(tmp_path):
    """A path and an open file lead to the same stream, and a part of the frames comes from it too."""
    path = tmp_path / "two.mkv"
    path.write_bytes(file_of("matroska", THUMBNAIL, SMALL, VIDEO))
    index = index_video(path)

    assert index.stream_index == index_video(io.BytesIO(path.read_bytes())).stream_index == 2
    assert [frame.frame_index for frame in decode_frames(path, index, range(5, 8))] == [5, 6, 7]
