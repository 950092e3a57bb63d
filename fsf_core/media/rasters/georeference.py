"""Where an image is on the ground, as GeoTIFF's tags say it, and the same for the image turned upright.

Knows no coordinate systems: their keys are kept as they are, so that nothing is lost or interpreted.
"""

# H×W pixels; i and j are a column and a row of the raster, x, y and z a place on the ground

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class GeoTag(IntEnum):
    """GeoTIFF's tags, and the camera model of satellite images."""

    PIXEL_SCALE = 33550
    TIE_POINTS = 33922
    TRANSFORMATION = 34264
    KEYS = 34735
    KEY_NUMBERS = 34736
    KEY_TEXT = 34737
    CAMERA = 50844


_KINDS = {2: "s", 3: "H", 12: "d"}  # TIFF's type number to struct's letter
_KIND_OF = {GeoTag.KEYS: 3, GeoTag.KEY_TEXT: 2}
_DOUBLE = 12
_POINT_VALUES = 6
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2
_NO_TURN = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Georeference:
    """GeoTIFF's tags of one image, decoded; what an image of the same pixels needs to be on the same ground.

    GCPs are tie points without a pixel scale. Whether a pixel is an area or a point is one of the keys.
    """

    pixel_scale: tuple[float, ...] = ()
    """Ground units per pixel in x, y and z."""
    tie_points: tuple[float, ...] = ()
    """i, j, k, x, y, z of every point."""
    transformation: tuple[float, ...] = ()
    """4×4, row by row: from i, j, k, 1 to x, y, z, 1."""
    keys: tuple[int, ...] = ()
    """The directory of keys, which name the coordinate system."""
    key_numbers: tuple[float, ...] = ()
    key_text: bytes = b""
    camera: tuple[float, ...] = ()
    """Rational polynomial coefficients, for which ground coordinates become rows and columns."""

    @property
    def is_point(self) -> bool:
        """Whether i and j count from the centre of the first pixel, not from its corner."""
        entries = [self.keys[at : at + 4] for at in range(4, len(self.keys), 4)]
        return any(entry[0] == _RASTER_TYPE and entry[-1] == _PIXEL_IS_POINT for entry in entries)

    def tags(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield tag, type, count and little-endian bytes of every tag that is there, in ascending order."""
        values = {
            GeoTag.PIXEL_SCALE: self.pixel_scale, GeoTag.TIE_POINTS: self.tie_points,
            GeoTag.TRANSFORMATION: self.transformation, GeoTag.KEYS: self.keys,
            GeoTag.KEY_NUMBERS: self.key_numbers, GeoTag.KEY_TEXT: self.key_text, GeoTag.CAMERA: self.camera,
        }  # fmt: skip
        for tag, content in values.items():
            if content:
                kind = _KIND_OF.get(tag, _DOUBLE)
                packed = content if isinstance(content, bytes) else _packed(kind, content)
                yield int(tag), kind, len(content), packed

    def turned(self, orientation: int, height_px: int, width_px: int) -> "Georeference":
        """Return the georeference of the image turned upright, without a camera model: that is of the stored rows.

        Args:
            orientation: EXIF's number of how the stored pixels are turned.
            height_px: of the stored image.
            width_px: of the stored image.
        """
        stored_of_upright = _stored_of_upright(orientation, height_px, width_px, is_point=self.is_point)
        if stored_of_upright is None:
            return self
        if self.transformation:
            matrix = np.array(self.transformation).reshape(4, 4)
        elif self.pixel_scale and len(self.tie_points) >= _POINT_VALUES:
            matrix = _matrix_of(self.pixel_scale, self.tie_points[:_POINT_VALUES])
        else:
            points = _turned_points(self.tie_points, np.linalg.inv(stored_of_upright))
            return replace(self, tie_points=points, camera=())
        turned = tuple((matrix @ stored_of_upright).ravel().tolist())
        return replace(self, pixel_scale=(), tie_points=(), transformation=turned, camera=())


def _packed(kind: int, values: Sequence[float]) -> bytes:
    """Return values of a type of TIFF, little-endian."""
    return struct.pack(f"<{len(values)}{_KINDS[kind]}", *values)


def georeference_of(tags: Mapping[int, tuple[int, bytes]], order: str) -> Georeference | None:
    """Return the georeference of a directory; None if it has none.

    Args:
        tags: type and bytes of GeoTIFF's tags.
        order: byte order, < or >.
    """

    def values(tag: GeoTag) -> tuple[float, ...]:
        kind, content = tags.get(tag, (_DOUBLE, b""))
        if kind != _KIND_OF.get(tag, _DOUBLE):
            return ()
        count = len(content) // struct.calcsize(f"={_KINDS[kind]}")
        return struct.unpack_from(f"{order}{count}{_KINDS[kind]}", content)

    found = Georeference(
        pixel_scale=values(GeoTag.PIXEL_SCALE),
        tie_points=values(GeoTag.TIE_POINTS),
        transformation=values(GeoTag.TRANSFORMATION),
        keys=tuple(map(int, values(GeoTag.KEYS))),
        key_numbers=values(GeoTag.KEY_NUMBERS),
        key_text=tags.get(GeoTag.KEY_TEXT, (0, b""))[1],
        camera=values(GeoTag.CAMERA),
    )
    return None if found == Georeference() else found


def _stored_of_upright(
    orientation: int, height_px: int, width_px: int, *, is_point: bool
) -> NDArray[np.float64] | None:
    """Return the 4×4 matrix from i, j of the upright image to those of the stored one; None if they are the same."""
    right, bottom = (width_px - 1, height_px - 1) if is_point else (width_px, height_px)
    rows = {
        2: ((-1, 0, right), (0, 1, 0)),
        3: ((-1, 0, right), (0, -1, bottom)),
        4: ((1, 0, 0), (0, -1, bottom)),
        5: ((0, 1, 0), (1, 0, 0)),
        6: ((0, 1, 0), (-1, 0, bottom)),
        7: ((0, -1, right), (-1, 0, bottom)),
        8: ((0, -1, right), (1, 0, 0)),
    }.get(orientation)
    if rows is None:
        return None
    (a, b, c), (d, e, f) = rows
    return np.array([[a, b, 0, c], [d, e, 0, f], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)


def _matrix_of(scale: tuple[float, ...], point: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the transformation that a pixel scale and one tie point define."""
    i, j, _, x, y, z = point
    x_scale, y_scale = scale[:2]
    return np.array([
        [x_scale, 0, 0, x - i * x_scale], [0, -y_scale, 0, y + j * y_scale], [0, 0, 0, z], [0, 0, 0, 1],
    ])  # fmt: skip


def _turned_points(points: tuple[float, ...], upright_of_stored: NDArray[Any]) -> tuple[float, ...]:
    """Return tie points with i and j in the upright image."""
    table = np.array(points[: len(points) // _POINT_VALUES * _POINT_VALUES]).reshape(-1, _POINT_VALUES)
    table[:, :2] = table[:, :2] @ upright_of_stored[:2, :2].T + upright_of_stored[:2, 3]
    return tuple(table.ravel().tolist())
