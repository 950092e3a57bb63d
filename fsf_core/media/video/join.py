"""Encoded segments and the source's sound, joined to one MP4 that browsers play. Encodes no frames.

Knows FFmpeg. What MP4 does not take as it is costs the sound, never the rendered video.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import av

from fsf_core.errors import DecodeError
from fsf_core.media.video.container import Source, ffmpeg_message, open_video
from fsf_core.media.video.sound import (
    SoundError,
    SoundReport,
    Timed,
    can_copy,
    choose_track,
    copied_packets,
    encoded_packets,
)

if TYPE_CHECKING:
    from av.video.stream import VideoStream

Opener: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens one encoded segment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinedVideo:
    """The result of concatenate."""

    sound: str
    """none, copied or aac, with what was lost and why in parentheses, if anything was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Segments:
    """The encoded frames of the joined video, and its clock; see concatenate."""

    openers: Sequence[Opener]
    times: Sequence[int]
    end: int
    zero_s: float


def concatenate(
    segments: Sequence[Opener], times: Sequence[int], source: Source, out: Path, *, end: int, zero_s: float
) -> JoinedVideo:
    """Concatenate segments and add the source's sound; memory holds a few packets.

    The sound is copied; if MP4 does not take it so, it is encoded again; if that fails too, it is left out.

    Args:
        segments: openers of the files that SegmentWriter.finish returned, in order.
        times: tick of every frame of the joined video, ascending.
        source: the video that the sound comes from.
        out: a local path, replaced; the MP4 index comes first, so that playback starts before the download ends.
        end: tick at which the last frame leaves the screen.
        zero_s: the source's time, in seconds, at which the joined video begins.

    Raises:
        FetchError, DecodeError: a segment or the source cannot be read, or FFmpeg cannot write the file.
        OSError: the file cannot be written, for example because the disk is full.
    """
    joined = _Segments(openers=segments, times=times, end=end, zero_s=zero_s)
    reason = ""
    for carry in (copied_packets, encoded_packets):
        try:
            with open_video(source) as (container, stream, name):
                track = choose_track(container, stream, name)
                if track is None:
                    break
                if carry is copied_packets and not can_copy(track, name):
                    continue
                return JoinedVideo(sound=_write(joined, out, partial(carry, container, track)))
        except (av.FFmpegError, SoundError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            reason = ffmpeg_message(error) if isinstance(error, av.FFmpegError) else str(error)
    try:
        _write(joined, out, None)
    except av.FFmpegError as error:
        raise DecodeError(f"FFmpeg cannot write the frames as MP4: {ffmpeg_message(error)}") from error
    return JoinedVideo(sound=f"none ({reason})" if reason else "none")


def _write(joined: _Segments, out: Path, carry: "Callable[..., Iterator[Timed]] | None") -> str:
    """Write the joined video, with the sound that `carry` yields, and return what became of the sound.

    Raises:
        FFmpegError, SoundError, ValueError: MP4 does not take the sound, or the frames.
    """
    report = SoundReport()
    with av.open(str(out), "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
        with joined.openers[0]() as file, av.open(file, mode="r", format="mov") as first:
            video = output.add_stream_from_template(first.streams.video[0])
            ticks = first.streams.video[0].time_base
        assert ticks is not None
        video.time_base = ticks
        end_s = float(joined.end * ticks)
        sound = carry(output, report, zero_s=joined.zero_s, end_s=end_s) if carry else iter(())
        begun = [*islice(sound, 1)]  # adds the track, which has to be done before the first packet
        frames = _video_packets(joined, video, ticks)
        for _, packet in heapq.merge(frames, chain(begun, sound), key=lambda timed: timed[0]):
            output.mux(packet)
    return report.outcome


def _video_packets(joined: _Segments, stream: "VideoStream", ticks: Fraction) -> Iterator[Timed]:
    """Yield the packets of all segments after their times in seconds, with the joined video's times."""
    times, number = joined.times, 0
    for segment in joined.openers:
        with segment() as file, av.open(file, mode="r", format="mov") as container:
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                until = times[number + 1] if number + 1 < len(times) else joined.end
                packet.pts = packet.dts = times[number]
                packet.duration = max(1, until - times[number])
                packet.time_base = ticks
                packet.stream = stream
                yield float(times[number] * ticks), packet
                number += 1
    assert number == len(times)
