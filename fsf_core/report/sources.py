"""The pictures that a run was made from: one image, page or video frame, decoded as the run decoded it.

Opens addresses within the rules that it is given. Knows no masks.
"""

import hashlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fsf_core import masks, runs, storage
from fsf_core.errors import DecodeError, LimitError
from fsf_core.manifest import members
from fsf_core.media import images, video


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where the picture of a row of masks is."""

    uri: str
    """With its credentials, if it has any."""
    frame_index: int
    is_video: bool
    pixels: int = 0
    """Height times width, as the run recorded them; 0 if that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What a run recorded of a source; None where it did not."""

    sha256: str | None
    version: str | None


def read_source(
    source: Source,
    *,
    honour_exif: bool,
    access: storage.Access | None,
    recorded: Recorded | None = None,
) -> NDArray[np.uint8]:
    """Decode an image, one page of a TIFF or one frame of a video: uint8 BGR, H×W×3.

    Args:
        source: of a row of masks.
        honour_exif: whether the run turned images upright.
        access: which addresses may be opened; None for any.
        recorded: refuse a source that is not the recorded one; None takes it as it is.

    Raises:
        FetchError, DecodeError: it is gone, or has changed.
        LimitError: it is too large to be decoded whole.
    """
    limits = images.ImageLimits()
    if source.pixels > limits.max_pixels and not source.is_video:  # such a file may be larger than the memory
        raise LimitError(
            f"the picture has {source.pixels:,} pixels, and is shown up to {limits.max_pixels:,}; see its overlay or "
            "its mask in the run, or open the file in QGIS"
        )
    with members.open_item(source.uri, access) as file:
        if not source.is_video:
            if recorded and not recorded.sha256 and not _is_recorded(file, recorded):
                raise _changed(source)
            data = file.read()
            if recorded and recorded.sha256 and hashlib.sha256(data).hexdigest() != recorded.sha256:
                raise _changed(source)
            if source.frame_index:
                return _read_page(data, source, honour_exif=honour_exif)
            return images.decode_bgr(data, honour_exif=honour_exif, limits=limits)
        if recorded and not _is_recorded(file, recorded):
            raise _changed(source)
        path = storage.path_or_file(source.uri, file)
        wanted = range(source.frame_index, source.frame_index + 1)
        for frame in video.decode_frames(path, video.index_video(path), wanted):
            return frame.image_HWC
    raise _no_frame(source)


def _read_page(data: bytes, source: Source, *, honour_exif: bool) -> NDArray[np.uint8]:
    """Decode a page of a TIFF.

    Raises:
        DecodeError: there is no such page, or it is damaged.
    """
    listed = images.read_pages(data)
    if source.frame_index >= len(listed.pages):
        raise _no_frame(source)
    return images.decode_page(data, listed.pages[source.frame_index], honour_exif=honour_exif).image_HWC


def _no_frame(source: Source) -> DecodeError:
    return DecodeError(f"{storage.redact(source.uri)} has no frame {source.frame_index} any more; was it replaced?")


def read_label(
    uri: str, *, palette_K3: NDArray[np.uint8], num_classes: int, access: storage.Access | None
) -> masks.ClassMap:
    """Read the label of an image as class ids; those of num_classes and above are ignored pixels.

    Raises:
        FetchError: it is gone.
        LabelError: it cannot be decoded.
    """
    with storage.open_binary(uri, access) as file:
        return masks.decode_label(file.read(), palette_K3=palette_K3, num_classes=num_classes)


def honours_exif(run_uri: str) -> bool:
    """Return whether the newest attempt of a run turned images upright; older runs did not record it, and did."""
    return bool(runs.read_document(run_uri, "run.json")["attempts"][-1].get("honour_exif", True))


def _is_recorded(file: BinaryIO, recorded: Recorded) -> bool:
    """Return whether a file is the recorded one, as far as its size and time or its etag tell; a copy is by sha256."""
    version = storage.etag_or_mtime(file)
    if recorded.version is None or version is None or version == recorded.version:
        return True
    if recorded.sha256 is None:
        return False
    same = storage.file_sha256(file) == recorded.sha256
    file.seek(0)
    return same


def _changed(source: Source) -> DecodeError:
    return DecodeError(f"{storage.redact(source.uri)} has changed since it was scored; score it again")
