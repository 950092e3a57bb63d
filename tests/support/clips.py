"""Small test videos: any codec in any container, with the irregularities of real files.

Knows how to write and how to damage a video. Knows nothing of the code that reads it.
"""

import io
import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

RATE = 25
X265_REORDERED = 8
"""x265 takes the times of a clip with fewer frames than it reorders from uninitialised memory."""


def picture(number, *, width_px=96, height_px=64, seed=0):
    """Return a smooth random field that moves, so that every frame differs and is predicted from others.

    Returns:
        uint8 BGR, height_px × width_px × 3.
    """
    noise = np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    field = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(np.roll(field, (number, 2 * number), (0, 1)))


def clip(
    codec="libx264",
    *,
    container="mp4",
    frames=30,
    width_px=96,
    height_px=64,
    pixel_format="yuv420p",
    gop=10,
    pts: Sequence[int] | None = None,
    options=None,
    container_options=None,
    audio=False,
    start=0,
    pixel_aspect=None,
    rate=RATE,
) -> bytes:
    """Encode a clip in memory.

    Args:
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the muxer.
        pts: time of each frame in 25ths of a second; consecutive by default.
        start: added to every packet's time; below 0, MP4 cuts the first frames by an edit list.
        pixel_aspect: width of a pixel over its height; not stated by default.
        rate: frames per second; without sound.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=_encoder_options(codec, frames, options or {}))
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, pixel_format
        stream.codec_context.gop_size = gop
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.codec_context.thread_count = 1
        sound = output.add_stream("mp2" if container in ("mpegts", "avi") else "aac", rate=48000) if audio else None
        packets = []
        for number in range(frames):
            image = picture(number, width_px=width_px, height_px=height_px)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = pts[number] if pts else number, 1 / Fraction(rate)
            packets += stream.encode(frame)
        packets += stream.encode()
        if sound is not None:
            packets += _silence(sound, frames)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            if start:
                shift = int(Fraction(start, RATE) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            output.mux(packet)
    return file.getvalue()


def segments(frames: int, segment_frames: int) -> list[range]:
    """Cut a video into segments of equal length, wherever its keyframes are."""
    return [range(start, min(start + segment_frames, frames)) for start in range(0, frames, segment_frames)]


def audio_only(container="mp4") -> bytes:
    """Encode two seconds of silence without video."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        sound = output.add_stream("aac", rate=48000)
        for packet in _silence(sound, 2 * RATE):
            output.mux(packet)
    return file.getvalue()


def joined(first: bytes, second: bytes) -> bytes:
    """Join two transport streams, the second continuing the first's clock; frames may change their size."""
    file = io.BytesIO()
    offset = 0
    with av.open(file, "w", format="mpegts", container_options={"mpegts_flags": "resend_headers"}) as output:
        stream = None
        for part in (first, second):
            with av.open(io.BytesIO(part)) as source:
                video = source.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                end = offset
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    end = max(end, packet.pts + packet.duration)
                    packet.stream = stream
                    output.mux(packet)
                offset = end
    return file.getvalue()


MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
"""By EXIF orientation, a, b, c and d of the display matrix with which ffmpeg shows that orientation."""


def oriented(mp4: bytes, abcd: Sequence[float]) -> bytes:
    """Set the display matrix as phones do (ISO/IEC 14496-12, tkhd), without changing the frames."""
    a, b, c, d = (round(number * (1 << 16)) for number in abcd)
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    begin = mp4.index(b"tkhd") + 44  # version 0: type 4, flags 4, five times 4, reserved 8, layer to volume 8
    return mp4[:begin] + matrix + mp4[begin + len(matrix) :]


def stored_again(video: bytes, container: str, change=lambda packets: packets, *, rate: int = 1000) -> bytes:
    """Store the packets of a video in another container, with other times.

    Args:
        video: the source.
        container: FFmpeg's name of the muxer.
        change: takes and returns [data, time, is_keyframe] of every packet in decoding order, in 25ths of a second.
        rate: ticks per second; AVI has one tick per chunk.
    """
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(video)) as source,
        av.open(file, "w", format=container, container_options={"avoid_negative_ts": "disabled"}) as output,
    ):
        given = source.streams.video[0]
        ticks = Fraction(1, RATE) / given.time_base
        packets = change([[bytes(p), p.pts / ticks, p.is_keyframe] for p in source.demux(given) if p.size])
        stream = output.add_stream_from_template(given, opaque=True)
        pts = [round(time * rate / RATE) for _, time, _ in packets]
        # As late as the times allow, and ascending.
        dts = [
            min(tick - (later - number) for later, tick in enumerate(pts) if later >= number)
            for number in range(len(pts))
        ]
        for (data, _, is_keyframe), shown, decoded in zip(packets, pts, dts, strict=True):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, rate), is_keyframe
            packet.pts, packet.dts, packet.duration = shown, decoded, rate // RATE
            output.mux(packet)
    return file.getvalue()


def continued(first: bytes, second: bytes) -> bytes:
    """Put two transport streams one behind the other, with packet counters that continue."""
    counters = {_pid(first, at): first[at + 3] & 15 for at in range(0, len(first), 188)}
    data = bytearray(second)
    for at in range(0, len(data), 188):
        pid = _pid(data, at)
        counters[pid] = counters.get(pid, 0) + bool(data[at + 3] & 0x10) & 15
        data[at + 3] = data[at + 3] & 0xF0 | counters[pid]
    return first + bytes(data)


def _pid(data: bytes, at: int) -> int:
    """Return the stream number of a transport packet."""
    return int.from_bytes(data[at + 1 : at + 3]) & 0x1FFF


def rotated(mp4: bytes, clockwise_deg: int) -> bytes:
    """Set the display matrix to a rotation."""
    return oriented(mp4, MATRICES[{90: 6, 180: 3, 270: 8}[clockwise_deg]])


def remuxed(video: bytes, container: str, change=lambda packets: packets) -> bytes:
    """Copy the video stream, with its display matrix, into another container; `change` may alter its packets."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video)) as source, av.open(file, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in change([packet for packet in source.demux(video=0) if packet.size]):
            packet.stream = stream
            output.mux(packet)
    return file.getvalue()


def with_duration(matroska: bytes, seconds: float) -> bytes:
    """Make a Matroska header declare another duration."""
    begin = matroska.index(b"\x44\x89\x88") + 3  # Duration, eight bytes
    return matroska[:begin] + struct.pack(">d", 1000 * seconds) + matroska[begin + 8 :]


def packets_of(video: bytes) -> list[tuple[int, int, int, bool]]:
    """Return offset and size in bytes, pts in ticks and keyframe flag of every packet, in decoding order."""
    with av.open(io.BytesIO(video)) as source:
        return [(p.pos, p.size, p.pts, p.is_keyframe) for p in source.demux(video=0) if p.size]


def overwritten(video: bytes, packet: int, filler: bytes = b"\x00") -> bytes:
    """Replace the data of one packet with a repeated byte."""
    position, size, _, _ = packets_of(video)[packet]
    return video[:position] + filler * size + video[position + size :]


def _encoder_options(codec: str, frames: int, given: dict[str, str]) -> dict[str, str]:
    """Return options that make an encoder fast, silent and reproducible, and those that were given in their place."""
    options = _defaults(codec) | given
    if codec == "libx265" and frames < X265_REORDERED:
        options["x265-params"] += ":bframes=0"
    return options


def _defaults(codec: str) -> dict[str, str]:
    """Return the options of an encoder that are not given."""
    return {
        # x264's AVX-512 rate control reads uninitialised memory: without this every twelfth clip has other bytes.
        "libx264": {"x264-params": "cpu-independent=1"},
        "libx265": {"x265-params": "log-level=none"},
        "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})


def _silence(sound, frames: int) -> list[av.Packet]:
    """Encode silence as long as some frames."""
    samples = sound.codec_context.frame_size or 1152
    packets = []
    for begin in range(0, frames * sound.rate // RATE, samples):
        frame = av.AudioFrame(format=sound.format.name, layout=sound.layout.name, samples=samples)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.sample_rate = begin, sound.rate
        packets += sound.encode(frame)
    return packets + sound.encode()
