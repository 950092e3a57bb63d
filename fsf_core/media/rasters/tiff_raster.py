"""A page of a TIFF as a raster: the pixels of `media.images`, by windows."""

# H×W pixels, C channels (blue, green, red)

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media.images import ImageLimits, decode_image, exif, stored, tiff, tiff_pixels, tiff_samples
from fsf_core.media.images.small_tiff import is_old_jpeg
from fsf_core.media.images.tiff import Directory, Tag
from fsf_core.media.rasters.georeference import Georeference, GeoTag, georeference_of
from fsf_core.media.rasters.raster import Raster, whole
from fsf_core.media.rasters.tiff_windows import FileBytes, TiffWindows

MAX_PIXELS = 4_000_000_000
"""Height times width: 63,245×63,245. The picture goes by in windows, its mask takes up to as many bytes on disk."""
_NO_DATA = 42113
_FIRST_TRANSPOSED = 5


def open_raster(file: BinaryIO, *, honour_exif: bool, limits: ImageLimits, max_pixels: int = MAX_PIXELS) -> Raster:
    """Open the first page of a TIFF, BigTIFF, GeoTIFF or COG; the file must stay open.

    Args:
        file: seekable; of a remote file only the ranges of a window are read.
        honour_exif: turn the image upright, as for `decode_image`.
        limits: for what must be decoded whole, or is if its strips are too large to be read by windows.
        max_pixels: largest page that is read by windows.

    Raises:
        DecodeError: the file is no TIFF, damaged, or of a kind that is not supported.
        LimitError: the page is too large, or must be decoded whole and is too large for that.
    """
    source = FileBytes(file)
    try:
        directory = tiff.read_directory(source)
        height_px, width_px = directory.tags.get(Tag.HEIGHT, (0,))[0], directory.tags.get(Tag.WIDTH, (0,))[0]
        if not height_px or not width_px:
            raise DecodeError(f"the tiff declares {width_px}x{height_px} pixels; it is damaged, copy it again")
        if height_px * width_px > max_pixels:
            raise LimitError(
                f"the tiff declares {width_px}x{height_px} pixels, {height_px * width_px:,} in all; the limit of what "
                f"is read by windows is {max_pixels:,}; make it smaller"
            )
        orientation = directory.orientation if honour_exif else 1
        ground = _ground_of(source, directory, orientation)
        reason = _whole_only(directory, orientation)
        if not reason:
            try:
                return _TiffRaster(source, directory, orientation, ground)
            except LimitError as error:  # of a strip, or of their number; the whole may be small enough
                if height_px * width_px > limits.max_pixels or source.size > limits.max_bytes:
                    raise
                reason = str(error)
        size_px = (height_px, width_px)
        return _decoded_whole(source, reason, ground, size_px=size_px, honour_exif=honour_exif, limits=limits)
    except (struct.error, IndexError) as error:
        raise DecodeError("the tiff is cut off or damaged; copy it again from its source") from error


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a directory says of the ground."""

    georeference: Georeference | None
    notes: tuple[str, ...]


def _ground_of(source: FileBytes, directory: Directory, orientation: int) -> _Ground:
    """Read GeoTIFF's tags, for the upright image."""
    wanted = {*GeoTag, _NO_DATA}
    tags = {tag: (kind, content) for tag, kind, _, content in tiff.raw_entries(source, directory.at, wanted)}
    no_data = tags.pop(_NO_DATA, (0, b""))[1].rstrip(b"\0 ").decode("latin-1")
    notes = (f"the file declares {no_data[:40]!r} as no data; such pixels were scored like others",) if no_data else ()
    found = georeference_of(tags, directory.order)
    if found and orientation != 1:
        found = found.turned(orientation, directory.tags[Tag.HEIGHT][0], directory.tags[Tag.WIDTH][0])
    return _Ground(found, notes)


def _whole_only(directory: Directory, orientation: int) -> str | None:
    """Return why a page cannot be decoded by windows; None if it can."""
    if is_old_jpeg(directory):
        return "it is compressed with the old kind of JPEG (Compression 6)"
    if tiff_pixels.declares_limits(directory):
        return "it declares black or white (MinSampleValue, MaxSampleValue), which all its samples are compared with"
    if orientation >= _FIRST_TRANSPOSED and Tag.TILE_OFFSETS not in directory.tags:
        return f"its strips are columns of the upright image (Orientation {orientation})"
    return None


def _decoded_whole(
    source: FileBytes,
    reason: str,
    ground: _Ground,
    *,
    size_px: tuple[int, int],
    honour_exif: bool,
    limits: ImageLimits,
) -> Raster:
    """Decode a page whole.

    Raises:
        LimitError: it is too large for that.
    """
    height_px, width_px = size_px
    if height_px * width_px > limits.max_pixels or source.size > limits.max_bytes:
        raise LimitError(
            f"the tiff cannot be read by windows: {reason}; as a whole it is too large ({width_px}x{height_px} pixels, "
            f"the limit is {limits.max_pixels:,}; {source.size:,} bytes, the limit is {limits.max_bytes:,}); save it "
            "in another way, for example gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
        )
    image_HWC, notes = decode_image(source.read(0, source.size), honour_exif=honour_exif, limits=limits)
    return whole(image_HWC, georeference=ground.georeference, notes=(*((notes,) if notes else ()), *ground.notes))


class _TiffRaster:
    """A page by windows."""

    def __init__(self, source: FileBytes, directory: Directory, orientation: int, ground: _Ground) -> None:
        self._directory, self._orientation, self._ground = directory, orientation, ground
        self._plan: tiff_pixels.SamplePlan | None = None
        self._transparent = 0
        self._first_of = stored.first_of(directory.pages, "pages")
        bands, cut = 3, False
        if tiff_samples.is_read_here(directory):
            self._plan = tiff_pixels.plan_of(directory)
            bands, cut = self._plan.bands, self._plan.cut
        self._windows = TiffWindows(source, directory, bands, cut=cut, on_first=self._count_transparent)
        height_px, width_px = self._windows.height_px, self._windows.width_px
        turned = orientation in range(_FIRST_TRANSPOSED, 9)
        self.height_px, self.width_px = (width_px, height_px) if turned else (height_px, width_px)

    @property
    def georeference(self) -> Georeference | None:
        return self._ground.georeference

    @property
    def notes(self) -> tuple[str, ...]:
        notes = self._first_of
        if self._plan:
            notes += stored.transparency_note(self._transparent, self.height_px * self.width_px) + self._plan.notes
        return notes + self._ground.notes

    def _count_transparent(self, samples_HWC: NDArray[Any]) -> None:
        """Count the transparent pixels of a strip or tile."""
        if self._plan and self._plan.alpha is not None:
            self._transparent += stored.transparent(tiff_pixels.alpha_of(samples_HWC, self._plan))

    def read(self, top_px: int, left_px: int, height_px: int, width_px: int) -> NDArray[np.uint8]:
        if not (0 <= top_px < top_px + height_px <= self.height_px):
            raise ValueError(f"found rows {top_px} to {top_px + height_px} of {self.height_px}")
        if not (0 <= left_px < left_px + width_px <= self.width_px):
            raise ValueError(f"found columns {left_px} to {left_px + width_px} of {self.width_px}")
        window = exif.stored_window(
            (top_px, left_px, height_px, width_px), self._orientation, (self.height_px, self.width_px)
        )
        samples_HWC = self._windows.read(*window)
        levels_HWC = tiff_pixels.as_levels(samples_HWC, self._plan, self._directory) if self._plan else samples_HWC
        return np.ascontiguousarray(exif.upright(levels_HWC, self._orientation))
