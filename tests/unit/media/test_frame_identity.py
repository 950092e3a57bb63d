"""A frame is known by its packet and numbered as the decoder returns it, whatever the times of the file are.

The reference is a whole decode by FFmpeg. Its frames and times were compared with the ffmpeg and ffprobe programs.
"""

import io
from functools import cache

import av
import pytest
from av.video.reformatter import Interpolation

from fsf_core.errors import DecodeError
from fsf_core.media.video import Sampling, index_video, select_frames
from tests.support.clips import clip, continued, stored_again
from tests.support.field_pictures import field_video
from tests.support.sample_videos import OPEN_GOP, decoded, digest

NO_B = {"options": {"bf": "0"}}
RADL = {
    "codec": "libx265",
    "options": {"x265-params": "log-level=none:open-gop=0:radl=2:bframes=3:b-adapt=0:min-keyint=10"},
}
RASL = {"codec": "libx265", "options": {"x265-params": "log-level=none:open-gop=1:bframes=3:b-adapt=0:min-keyint=10"}}
MPEG2 = {"codec": "mpeg2video", "container": "mpegts"}
CLOSED = MPEG2 | {"options": {"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}}
XVID = {"codec": "mpeg4", "container": "avi"}


@cache
def _made(options):
    return clip(**dict(options, options=dict(dict(options).get("options", ()))))


def made(**options):
    """Encode a clip, once."""
    return _made(tuple((name, tuple(v.items()) if isinstance(v, dict) else v) for name, v in sorted(options.items())))


def of_ffmpeg(video):
    """Return the digests of all frames that FFmpeg returns."""
    with av.open(io.BytesIO(video)) as source:
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = [packet for packet in source.demux(stream) if packet.size or packet.dts is None]
        frames = [frame for packet in packets for frame in packet.decode()]
        return [digest(f.to_ndarray(format="bgr24", interpolation=Interpolation.BICUBIC)) for f in frames]


def check(video, frames):
    """Compare all frames with FFmpeg's, whole and in segments, and return their times in frames."""
    found, error = decoded(video)
    assert error is None
    assert [number for number, _, _ in found] == list(range(frames))
    assert [image for _, _, image in found] == of_ffmpeg(video)
    assert decoded(video, segment_frames=7) == (found, None)
    return [round(25 * time_s, 3) for _, time_s, _ in found]


def moved(number, to):
    """Return a change: the frame of this number is stamped with another time."""

    def change(packets):
        times = sorted(time for _, time, _ in packets)
        return [[data, to if time == times[number] else time, key] for data, time, key in packets]

    return change


def later(frames):
    """Return a change: all times are later."""
    return lambda packets: [[data, time + frames, key] for data, time, key in packets]


def from_keyframe(packets):
    """Begin at the second keyframe."""
    return packets[[number for number, (_, _, key) in enumerate(packets) if key][1] :]


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        *[({}, *clocks) for clocks in ((750, 0), (25, 25), (25, 45), (25, 100_000))],
        *[(options, 25, 25) for options in (NO_B, {"options": OPEN_GOP}, MPEG2, RASL)],
    ],
    ids=str,
)
def test_a_clock_that_begins_anew_loses_no_frame(options, first, second):
    """Kind: a recording follows another with the same, an overlapping, an earlier or a far later clock."""
    one, two = (made(**{"container": "mpegts", **options}, start=start) for start in (first, second))
    for joined in (one + two, continued(one, two)):
        times = check(joined, 60)
        assert times[:30] == [*range(round(times[0]), round(times[0]) + 30)]
        assert times[30:] == [*range(round(times[30]), round(times[30]) + 30)]


def test_a_packet_counter_that_jumps_is_no_damage():
    """Kind: segments of HLS put together, each of which begins its counters anew."""
    parts = b"".join(made(container="mpegts", frames=10, start=start) for start in (250, 260, 270))
    assert check(parts, 30)[0] == pytest.approx(check(parts[: len(parts) // 3 // 188 * 188], 10)[0])


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("options", [NO_B, {}])
def test_a_repeated_time_moves_no_other(options, container):
    """Kind: one time twice, with and without B-frames."""
    source = made(container="mpegts" if container == "mpegts" else "nut", **options)
    times = check(stored_again(source, container, moved(21, sorted_time(source, 20))), 30)
    assert times == [
        *range(int(times[0]), int(times[0]) + 21),
        times[20],
        *range(int(times[20]) + 2, int(times[20]) + 10),
    ]


def sorted_time(video, number):
    """Return the time of a frame as stored_again counts it."""
    with av.open(io.BytesIO(video)) as source:
        stream = source.streams.video[0]
        return sorted(float(p.pts * stream.time_base) * 25 for p in source.demux(stream) if p.size)[number]


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("options", [NO_B, {}])
@pytest.mark.parametrize("off", [-14, 1.5])
def test_a_frame_stamped_out_of_line_is_not_lost(options, container, off):
    """Kind: one time is too early or too late, by any distance."""
    source = (
        stored_again(made(container="nut", **options), "nut", later(100))
        if container != "mpegts"
        else made(container="mpegts", start=100, **options)
    )
    stamped = sorted_time(source, 15) + off
    times = check(stored_again(source, container, moved(15, stamped)), 30)
    assert times[15] - times[14] == pytest.approx(1 + off, abs=0.03)
    assert times[16] - times[14] == 2


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
@pytest.mark.parametrize(("options", "frames"), [(RADL, 22), (RASL, 20)], ids=["RADL", "RASL"])
def test_leading_pictures_are_frames_if_they_can_be_decoded(options, frames, container):
    """Kind: H.265 cut at a keyframe."""
    source = made(container="mpegts" if container == "mpegts" else "nut", **options)
    cut = stored_again(source, container, from_keyframe)
    times = check(cut, 20 if container == "mp4" else frames)  # the edit list that the muxer writes begins at a keyframe
    assert [time - times[0] for time in times] == [*range(len(times))]
    assert index_video(io.BytesIO(cut)).is_counted is False


@pytest.mark.parametrize("container", ["matroska", "mpegts", "vob"])
@pytest.mark.parametrize(("options", "leading"), [(CLOSED, True), (MPEG2 | {"options": {"bf": "2"}}, False)])
def test_leading_pictures_of_mpeg2_are_frames_in_a_closed_group(options, leading, container):
    """Kind: MPEG-2 cut at a keyframe."""
    cut = stored_again(made(**options), container, from_keyframe)
    whole = len(of_ffmpeg(cut))
    check(cut, whole)
    with av.open(io.BytesIO(cut)) as source:
        assert (whole == sum(1 for packet in source.demux(video=0) if packet.size)) is leading


@pytest.mark.parametrize("options", [XVID, {"codec": "mjpeg", "container": "avi", "pixel_format": "yuvj420p"}], ids=str)
def test_empty_packets_in_avi_are_no_missing_frames(options):
    """Kind: a camera loses pictures, and the muxer fills their places with empty chunks."""
    lost = {3, 4, 10, 28}
    video = stored_again(
        made(**options), "avi", lambda packets: [p for number, p in enumerate(packets) if number not in lost], rate=25
    )
    kept = [number for number in range(30) if number not in lost]
    if options is not XVID:
        assert check(video, 26) == kept
    assert len(decoded(video)[0]) == 26
    assert decoded(video)[1] is None
    assert "the header declares 30 frames" in index_video(io.BytesIO(video[: len(video) * 2 // 3])).shortfall


def uncoded(data):
    """Return the header of a P-VOP with vop_coded = 0 (ISO/IEC 14496-2 §6.2.5), at 25 increments per second."""
    begin = data.index(b"\x00\x00\x01\xb6") + 4
    bits = format(int.from_bytes(data[begin : begin + 4]), "032b")
    seconds = bits.index("0", 2) + 1
    header = "01" + bits[2:seconds] + bits[seconds : seconds + 7] + "0" + "0"  # marker, increment, marker
    header += "1" * (-len(header) % 8)
    return b"\x00\x00\x01\xb6" + int(header, 2).to_bytes(len(header) // 8)


@pytest.mark.parametrize("container", ["avi", "matroska", "mp4"])
def test_pictures_that_are_not_coded_are_no_frames(container):
    """Kind: MPEG-4 with vop_coded = 0."""
    skipped = {4, 5, 17, 18}

    def change(packets):
        return [[uncoded(data) if n in skipped else data, t, key] for n, (data, t, key) in enumerate(packets)]

    video = stored_again(made(**XVID), container, change, rate=25 if container == "avi" else 1000)
    assert check(video, 26) == [number for number in range(30) if number not in skipped]


@pytest.mark.parametrize("together", [False, True], ids=["a field a packet", "both fields in a packet"])
@pytest.mark.parametrize("container", ["matroska", "mpegts", "mp4"])
def test_two_fields_are_one_frame(container, together):
    """Kind: H.264 of field pictures."""
    video = field_video(20, container, together=together)
    times = check(video, 20)
    assert [time - times[0] for time in times] == [2.5 * number for number in range(20)]
    assert index_video(io.BytesIO(video)).is_counted is False


def test_frames_behind_the_end_of_an_edit_list_are_not_missing():
    """Kind: a video trimmed on a phone, which keeps the samples and hides them."""
    video = bytearray(made(container_options={"movie_timescale": "1000"}))
    at = video.index(b"elst") + 12
    assert int.from_bytes(video[at : at + 4]) == 1200
    video[at : at + 4] = (400).to_bytes(4)
    found, error = decoded(bytes(video))
    assert (len(found), error) == (len(of_ffmpeg(bytes(video))), None)
    assert len(found) < 20


def test_times_that_a_container_stores_now_and_then_need_no_counting():
    """Kind: MPEG-PS of H.264, as recorders write it, where a packet without a time follows one with a time."""
    video = stored_again(made(container="mpegts"), "vob")
    with av.open(io.BytesIO(video)) as source:
        assert any(packet.pts is None for packet in source.demux(video=0) if packet.size)
    times = check(video, 30)
    assert [time - times[0] for time in times] == pytest.approx([*range(30)], abs=0.01)
    assert index_video(io.BytesIO(video)).is_counted is False


def test_a_video_begins_at_its_first_keyframe():
    """Kind: a file cut anywhere; what precedes the first keyframe has parts that are missing, in every container."""
    for container, options in (("mp4", NO_B), ("matroska", {"codec": "mpeg4"}), ("mpegts", NO_B)):
        source = made(container="mpegts" if container == "mpegts" else "nut", **options)
        cut = stored_again(source, container, lambda packets: packets[3:])
        found, error = decoded(cut)
        assert ([number for number, _, _ in found], error) == ([*range(20)], None)
        assert index_video(io.BytesIO(cut)).notes == ("7 packets before the first keyframe were left out",)


def test_sampling_follows_a_running_clock_where_the_times_step_back():
    """Kind: --start-s, --end-s and --fps in a video whose clock begins anew."""
    index = index_video(io.BytesIO(made(container="mpegts", start=750) + made(container="mpegts")))
    assert select_frames(index, Sampling(fps=5)).tolist() == [*range(0, 60, 5)]
    assert select_frames(index, Sampling(start_s=1.6)).tolist() == [*range(40, 60)]
    assert select_frames(index, Sampling(end_s=0.4)).tolist() == [*range(10)]
    assert index.notes == ("its times step back at one place, frames are in the order of the file",)


def test_no_message_praises_frames_before_the_first():
    """Kind: nothing of a video can be decoded."""
    video = stored_again(
        made(container="nut"), "mp4", lambda packets: [[b"\xff" * len(d), t, k] for d, t, k in packets]
    )
    try:
        _, error = decoded(video)
    except DecodeError as refusal:
        error = refusal
    assert "frames before it" not in str(error)
