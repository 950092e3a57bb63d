"""Small videos with a beep at every full second, in any codec and container, and an ear that hears when they begin.

Knows how to write and how to listen. Knows nothing of the code that reads or copies sound.
"""

import io
from fractions import Fraction

import av
import numpy as np

from tests.support.clips import picture

RATE = 2  # frames of video per second
SECONDS = 3
HEARD_HZ = 8000
_TONE_HZ = 1000


def wave(rate, seconds=SECONDS, start=0.0):
    """Return a beep of a tenth of a second at every full second, float32."""
    at_s = start + np.arange(round(rate * seconds)) / rate
    return np.where(at_s % 1 < 0.1, 0.8 * np.sin(2 * np.pi * _TONE_HZ * at_s), 0).astype(np.float32)


def encoded(codec, *, rate=48000, layout="stereo", seconds=SECONDS, start=0.0):
    """Encode beeps; returns the open codec context and the packets, with times in samples."""
    context = av.CodecContext.create(codec, "w")
    context.sample_rate, context.layout = rate, layout
    context.format = context.codec.audio_formats[0]
    context.time_base = Fraction(1, rate)
    if codec in ("vorbis", "opus", "aac"):
        context.options = {"strict": "experimental"}
    context.open()
    mono = wave(rate, seconds, start)
    samples_CN = np.ascontiguousarray(np.tile(mono, (context.layout.nb_channels, 1)))
    packets = []
    resampler = av.AudioResampler(
        format=context.format, layout=layout, rate=rate, frame_size=context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(samples_CN, format="fltp", layout=layout)
    frame.sample_rate = rate
    at = round(start * rate)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        piece.pts, piece.time_base = at, Fraction(1, rate)
        at += piece.samples
        packets += context.encode(piece)
    return context, packets + context.encode(None)


def recording(container, codec, *, change=lambda packets: packets, video_start_s=0.0, more=(), **sound):
    """Encode a video of three seconds with beeps.

    Args:
        container: FFmpeg's name of the muxer.
        codec: FFmpeg's name of the audio encoder.
        change: takes the packets of the sound and returns those that are written.
        video_start_s: when the pictures begin.
        more: packets of another encoder, which are written after these.
        sound: arguments of `encoded`.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("libx264" if container != "avi" else "mpeg4", rate=RATE)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.thread_count = 1
        video.codec_context.options = {"bf": "0", "x264-params": "cpu-independent=1"}
        context, packets = encoded(codec, **sound)
        track = output.add_stream(codec, rate=context.sample_rate)
        track.layout, track.format = context.layout, context.format
        timed = [(packet.pts * packet.time_base, track, packet) for packet in [*change(packets), *more]]
        for number in range(RATE * SECONDS):
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
            frame.pts, frame.time_base = number + round(video_start_s * RATE), Fraction(1, RATE)
            timed += [(packet.pts * packet.time_base, video, packet) for packet in video.encode(frame)]
        timed += [(packet.pts * packet.time_base, video, packet) for packet in video.encode()]
        for _, stream, packet in sorted(timed, key=lambda each: each[0]):
            packet.stream = stream
            output.mux(packet)
    return file.getvalue()


def heard(source):
    """Return the times at which sound sets in, to a hundredth of a second, and its length.

    Every decoded piece is placed at its own time, so gaps stay gaps.
    """
    samples = np.zeros(0)
    with av.open(source) as video:
        if not video.streams.audio:
            return [], 0.0
        resampler, at = None, 0
        for frame in video.decode(audio=0):
            begin = round(float(frame.time) * HEARD_HZ)
            if resampler is None or abs(begin - at) > HEARD_HZ // 50:
                resampler, at = av.AudioResampler("fltp", "mono", HEARD_HZ), begin
            for piece in resampler.resample(frame):
                mono = piece.to_ndarray()[0][max(0, -at) :]
                start, at = max(at, 0), max(at, 0) + len(mono)
                samples = np.pad(samples, (0, max(0, at - len(samples))))
                samples[start:at] = mono
    loud = np.abs(samples[: len(samples) // 80 * 80]).reshape(-1, 80).max(1, initial=0) > 0.1
    begins = [k / 100 for k in np.flatnonzero(loud).tolist() if k == 0 or not loud[k - 1]]
    return begins, len(samples) / HEARD_HZ
