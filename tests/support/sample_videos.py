"""Healthy videos of many codecs, containers and irregularities, and a decoder of all their frames for comparison."""

import hashlib
import io
from functools import cache

from fsf_core.media.video import BrokenVideoError, decode_frames, index_video
from tests.support import clips

OPEN_GOP = {"x264-params": "open-gop=1"}

HEALTHY = {
    "h264 mp4": {},
    "h264 mkv": {"container": "matroska"},
    "h264 mov": {"container": "mov"},
    "h264 avi, B-frames without timestamps": {"container": "avi"},
    "h264 ts": {"container": "mpegts"},
    "h264 flv": {"container": "flv"},
    "h264 mp4 with sound": {"audio": True},
    "h264 mkv with sound": {"container": "matroska", "audio": True},
    "h264 fragmented mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264 open gop mp4": {"options": OPEN_GOP},
    "h264 open gop mkv": {"options": OPEN_GOP, "container": "matroska"},
    "h264 open gop ts": {"options": OPEN_GOP, "container": "mpegts"},
    "h264 intra refresh": {"options": {"x264-params": "intra-refresh=1"}, "frames": 50},
    "h264 variable frame rate": {
        "pts": [0, 1, 3, 4, 9, 10, 11, 20, 21, 22, 23, 50, 51, 52, 53, 54, 70, 71, 72, 99],
        "frames": 20,
    },
    "h264 edit list": {"start": -5, "container_options": {"avoid_negative_ts": "disabled"}},
    "h264 10 bit": {"pixel_format": "yuv420p10le"},
    "h264 odd size 444": {"pixel_format": "yuv444p", "width_px": 65, "height_px": 49},
    "h264 one frame": {"frames": 1},
    "h265 mp4": {"codec": "libx265"},
    "h265 open gop mkv": {
        "codec": "libx265",
        "container": "matroska",
        "options": {"x265-params": "log-level=none:open-gop=1"},
        "frames": 50,
    },
    "h265 ts 10 bit": {"codec": "libx265", "container": "mpegts", "pixel_format": "yuv420p10le"},
    "vp8 webm": {"codec": "libvpx", "container": "webm"},
    "vp9 webm odd size": {"codec": "libvpx-vp9", "container": "webm", "width_px": 65, "height_px": 49},
    "vp9 mp4": {"codec": "libvpx-vp9"},
    "vp9 webm with alpha": {
        "codec": "libvpx-vp9",
        "container": "webm",
        "pixel_format": "yuva420p",
        "width_px": 320,
        "height_px": 240,
    },
    "vp9 webm hidden references": {
        "codec": "libvpx-vp9",
        "container": "webm",
        "options": {"auto-alt-ref": "1", "lag-in-frames": "25", "deadline": "good"},
        "gop": 40,
        "frames": 75,
    },
    "av1 mp4": {"codec": "libsvtav1"},
    "av1 mkv": {"codec": "libsvtav1", "container": "matroska"},
    "av1 webm": {"codec": "libsvtav1", "container": "webm"},
    "mpeg4 mp4 B-frames": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4 avi B-frames": {"codec": "mpeg4", "container": "avi", "options": {"bf": "2"}},
    "mpeg4 avi": {"codec": "mpeg4", "container": "avi"},
    "mpeg2 ts B-frames": {"codec": "mpeg2video", "container": "mpegts", "options": {"bf": "2"}},
    "mpeg2 ps": {"codec": "mpeg2video", "container": "dvd", "options": {"bf": "2"}},
    "mjpeg avi": {"codec": "mjpeg", "container": "avi", "pixel_format": "yuvj420p"},
    "mjpeg mov": {"codec": "mjpeg", "container": "mov", "pixel_format": "yuvj422p"},
    "prores mov": {"codec": "prores_ks", "container": "mov", "pixel_format": "yuv422p10le"},
    "ffv1 mkv odd size": {"codec": "ffv1", "container": "matroska", "width_px": 65, "height_px": 49},
    "wmv asf": {"codec": "wmv2", "container": "asf"},
}


@cache
def encoded(name):
    """Encode one of HEALTHY, once."""
    return clips.clip(**HEALTHY[name])


@cache
def long_h264():
    """Encode 75 frames of H.264, once."""
    return clips.clip(frames=75, container_options={"moov_size": "8192"})  # header first, as for streaming


def digest(image):
    """Return shape and hash of an image."""
    return image.shape, hashlib.blake2b(image.tobytes()).digest()


def decoded(video, *, segment_frames=None, **options):
    """Return all frames as (number, time, digest), and the first BrokenVideoError, if any."""
    index = index_video(io.BytesIO(video))
    segments = clips.segments(index.frames, segment_frames) if segment_frames else [None]
    frames, errors = [], [None]
    for segment in segments:
        try:
            frames.extend(
                (frame.frame_index, frame.pts_s, digest(frame.image_HWC))
                for frame in decode_frames(io.BytesIO(video), index, segment, **options)
            )
        except BrokenVideoError as error:
            errors.append(error)
    return frames, errors[:2][-1]
