"""Videos of every codec, container and oddity of time: packets of one encode, stored again with other times.

The reference is a whole decode by a fresh decoder that knows no index, and the ffmpeg program where it is installed.
"""

import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.random import Generator

from fsf_core.errors import ItemError
from fsf_core.media.video import VideoIndex, decode_frames, index_video
from tests.shapes.findings import Finding
from tests.support import clips
from tests.support.sample_videos import digest

FRAMES = 24
"""Per encode, with a keyframe every eighth."""
RATE = clips.RATE
os.environ.setdefault("SVT_LOG", "1")  # errors only
FFMPEG = shutil.which("ffmpeg") and shutil.which("ffprobe")


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One way to encode, and the containers that hold it."""

    options: dict[str, Any]
    containers: tuple[str, ...]


ANY_H264 = ("mp4", "mov", "fragmented", "matroska", "mpegts", "flv", "avi", "nut", "vob")
CODECS = {
    "h264 without B-frames": Codec(options={"options": {"bf": "0"}}, containers=ANY_H264),
    "h264 with B-frames": Codec(options={"options": {"bf": "3"}}, containers=ANY_H264),
    "h264 with open GOPs": Codec(
        options={"options": {"x264-params": "open-gop=1:bframes=3:b-adapt=0:cpu-independent=1"}},
        containers=ANY_H264,
    ),
    "h264 with intra refresh": Codec(
        options={"options": {"x264-params": "intra-refresh=1:bframes=0:cpu-independent=1"}},
        containers=("mp4", "matroska", "mpegts"),
    ),
    "h264 interlaced": Codec(
        options={"options": {"x264-params": "tff=1:bframes=2:cpu-independent=1", "flags": "+ildct+ilme"}},
        containers=("mp4", "matroska", "mpegts"),
    ),
    "h265 with RASL": Codec(
        options={
            "codec": "libx265",
            "options": {"x265-params": "log-level=none:open-gop=1:bframes=3:b-adapt=0:min-keyint=8"},
        },
        containers=("mp4", "matroska", "mpegts", "fragmented"),
    ),
    "h265 with RADL": Codec(
        options={
            "codec": "libx265",
            "options": {"x265-params": "log-level=none:open-gop=0:radl=2:bframes=3:b-adapt=0:min-keyint=8"},
        },
        containers=("mp4", "matroska", "mpegts", "fragmented"),
    ),
    "mpeg2 with B-frames": Codec(
        options={"codec": "mpeg2video", "options": {"bf": "2"}}, containers=("mpegts", "vob", "matroska", "mp4", "avi")
    ),
    "mpeg2 with closed GOPs": Codec(
        options={"codec": "mpeg2video", "options": {"bf": "2", "flags": "+cgop", "sc_threshold": "1000000000"}},
        containers=("mpegts", "vob", "matroska"),
    ),
    "mpeg1": Codec(options={"codec": "mpeg1video", "options": {"bf": "2"}}, containers=("mpegts", "vob", "matroska")),
    "mpeg4": Codec(
        options={"codec": "mpeg4"}, containers=("mp4", "avi", "matroska", "mpegts", "mov", "nut", "fragmented")
    ),
    "mpeg4 with B-frames": Codec(
        options={"codec": "mpeg4", "options": {"bf": "2"}}, containers=("mp4", "avi", "matroska", "mpegts", "nut")
    ),
    "vp8": Codec(
        options={"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "10", "b": "60k"}},
        containers=("webm", "matroska", "avi", "ogg"),
    ),
    "vp9": Codec(
        options={"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "60k"}},
        containers=("webm", "matroska", "mp4", "fragmented"),
    ),
    "av1": Codec(options={"codec": "libsvtav1"}, containers=("webm", "matroska", "mp4", "fragmented")),
    "mjpeg": Codec(
        options={"codec": "mjpeg", "pixel_format": "yuvj420p"}, containers=("avi", "mov", "matroska", "mp4", "nut")
    ),
    "ffv1": Codec(options={"codec": "ffv1"}, containers=("matroska", "avi", "nut")),
    "wmv2": Codec(options={"codec": "wmv2"}, containers=("asf", "avi", "matroska")),
    "flv1": Codec(options={"codec": "flv"}, containers=("flv", "avi", "matroska")),
}
MUXERS: dict[str, tuple[str, dict[str, str]]] = {
    "fragmented": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "vob": ("vob", {}),
}
DEMUXERS = {".mpegts": "mpegts", ".vob": "mpeg"}


@dataclass(frozen=True, kw_only=True)
class Packet:
    """An encoded packet; times in frames, as fractions of which containers store what they can."""

    data: bytes
    pts: Fraction
    is_keyframe: bool


Packets = list[Packet]
Shown = tuple[int, float, Any]
"""Number, time and digest of a frame of the product."""
Reference = tuple[float | None, Any]
"""Time and digest of a frame of the reference."""

TOLERANCE_S = 1e-6
JOINED_SHARE = 0.3


def check(seed: int, count: int, folder: Path) -> Iterator[Finding]:
    """Draw videos, decode them whole and in parts, and yield every mismatch."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        codec = list(CODECS)[rng.integers(len(CODECS))]
        container = CODECS[codec].containers[rng.integers(len(CODECS[codec].containers))]
        oddity = ODDITIES[rng.integers(len(ODDITIES))]
        # Muxers that change such times, or abort the process.
        if (container in ("asf", "flv") and oddity in (restarted, out_of_line)) or (
            container == "nut" and oddity not in (cut, cut_at_keyframe)
        ):
            oddity = plain
        packets, words = oddity(rng, encode(codec, container))
        is_joined = container in ("mpegts", "vob") and rng.random() < JOINED_SHARE
        path = folder / f"{seed}-{number:04d}.{container}"
        try:
            store(path, codec, container, packets)
            if is_joined:
                packets, more_words = oddity(rng, encode(codec, container))
                words = f"{words}, joined with one {more_words}"
                first = path.read_bytes()
                store(path, codec, container, packets)
                path.write_bytes(first + path.read_bytes())
        except (av.FFmpegError, ValueError):
            continue  # a muxer that refuses this
        found = compare(path, is_damaged=oddity in DAMAGES or (is_joined and oddity is cut))
        if found:
            expected, found_words = found
            yield Finding(case=f"{path.name}: {codec} in {container}, {words}", expected=expected, found=found_words)


def compare(path: Path, *, is_damaged: bool) -> tuple[str, str] | None:
    """Return what is right for a video and what the product makes of it, if that is something else.

    Of a damaged video, the product may leave out frames that the reference returns, but not without an error.
    """
    right, is_settled = reference(path)
    try:
        index = index_video(path)
    except ItemError as error:
        return (f"{len(right)} frames", f"{type(error).__name__}: {error}") if right else None
    way = "counted" if index.is_counted else index.timed_by
    whole, error = decode_parts(path, index, None)
    parts, _ = decode_parts(path, index, 5)
    # What a decoder makes of damage that it does not notice may depend on what it decoded before.
    same = [frame for frame, _, _ in parts] == [frame for frame, _, _ in whole] if is_damaged else parts == whole
    if not same:
        return "the same frames in segments", f"others ({way})"
    found = compare_damaged(whole, right, error) if is_damaged else compare_healthy(whole, right, error)
    program = program_count(path) if is_settled and not is_damaged and not found else None
    if program is not None and program != len(whole):
        found = f"{program} frames of the ffmpeg program", f"{len(whole)} frames, as PyAV"
    return found and (found[0], f"{found[1]} ({way})")


def compare_healthy(whole: list[Shown], right: list[Reference], error: ItemError | None) -> tuple[str, str] | None:
    """Return what is wrong with the frames of a video."""
    if len(whole) != len(right) or error:
        return f"{len(right)} frames", f"{len(whole)} frames {error or ''}"
    for number, ((frame, time_s, image), (right_s, right_image)) in enumerate(zip(whole, right, strict=True)):
        if frame != number or image != right_image:
            return f"frame {number} of the decoder", f"another picture as frame {frame}"
        if right_s is not None and abs(time_s - right_s) > TOLERANCE_S:
            return f"frame {number} at {right_s:.4f} s", f"{time_s:.4f} s"
    return None


def compare_damaged(whole: list[Shown], right: list[Reference], error: ItemError | None) -> tuple[str, str] | None:
    """Return what is wrong with the frames of a damaged video."""
    numbers = [frame for frame, _, _ in whole]
    if numbers != sorted(set(numbers)):
        return "ascending numbers", str(numbers)
    left = iter(image for _, image in right)
    strange = [frame for frame, _, image in whole if image not in left]
    if strange:
        return "pictures of the decoder, in its order", f"another picture as frame {strange[0]}"
    if len(whole) < len(right) and error is None:
        return f"{len(right)} frames, or an error", f"{len(whole)} frames without one"
    return None


def decode_parts(path: Path, index: VideoIndex, frames: int | None) -> tuple[list[Shown], ItemError | None]:
    """Return the frames that the product returns, whole or in segments, and the first error."""
    shown: list[Shown] = []
    first: ItemError | None = None
    for segment in clips.segments(index.frames, frames) if frames else [None]:
        try:
            shown.extend((f.frame_index, f.pts_s, digest(f.image_HWC)) for f in decode_frames(path, index, segment))
        except ItemError as error:
            first = first or error
    return shown, first


def reference(path: Path) -> tuple[list[Reference], bool]:
    """Return the time and digest of every frame that FFmpeg's decoder returns, in its order, and how it begins.

    Times are None where the container stores none of presentation: B-frames in AVI.

    It begins with the first keyframe: of what precedes it, most decoders return nothing (H.264, MPEG-1 and MPEG-2, VP8,
    VP9, AV1, FFV1, since FFmpeg 7 H.265), but those of MPEG-4, FLV1 and WMV2 return pictures with missing parts.

    Returns:
        The frames, and whether older versions return the same: the first packet is a keyframe, and none is hidden by
        an edit list (FFmpeg 5 shows those of AV1).
    """
    frames: list[Reference] = []
    begins: list[bool] = []
    is_guessed = hides = False
    try:
        source = av.open(str(path), format=DEMUXERS.get(path.suffix))  # short files are hard to recognise
    except av.FFmpegError:
        return [], False
    with source:
        if not source.streams.video or source.streams.video[0].codec_context is None:
            return [], False
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        begun = False
        for packet in packets_until_error(source, stream):
            begins.append(packet.is_keyframe)
            hides |= packet.is_discard
            is_guessed |= path.suffix == ".avi" and packet.pts != packet.dts
            begun |= packet.is_keyframe or not packet.size
            if not begun or (not packet.size and packet.dts is not None):
                continue
            try:
                decoded = stream.codec_context.decode(packet if packet.size else None)
            except (av.FFmpegError, EOFError):
                continue
            for frame in decoded:
                image = digest(frame.to_ndarray(format="bgr24", interpolation=Interpolation.BICUBIC))
                frames.append((None if frame.pts is None else float(frame.pts * stream.time_base), image))
    return [(None if is_guessed else time_s, image) for time_s, image in frames], begins[:1] == [True] and not hides


def packets_until_error(source: Any, stream: Any) -> Iterator[Any]:
    """Yield packets, up to the end or the first that cannot be read, and then one that flushes the decoder."""
    try:
        yield from source.demux(stream)
    except av.FFmpegError:
        yield av.Packet()


def program_count(path: Path) -> int | None:
    """Return the number of frames that the ffmpeg program returns; None where it is not installed."""
    if not FFMPEG:
        return None
    demuxer = ["-f", DEMUXERS[path.suffix]] if path.suffix in DEMUXERS else []
    words = [
        "ffprobe",
        "-v",
        "error",
        *demuxer,
        "-select_streams",
        "v:0",
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames",
    ]
    done = subprocess.run([*words, "-of", "json", path], capture_output=True, text=True, check=False)
    streams = json.loads(done.stdout or "{}").get("streams") or [{}]
    return int(streams[0].get("nb_read_frames", 0))


@cache
def encode(codec: str, container: str) -> tuple[Packet, ...]:
    """Encode a clip and return its packets as a container stores them, in decoding order."""
    with av.open(io.BytesIO(clip_of(codec, container))) as source:
        stream = source.streams.video[0]
        ticks = Fraction(1, RATE) / stream.time_base
        return tuple(
            Packet(data=bytes(packet), pts=packet.pts / ticks, is_keyframe=packet.is_keyframe)
            for packet in source.demux(stream)
            if packet.size
        )


@cache
def clip_of(codec: str, container: str) -> bytes:
    """Encode a clip that stores packets as a container does: with start codes and parameter sets in broadcasts."""
    with_start_codes = container in ("mpegts", "vob", "avi") and "mpegts" in CODECS[codec].containers
    stored = "mpegts" if with_start_codes else "nut"
    return clips.clip(container=stored, frames=FRAMES, gop=8, **CODECS[codec].options)


def store(path: Path, codec: str, container: str, packets: Packets) -> None:
    """Store packets with their times.

    Decoding times are as late as the times of presentation allow, one tick apart at least.
    """
    muxer, options = MUXERS.get(container, (container, {}))
    rate = RATE if container == "avi" else 1000
    ticks = [round(packet.pts * rate / RATE) for packet in packets]
    latest = np.minimum.accumulate(np.asarray(ticks[::-1]) + np.arange(len(ticks)))[::-1] - np.arange(len(ticks))[::-1]
    if container == "avi":
        latest = np.arange(len(ticks))
    with (
        av.open(io.BytesIO(clip_of(codec, container))) as source,
        av.open(str(path), "w", format=muxer, container_options={"avoid_negative_ts": "disabled", **options}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.time_base = Fraction(1, rate)
        for packet, pts, dts in zip(packets, ticks, latest.tolist(), strict=True):
            stored = av.Packet(packet.data)
            stored.stream, stored.time_base, stored.is_keyframe = stream, Fraction(1, rate), packet.is_keyframe
            stored.pts, stored.dts = (max(pts, dts) if container == "avi" else pts), dts
            stored.duration = 1 if container == "avi" else rate // RATE
            output.mux(stored)


# --- what is odd about the times -------------------------------------------------------------------------------------

Oddity = Callable[[Generator, tuple[Packet, ...]], tuple[Packets, str]]


def plain(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Return the packets as they are, from a later time on."""
    start = int(rng.choice([0, 0, 10, 2500, 2_300_000]))
    return [replace(packet, pts=packet.pts + start) for packet in packets], f"from frame time {start}"


def varying(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Vary the frame rate, with one huge gap."""
    times = np.cumsum(rng.integers(1, 4, len(packets) + 8))
    times[int(rng.integers(len(times))) :] += int(rng.choice([0, 5000, 25 * 3600]))
    order = sorted(packet.pts for packet in packets)
    return [replace(packet, pts=Fraction(int(times[order.index(packet.pts)]))) for packet in packets], "varying rate"


def repeated(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Give some frames the time of the one before."""
    times = sorted(packet.pts for packet in packets)
    chosen = {int(number) for number in rng.integers(1, len(times), int(rng.integers(1, 4)))}
    others = {times[number]: times[number - 1] for number in chosen}
    return [replace(p, pts=others.get(p.pts, p.pts)) for p in packets], f"times of frames {sorted(chosen)} repeat"


def out_of_line(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Stamp one frame too early or too late."""
    number, off = int(rng.integers(1, len(packets))), Fraction(str(rng.choice([-1.5, -2.5, -100, 1.5, 2.5, 1000])))
    time = sorted(packet.pts for packet in packets)[number]
    moved = [replace(p, pts=p.pts + 200 + (off if p.pts == time else 0)) for p in packets]
    return moved, f"frame {number} is off by {off} frames"


def restarted(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Let a second recording follow, with a clock of its own."""
    first, second = (int(time) for time in rng.choice([0, 10, 250, 2500, 100_000], 2))
    later = [replace(packet, pts=packet.pts + second) for packet in packets]
    return [replace(packet, pts=packet.pts + first) for packet in packets] + later, f"begins at {first}, then {second}"


def cut(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Begin at any packet."""
    begin = int(rng.integers(1, max(number for number, packet in enumerate(packets) if packet.is_keyframe) + 1))
    return list(packets[begin:]), f"cut before packet {begin}"


def cut_at_keyframe(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Begin at a keyframe that is not the first."""
    begin = int(rng.choice([number for number, packet in enumerate(packets) if packet.is_keyframe][1:] or [0]))
    return list(packets[begin:]), f"cut before keyframe {begin}"


def dropped(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Lose packets on the way, as a network does."""
    begin = int(rng.integers(1, len(packets) - 3))
    end = begin + int(rng.integers(1, 4))
    return [*packets[:begin], *packets[end:]], f"without packets {begin} to {end - 1}"


def flipped(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Change bytes of one packet."""
    number = int(rng.integers(len(packets)))
    data = bytearray(packets[number].data)
    for at in rng.integers(0, len(data), int(rng.integers(1, 6))):
        data[at] = int(rng.integers(256))
    changed = replace(packets[number], data=bytes(data))
    return [*packets[:number], changed, *packets[number + 1 :]], f"bytes of packet {number} changed"


def zeroed(rng: Generator, packets: tuple[Packet, ...]) -> tuple[Packets, str]:
    """Overwrite one packet."""
    number = int(rng.integers(len(packets)))
    filler = bytes([int(rng.choice([0, 255]))]) * len(packets[number].data)
    return [*packets[:number], replace(packets[number], data=filler), *packets[number + 1 :]], f"packet {number} zeroed"


DAMAGES: tuple[Oddity, ...] = (dropped, flipped, zeroed)
ODDITIES: tuple[Oddity, ...] = (plain, varying, repeated, out_of_line, restarted, cut, cut_at_keyframe, *DAMAGES)
"""Each changes the packets of a clip."""
