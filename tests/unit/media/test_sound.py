"""The sound of a rendered video is that of its source: beeps are heard when the source has them, or a reason is given.

The reference is the sound that was encoded: a beep at every full second, heard by a decoder of FFmpeg that places every
piece at its own time. The video itself is never lost for its sound.
"""

import io

import av
import numpy as np
import pytest

from fsf_core.media.video import SegmentWriter, concatenate, index_video
from fsf_core.media.video.timeline import filled, in_chunks
from tests.support.sounds import RATE, SECONDS, encoded, heard, recording

TOLERANCE_S = 0.04
MONO = {"layout": "mono"}


def joined(data, tmp_path, *, end_s=SECONDS, zero_s=None):
    """Join frames of one colour with the sound of a video; returns its report, the beeps and the length."""
    ticks = 1000
    with SegmentWriter(height_px=64, width_px=96, ticks_per_s=ticks) as writer:
        times = [number * ticks // RATE for number in range(round(end_s * RATE))]
        for tick in times:
            writer.add(np.full((64, 96, 3), 90, np.uint8), tick)
        segment = writer.finish()
    zero_s = index_video(io.BytesIO(data)).time_s(0) if zero_s is None else zero_s
    out = tmp_path / "joined.mp4"
    found = concatenate(
        [lambda: io.BytesIO(segment)], times, io.BytesIO(data), out, end=round(end_s * ticks), zero_s=zero_s
    )
    with av.open(str(out)) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(times)
        assert len(video.streams.audio) == (not found.sound.startswith("none"))
    return found.sound, *heard(str(out))


def assert_heard(data, tmp_path, outcome, begins, *, length_s=SECONDS, **given):
    sound, found, length = joined(data, tmp_path, **given)
    assert sound == outcome
    assert found == pytest.approx(begins, abs=TOLERANCE_S)
    assert length == pytest.approx(length_s, abs=0.16)


@pytest.mark.parametrize(
    ("container", "codec", "sound"),
    [
        ("mp4", "aac", {}),
        ("matroska", "aac", {"rate": 44100} | MONO),
        ("matroska", "libmp3lame", {}),
        ("mov", "libmp3lame", {"rate": 16000} | MONO),
        ("matroska", "libopus", {}),
    ],
)
def test_sound_that_mp4_takes_is_copied(container, codec, sound, tmp_path):
    data = recording(container, codec, **sound)

    assert_heard(data, tmp_path, "copied", [0, 1, 2])
    assert_heard(data, tmp_path, "copied", [0.3, 1.3], length_s=1.5, zero_s=0.7, end_s=1.5)


ENCODED = [
    ("matroska", "ac3", {}),
    ("matroska", "flac", {}),
    ("mp4", "alac", {"rate": 44100}),
    ("mov", "pcm_s16le", {}),
    ("matroska", "pcm_s24le", {"rate": 192000, "layout": "5.1"}),
    ("avi", "adpcm_ima_wav", {"rate": 11025} | MONO),
    ("mpegts", "aac", {}),
    ("mpegts", "mp2", {"rate": 32000} | MONO),
    # The first piece holds fewer samples than a frame of AAC.
    ("mov", "pcm_alaw", {"rate": 8000} | MONO),
    ("mov", "pcm_mulaw", {"rate": 8000} | MONO),
    ("avi", "pcm_s16le", {"rate": 48000}),
    # MP4 refuses MP3 below 16 kHz.
    ("matroska", "libmp3lame", {"rate": 8000} | MONO),
    ("mov", "libmp3lame", {"rate": 11025}),
]


@pytest.mark.parametrize(("container", "codec", "sound"), ENCODED, ids=[f"{c} {k} {s}" for c, k, s in ENCODED])
def test_other_sound_is_encoded_again_at_its_times(container, codec, sound, tmp_path):
    assert_heard(recording(container, codec, **sound), tmp_path, "aac", [0, 1, 2])


def without(begin_s, end_s):
    return lambda packets: [p for p in packets if not begin_s <= float(p.pts * p.time_base) < end_s]


@pytest.mark.parametrize(
    ("container", "codec"),
    [("matroska", "ac3"), ("matroska", "flac"), ("mp4", "alac"), ("mpegts", "mp2"), ("matroska", "pcm_s16le")],
)
def test_gaps_stay_silent(container, codec, tmp_path):
    """Kind: what is missing from a sound that is encoded again; what follows must not move up."""
    data = recording(container, codec, change=without(0.5, 1.5))

    assert_heard(data, tmp_path, "aac", [0, 2])


def test_sound_that_begins_late_or_early_keeps_its_place(tmp_path):
    assert_heard(recording("matroska", "flac", change=without(0, 0.95)), tmp_path, "aac", [1, 2])
    early = recording("matroska", "flac", video_start_s=0.5)
    assert_heard(early, tmp_path, "aac", [0.5, 1.5], length_s=2.5)
    assert_heard(recording("matroska", "ac3", change=without(0.9, 3)), tmp_path, "aac", [0], length_s=0.9)


def test_a_part_of_a_video_has_the_sound_of_that_part(tmp_path):
    assert_heard(recording("matroska", "flac"), tmp_path, "aac", [0.3], length_s=0.9, zero_s=0.7, end_s=0.9)
    assert_heard(recording("mpegts", "mp2"), tmp_path, "aac", [0.4], length_s=0.9, zero_s=1.6, end_s=0.9)


@pytest.mark.parametrize("codec", ["flac", "aac"])
def test_a_part_behind_the_end_of_the_sound_has_none(codec, tmp_path):
    data = recording("matroska", codec, change=without(0.9, 3))

    assert joined(data, tmp_path, zero_s=1.5, end_s=1) == ("none", [], 0.0)


def broken(at_s):
    """Return a change that fills one packet with zeros."""

    def changed(packets):
        for packet in packets:
            if at_s <= float(packet.pts * packet.time_base) < at_s + 0.02:
                packet.update(bytes(packet.size))
        return packets

    return changed


@pytest.mark.parametrize(
    ("container", "codec", "outcome"),
    [
        ("matroska", "ac3", "aac (1 damaged packet, the first at 0."),
        ("mpegts", "eac3", "aac (1 damaged packet, the first at 0."),
        ("mp4", "alac", "aac"),  # zeros are silence to its decoder
        ("matroska", "flac", "aac"),
    ],
)
def test_sound_goes_on_behind_a_damaged_packet(container, codec, outcome, tmp_path):
    sound, begins, _ = joined(recording(container, codec, change=broken(0.6)), tmp_path)

    assert begins == pytest.approx([0, 1, 2], abs=TOLERANCE_S)
    assert sound.startswith(outcome)


def test_sound_that_cannot_be_decoded_at_all_is_left_out_with_the_reason(tmp_path):
    def zeroed(packets):
        for packet in packets:
            packet.update(bytes(packet.size))
        return packets

    sound, begins, _ = joined(recording("matroska", "ac3", change=zeroed), tmp_path)

    assert begins == []
    assert sound.startswith("none (94 damaged packets, the first at -0.005 s: Invalid data")


@pytest.mark.parametrize("codec", ["aac", "ac3", "libopus"])
def test_a_track_without_a_packet_is_no_sound(codec, tmp_path):
    assert joined(recording("matroska", codec, change=lambda _: []), tmp_path) == ("none", [], 0.0)


CHANGES = {
    "5.1, then stereo": ("ac3", {"layout": "5.1"}, {}),
    "mono, then stereo": ("ac3", MONO, {}),
    "stereo, then 5.1": ("ac3", {}, {"layout": "5.1"}),
    "48 kHz, then 44.1": ("mp2", {}, {"rate": 44100}),
    "32 kHz, then 48 kHz and mono": ("ac3", {"rate": 32000}, {"rate": 48000} | MONO),
}


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
@pytest.mark.parametrize("case", CHANGES)
def test_sound_that_changes_on_the_way_is_heard_to_the_end(case, container, tmp_path):
    """Kind: channels, rate or format of a broadcast change for an advertisement."""
    codec, first, second = CHANGES[case]
    _, more = encoded(codec, seconds=1.5, start=1.5, **second)
    data = recording(container, codec, seconds=1.5, more=more, **first)

    assert_heard(data, tmp_path, "aac", [0, 1, 2])


@pytest.mark.parametrize("second", [{"rate": 32000}, {"rate": 24000}, {"rate": 48000} | MONO])
def test_mp3_that_changes_on_the_way_is_not_copied(second, tmp_path):
    """A copy has one rate and one number of channels for all; what differs would play too fast, or not at all."""
    _, more = encoded("libmp3lame", seconds=1.5, start=1.5, **second)

    assert_heard(recording("matroska", "libmp3lame", seconds=1.5, more=more), tmp_path, "aac", [0, 1, 2])


def test_times_that_do_not_ascend_are_no_reason_to_lose_the_sound(tmp_path):
    """MP4 takes no two packets at one time; Matroska does."""

    def doubled(packets):
        packets[20].pts = packets[20].dts = packets[19].pts
        return packets

    assert_heard(recording("matroska", "aac", change=doubled), tmp_path, "aac", [0, 1, 2])


def test_a_clock_that_begins_anew_is_followed(tmp_path):
    """The second recording's sound comes behind the first's, as its frames do."""
    first = recording("mpegts", "mp2")
    second = recording("mpegts", "mp2")
    sound, begins, length = joined(first + second, tmp_path, end_s=2 * SECONDS)

    assert sound.startswith("aac")
    assert len(begins) == 6
    assert length == pytest.approx(2 * SECONDS, abs=0.2)


def test_a_short_pause_is_silence_and_a_long_one_a_jump_of_time():
    """A day of silence would be encoded for minutes. Behind a jump a frame of the encoder begins."""
    rate, loud = 48000, np.ones((2, 1500), np.float32)
    pieces = [(0, loud), (3 * rate, loud), (1000 * rate, loud[:, :100])]
    chunks = list(in_chunks(filled(iter(pieces), 2, rate)))
    before = [chunk for chunk in chunks if chunk[0] < 1000 * rate]
    samples_CN = np.concatenate([samples_CN for _, samples_CN in before], axis=1)

    assert [begin for begin, _ in before] == np.cumsum([0, *(each.shape[1] for _, each in before[:-1])]).tolist()
    assert samples_CN.shape[1] % 1024 == 0
    assert np.flatnonzero(samples_CN[0]).tolist() == [*range(1500), *range(3 * rate, 3 * rate + 1500)]
    assert [(begin, samples_CN.shape) for begin, samples_CN in chunks[len(before) :]] == [(1000 * rate, (2, 100))]
