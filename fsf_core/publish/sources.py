"""The pictures that a run was made from: read again, and only if they are what the run scored.

Knows how images and videos are read; knows no other program's form.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core import storage
from fsf_core.errors import DecodeError, ItemError
from fsf_core.manifest import members
from fsf_core.media import images, video
from fsf_core.publish.frames import Frame

VERBATIM = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "bmp": ".bmp", "gif": ".gif"}
"""Formats that annotation tools, browsers and libraries open, with their suffix: such files are copied bit for bit."""

AHEAD = 32
"""Images whose bytes are fetched together."""

GAP_FRAMES = 64
"""Frames between two wanted ones that are decoded past, rather than entering the video again."""

_ORIENTATION = 0x112

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image file at the size and orientation of its mask."""

    data: bytes
    suffix: str


class PictureError(Exception):
    """A picture cannot be read, or is not what the run scored; the message is for people."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """How the pictures of a run are read."""

    access: storage.Access
    honour_exif: bool
    """Whether the run turned its images upright."""
    sampling: video.Sampling
    """Which frames of videos it scored."""
    full_uris: Mapping[str, str] = field(default_factory=dict)
    """URIs with their credentials by item; the tables of a run never hold any."""

    def read(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, bytes | Pixels | PictureError]]:
        """Yield each frame with its file, or with the pixels of a frame of a video or of a page: uint8 BGR."""
        indexed = _IndexedVideo()
        for (kind, _), group in itertools.groupby(frames, _kind_and_item):
            if kind == "page":
                yield from self._read_pages([*group])
            elif kind == "video":
                for some in _close(group):
                    yield from self._read_video(some, indexed)
            else:
                while some := [*itertools.islice(group, AHEAD)]:
                    yield from self._read_images(some)

    def _read_images(self, frames: list[Frame]) -> Iterator[tuple[Frame, bytes | PictureError]]:
        openers = members.open_prefetched([self._address(frame) for frame in frames], self.access)
        for frame, opener in zip(frames, openers, strict=True):
            try:
                _require_whole(self._address(frame))
                with opener() as file:
                    _require_version(frame, file)
                    yield frame, file.read()
            except (ItemError, OSError, PictureError) as error:
                yield frame, PictureError(str(error))

    def _read_pages(self, frames: list[Frame]) -> Iterator[tuple[Frame, Pixels | PictureError]]:
        """Yield the pixels of pages of one TIFF, which is read once."""
        first = frames[0]
        listed: images.Pages | None = None
        reason, data = "the file has no such page any more; was it replaced?", b""
        try:
            _require_whole(self._address(first))
            with members.open_item(self._address(first), self.access) as file:
                data = file.read()
            _require_same(first, data)
            listed = images.read_pages(data)
        except (ItemError, OSError, PictureError) as error:
            reason = str(error)
        for frame in frames:
            if listed is None or frame.frame_index >= len(listed.pages):
                yield frame, PictureError(reason)
                continue
            try:
                page = listed.pages[frame.frame_index]
                yield frame, images.decode_page(data, page, honour_exif=self.honour_exif).image_HWC
            except ItemError as error:
                yield frame, PictureError(str(error))

    def _address(self, frame: Frame) -> str:
        """Return the URI of the file of a frame, with its credentials if they are known."""
        full = self.full_uris.get(frame.item_id, "")
        return full if storage.redact(full) == frame.uri else frame.uri

    def _read_video(
        self, frames: list[Frame], indexed: "_IndexedVideo"
    ) -> Iterator[tuple[Frame, Pixels | PictureError]]:
        """Yield the pixels of consecutive frames of one video."""
        left = {frame.frame_index: frame for frame in frames}
        reason = "the video has no such frame any more; was it replaced?"
        try:
            _require_whole(self._address(frames[0]))
            with members.open_item(self._address(frames[0]), self.access) as file:
                index = indexed.of(frames[0], file)
                within = range(frames[0].frame_index, frames[-1].frame_index + 1)
                source = storage.path_or_file(self._address(frames[0]), file)
                for decoded in video.decode_frames(source, index, within, sampling=self.sampling):
                    frame = left.pop(decoded.frame_index, None)
                    if frame is not None:
                        yield frame, decoded.image_HWC
                    if not left:
                        return
        except (ItemError, OSError, PictureError) as error:
            reason = str(error)
        yield from ((frame, PictureError(reason)) for frame in left.values())

    def finish(self, frame: Frame, source: bytes | Pixels) -> Picture:
        """Return the picture of a frame, after comparing it with what the run scored.

        Files of common formats stay as they are. What another program would show turned, with other bits or not at all
        becomes a PNG of the pixels that the network saw; frames of videos and pages do.

        Raises:
            PictureError: it has changed, or cannot be decoded.
        """
        if isinstance(source, bytes):
            _require_same(frame, source)
            try:
                suffix = _verbatim_suffix(source, frame)
                if suffix:
                    return Picture(data=source, suffix=suffix)
                source = images.decode_bgr(source, honour_exif=self.honour_exif, limits=images.ImageLimits())
            except ItemError as error:
                raise PictureError(str(error)) from error
        if source.shape[:2] != (frame.height_px, frame.width_px):
            raise PictureError(
                f"it has {source.shape[1]}x{source.shape[0]} pixels, and had {frame.width_px}x{frame.height_px} when "
                "it was scored; score it again"
            )
        _, png = cv2.imencode(".png", source, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return Picture(data=png.tobytes(), suffix=".png")


class _IndexedVideo:
    """The index of the video that was read last: a chunk of its frames needs it once."""

    def __init__(self) -> None:
        self._item_id: str | None = None
        self._index: video.VideoIndex | None = None

    def of(self, frame: Frame, file: BinaryIO) -> video.VideoIndex:
        """Return the index of the video of a frame, after comparing its file with what the run scored.

        Raises:
            PictureError: it has changed.
            ItemError: it cannot be read.
        """
        if self._item_id != frame.item_id or self._index is None:
            _require_version(frame, file)
            if frame.item_sha256 is not None and storage.file_sha256(file) != frame.item_sha256:
                raise PictureError("the video has changed since it was scored; score it again")
            file.seek(0)
            self._index = video.index_video(storage.path_or_file(frame.uri, file))
            self._item_id = frame.item_id
        return self._index


def _kind_and_item(frame: Frame) -> tuple[str, str | None]:
    """Return what frames have in common that are read together: images are, of any items."""
    if frame.is_image:
        return "image", None
    return "page" if frame.of_pages else "video", frame.item_id


def _require_same(frame: Frame, data: bytes) -> None:
    """Compare the bytes of a file with what the run scored.

    Raises:
        PictureError: they are others.
    """
    if frame.item_sha256 is not None and hashlib.sha256(data).hexdigest() != frame.item_sha256:
        raise PictureError("the file has changed since it was scored; score it again")


def _require_version(frame: Frame, file: BinaryIO) -> None:
    """Compare the version of a file with what the run scored, if it has no digest: it was read in ranges.

    Raises:
        PictureError: it is another.
    """
    if frame.item_sha256 is None and frame.item_version not in {None, storage.etag_or_mtime(file)}:
        raise PictureError("the file has changed since it was scored; score it again")


def _require_whole(uri: str) -> None:
    """Check that an address has the credentials that it was scored with.

    Raises:
        PictureError: the run does not keep them.
    """
    if storage.is_redacted(uri):
        raise PictureError(
            f"{uri} lacks its password or signature, which a run does not store; pass the manifest that has the full "
            "URI with --manifest"
        )


def _verbatim_suffix(data: bytes, frame: Frame) -> str | None:
    """Return the suffix of a file that every program shows as the network saw it; None for others.

    Raises:
        DecodeError: it is no image.
    """
    header = images.read_header(data)
    if (header.height_px, header.width_px) != (frame.height_px, frame.width_px):
        return None
    try:
        with Image.open(BytesIO(data)) as opened:
            plain = opened.getexif().get(_ORIENTATION, 1) == 1 and not opened.mode.startswith(("I", "F"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DecodeError(f"found an image that Pillow cannot open ({error}); save it again") from error
    return VERBATIM.get(header.format) if plain else None


def _close(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Yield runs of frames that are decoded in one go."""
    held: list[Frame] = []
    for frame in frames:
        if held and not 0 < frame.frame_index - held[-1].frame_index <= GAP_FRAMES:
            yield held
            held = []
        held.append(frame)
    if held:
        yield held
