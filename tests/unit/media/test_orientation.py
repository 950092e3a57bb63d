"""A video is scored the way a player shows it: turned and mirrored as its display matrix says, in every container.

The kind is "which way up": OpenCV reads an angle alone, so that mirrored videos came out upside down. References are
Pillow's transposition of the EXIF orientation, and ffmpeg 5.1, which shows the matrices of clips.MATRICES like that.
"""

import io
import struct

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from fsf_core.media.video import decode_frames, index_video
from fsf_core.media.video.orientation import orientation_of
from tests.support.clips import MATRICES, clip, oriented, remuxed

FRAMES = 12
PLAIN = clip(frames=FRAMES)
CONTAINERS = ("mp4", "mov", "matroska")


def shown(video):
    index = index_video(io.BytesIO(video))
    frames = [frame.image_HWC for frame in decode_frames(io.BytesIO(video), index)]
    assert all(image_HWC.flags.c_contiguous for image_HWC in frames)
    assert {image_HWC.shape[:2] for image_HWC in frames} == {(index.height_px, index.width_px)}
    return index.orientation, frames


def transposed(image_HWC, orientation):
    image = Image.fromarray(image_HWC)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def assert_oriented(video, plain, orientation):
    found, frames = shown(video)
    assert found == orientation
    for image_HWC, stored_HWC in zip(frames, shown(plain)[1], strict=True):
        assert np.array_equal(image_HWC, transposed(stored_HWC, orientation))


@pytest.mark.parametrize("orientation", MATRICES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_all_eight_orientations_are_shown_as_players_show_them(container, orientation):
    assert_oriented(remuxed(oriented(PLAIN, MATRICES[orientation]), container), PLAIN, orientation)


@pytest.mark.parametrize("scale", [0.5, 3])
def test_a_matrix_that_also_scales_has_the_same_orientation(scale):
    for orientation, (a, b, c, d) in MATRICES.items():
        assert orientation_of((a * 65536, round(b * scale * 65536), 0, round(c * scale * 65536), d * 65536)) == (
            orientation, 0.0,
        )  # fmt: skip


@pytest.mark.parametrize(("degrees", "rest"), [(0.9, 0), (-0.9, 0), (30, 30), (45, 45), (-100, -100)])
def test_only_right_angles_are_turned(degrees, rest):
    """Within a degree, as ffmpeg; other angles would need a larger frame, and stay as stored."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found, rest_deg = orientation_of(tuple(round(n * 65536) for n in (cos, sin, 0, -sin, cos)))
    assert found == 1
    assert rest_deg == pytest.approx(rest, abs=0.01)


def test_a_matrix_without_a_direction_is_upright():
    assert orientation_of((0, 0, 0, 0, 0, 0, 0, 0, 0)) == (1, 0.0)
    assert shown(oriented(PLAIN, (0, 0, 0, 0)))[0] == 1


# H.264 and H.265 say it in the pictures (SEI, display orientation), counter-clockwise and at keyframes alone.
STREAM = remuxed(PLAIN, "mpegts")
SEI_TURNS = {"rotate=90": 8, "rotate=180": 3, "rotate=270": 6, "flip=horizontal": 2, "flip=vertical": 4}


def h264_with_sei(change):
    """Return a change of packets that adds a display orientation at keyframes, by FFmpeg's own filter."""

    def changed(packets):
        stream = packets[0].stream
        bsf = av.bitstream.BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{change}", stream)
        for packet in packets:
            yield from bsf.filter(packet)
        yield from bsf.filter(None)

    return changed


@pytest.mark.parametrize("change", SEI_TURNS)
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_a_turn_that_h264_states_at_keyframes_holds_for_all_frames(container, change):
    assert_oriented(remuxed(STREAM, container, h264_with_sei(change)), PLAIN, SEI_TURNS[change])


@pytest.mark.parametrize(
    ("flip_horizontal", "flip_vertical", "quarter_turns", "orientation"),
    [(0, 0, 1, 8), (0, 0, 2, 3), (0, 0, 3, 6), (1, 0, 0, 2), (0, 1, 0, 4), (1, 0, 1, 5), (0, 1, 1, 7)],
)
def test_a_turn_that_h265_states_holds_for_all_frames(flip_horizontal, flip_vertical, quarter_turns, orientation):
    """ITU-T H.265, D.2.15: not cancelled, two flips, 16 bits of anti-clockwise turn, persistence."""
    bits = flip_horizontal << 22 | flip_vertical << 21 | quarter_turns * 0x4000 << 5 | 1 << 4 | 1 << 3
    payload = bits.to_bytes(3, "big")
    sei = b"\x4e\x01\x2f\x03" + payload.replace(b"\x00\x00\x00", b"\x00\x00\x03\x00") + b"\x80"
    plain = clip("libx265", frames=FRAMES)

    def first_changed(packets):
        first, *others = packets
        changed = av.Packet(struct.pack(">I", len(sei)) + sei + bytes(first))
        changed.pts, changed.dts, changed.time_base = first.pts, first.dts, first.time_base
        changed.duration, changed.is_keyframe = first.duration, True
        return [changed, *others]

    assert_oriented(remuxed(plain, "mp4", first_changed), plain, orientation)


def test_the_matrix_of_the_container_overrides_that_of_the_pictures():
    both = oriented(remuxed(STREAM, "mp4", h264_with_sei("rotate=180")), MATRICES[6])
    assert shown(both)[0] == 6
