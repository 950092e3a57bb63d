"""Containers: detected by content, opened without access to other files, refused with a reason."""

import io
import tarfile
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from fsf_core.errors import DecodeError, FetchError
from fsf_core.media.video import decode_frames, index_video, sniff_container
from fsf_core.media.video.signatures import SNIFF_BYTES
from tests.support import assets
from tests.support.clips import audio_only, clip, picture

CONTAINERS = {
    "mov": {},
    "matroska": {"container": "matroska"},
    "avi": {"codec": "mpeg4", "container": "avi"},
    "mpegts": {"container": "mpegts"},
    "mpeg": {"codec": "mpeg2video", "container": "dvd"},
    "flv": {"container": "flv"},
    "asf": {"codec": "wmv2", "container": "asf"},
    "mxf": {"codec": "mpeg2video", "container": "mxf"},
    "gxf": {"codec": "mpeg2video", "container": "gxf", "width_px": 720, "height_px": 576, "frames": 3},
    "wtv": {"container": "wtv"},
    "nut": {"codec": "ffv1", "container": "nut"},
    "ivf": {"codec": "libvpx-vp9", "container": "ivf"},
    "dv": {"codec": "dvvideo", "container": "dv", "width_px": 720, "height_px": 576, "frames": 3},
    "yuv4mpegpipe": {"codec": "wrapped_avframe", "container": "yuv4mpegpipe"},
    "h264": {"container": "h264"},
    "hevc": {"codec": "libx265", "container": "hevc"},
    "mpegvideo": {"codec": "mpeg2video", "container": "mpeg2video"},
    "m4v": {"codec": "mpeg4", "container": "m4v"},
}
NEIGHBOURS = {
    "3GP": ("mov", {"codec": "mpeg4", "container": "3gp"}),
    "3G2": ("mov", {"container": "3g2"}),
    "F4V": ("mov", {"container": "f4v"}),
    "Video DVD": ("mpeg", {"codec": "mpeg2video", "container": "vob"}),
    "Super Video CD": ("mpeg", {"codec": "mpeg2video", "container": "svcd"}),
    "bare MPEG-1": ("mpegvideo", {"codec": "mpeg1video", "container": "mpeg1video"}),
    "bare H.264 with B-frames": ("h264", {"container": "h264", "options": {"bf": "3"}}),
    "VP8 in IVF": ("ivf", {"codec": "libvpx", "container": "ivf"}),
    "H.264 in NUT": ("nut", {"container": "nut"}),
    "DV of 50 Mbit/s": (
        "dv",
        {
            "codec": "dvvideo",
            "container": "dv",
            "width_px": 720,
            "height_px": 576,
            "pixel_format": "yuv422p",
            "frames": 3,
        },
    ),
}
FRAMES = 12


@pytest.mark.parametrize(("name", "made"), [*CONTAINERS.items(), *NEIGHBOURS.values()], ids=[*CONTAINERS, *NEIGHBOURS])
def test_containers_are_read_by_content(name, made):
    """Kind: what FFmpeg reads exactly. The reference is the pictures that were encoded, in order."""
    made = {"frames": FRAMES, **made}
    data = clip(**made)
    assert sniff_container(data[:SNIFF_BYTES]) == name
    index = index_video(io.BytesIO(data))
    frames = list(decode_frames(io.BytesIO(data), index))

    assert (index.container, index.frames) == (name, made["frames"])
    size = {"width_px": made.get("width_px", 96), "height_px": made.get("height_px", 64)}
    for number, frame in enumerate(frames):
        distances = [
            np.abs(frame.image_HWC.astype(int) - picture(other, **size)).mean() for other in range(made["frames"])
        ]
        assert int(np.argmin(distances)) == number
    times = np.asarray([frame.pts_s for frame in frames])
    last = -1 if name == "gxf" else None  # GXF counts fields in the order of storage: the last time is a guess
    assert np.diff(times)[:last] == pytest.approx(1 / 25, abs=0.0011)


@pytest.mark.parametrize("rate", [10, 25, 50, Fraction(30000, 1001)], ids=str)
@pytest.mark.parametrize("name", ["h264", "hevc", "mpegvideo", "m4v", "bare MPEG-1", "bare H.264 with B-frames"])
def test_frames_of_a_bare_stream_are_timed_by_its_rate(name, rate):
    _, made = NEIGHBOURS.get(name, (name, CONTAINERS.get(name)))
    if rate == 10 and made.get("codec", "").startswith(("mpeg1", "mpeg2")):
        rate = 24  # there are eight rates
    index = index_video(io.BytesIO(clip(frames=FRAMES, rate=rate, **made)))

    times = [index.time_s(frame) for frame in range(FRAMES)]
    assert times == pytest.approx([float(frame / Fraction(rate)) for frame in range(FRAMES)], abs=1e-5)


HIKVISION_HEAD = b"IMKH" + bytes([1, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0x10]) + bytes(24)


@pytest.mark.parametrize(
    ("name", "head", "made"),
    [
        ("a recording of a Hikvision camera", HIKVISION_HEAD, {"container": "vob"}),
        (
            "a track of a Video CD",
            b"RIFF" + bytes(4) + b"CDXAfmt " + bytes(28),
            {"codec": "mpeg2video", "container": "vob"},
        ),
    ],
)
def test_a_program_stream_behind_the_header_of_a_device_is_read(name, head, made):
    data = head + clip(frames=FRAMES, options={"bf": "0"}, **made)

    assert index_video(io.BytesIO(data)).container == "mpeg", name
    assert len(list(decode_frames(io.BytesIO(data), index_video(io.BytesIO(data))))) == FRAMES


@pytest.mark.parametrize("missing", [14, 17, 1000])
@pytest.mark.parametrize("container", ["vob", "dvd", "svcd", "vcd"])
def test_a_program_stream_may_begin_anywhere(container, missing):
    """What is left of the first packets is skipped, and frames before the next keyframe cannot be decoded."""
    codec = "mpeg1video" if container == "vcd" else "mpeg2video"
    whole = clip(codec, container=container, frames=30, gop=5, options={"bf": "0"})
    index = index_video(io.BytesIO(whole[missing:]))

    assert index.container == "mpeg"
    assert index.frames in (25, 30)
    assert len(list(decode_frames(io.BytesIO(whole[missing:]), index))) == index.frames


def test_an_archive_that_stores_a_program_stream_is_no_video():
    data = clip("mpeg2video", container="vob", frames=FRAMES)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("clip.mpg", data)
    taped = io.BytesIO()
    with tarfile.open(fileobj=taped, mode="w") as archive:
        member = tarfile.TarInfo("clip.mpg")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))

    assert [sniff_container(file.getvalue()[:SNIFF_BYTES]) for file in (packed, taped)] == [None, None]


@pytest.mark.parametrize("missing", [1, 3, 100, 187])
@pytest.mark.parametrize("blu_ray", ["0", "1"])
def test_a_transport_stream_may_begin_anywhere_in_a_packet(blu_ray, missing):
    """The rest of the first packet, a table that comes again, is skipped; so nothing is lost."""
    options = {"mpegts_m2ts_mode": blu_ray, "pat_period": "0.1", "mpegts_flags": "resend_headers"}
    whole = clip(container="mpegts", frames=30, gop=5, container_options=options, options={"bf": "0"})
    data = whole[missing:]
    index = index_video(io.BytesIO(data))

    assert index.container == "mpegts"
    assert len(list(decode_frames(io.BytesIO(data), index))) == 30


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_no_video(seed):
    """A forced demuxer reads whatever it is given, so what has no magic number has to be recognised strictly."""
    rng = np.random.default_rng(seed)
    heads = [rng.bytes(SNIFF_BYTES) for _ in range(500)]
    starts = [
        b"\x00\x00\x01" + bytes([kind]) + rng.bytes(1000) for kind in range(256) if kind != 0xBA for _ in range(8)
    ]
    numbers = [bytes(rng.integers(0, 4, SNIFF_BYTES, np.uint8)) for _ in range(500)]

    assert [head[:16] for head in heads + starts + numbers if sniff_container(head)] == []


def test_pictures_are_no_video():
    good = assets.good_images()

    assert {name: sniff_container(data[:SNIFF_BYTES]) for name, data in good.items()} == dict.fromkeys(good)


@pytest.mark.parametrize("length", [46, 93, 187, 191, 203])
def test_lines_of_text_that_begin_with_g_are_no_transport_stream(length):
    line = "GPS," + "p" * (length - 4) + "\n"
    for encoding in ("utf-8", "utf-16-le"):
        assert sniff_container((line * 200).encode(encoding)[:SNIFF_BYTES]) is None


def test_old_quicktime_and_blu_ray_streams_are_detected():
    assert sniff_container(b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat") == "mov"
    blu_ray = b"".join(b"\x00\x01\x02\x03" + b"\x47\x1f\xff\x10" + bytes(184) for _ in range(3))
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
