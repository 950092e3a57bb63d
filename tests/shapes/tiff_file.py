"""TIFF files made by hand from stored samples: every depth, order, layout and directory that the format allows."""

# H×W pixels, C samples

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]
Tags = dict[int, tuple[str, Sequence[int]]]

_TYPES = {"B": 1, "H": 3, "I": 4, "Q": 16}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How samples are arranged in a file."""

    order: str = "<"
    """Byte order: < or >."""
    planar: bool = False
    strip_rows: int | None = None
    tile_px: int | None = None
    deflate: bool = False
    predictor: bool = False
    """Horizontal differences, for 8 and 16 bits."""
    big: bool = False
    """BigTIFF."""

    def __str__(self) -> str:
        """Return the layout as text."""
        pieces = f"tiles of {self.tile_px}" if self.tile_px else f"strips of {self.strip_rows or 'all'} rows"
        flags = ("planar", "deflate", "predictor", "big")
        return ", ".join([{"<": "II", ">": "MM"}[self.order], pieces, *(name for name in flags if getattr(self, name))])


def page(samples_HWC: Samples, bits: int, photometric: int | None, layout: Layout, **more: Any) -> "Page":
    """Return one page; arguments as for `Page`."""
    return Page(samples_HWC=samples_HWC, bits=bits, photometric=photometric, layout=layout, **more)


@dataclass(frozen=True, kw_only=True)
class Page:
    """Stored samples and tags of one page."""

    samples_HWC: Samples
    bits: int
    photometric: int | None
    layout: Layout
    sample_format: int | None = 1
    tags: Tags | None = None
    """Further tags: number to struct's letter and values."""

    def blocks(self) -> Iterator[bytes]:
        """Yield the strips or tiles."""
        planes = [self.samples_HWC]
        if self.layout.planar:
            planes = [self.samples_HWC[..., k : k + 1] for k in range(self.samples_HWC.shape[2])]
        for plane in planes:
            for block in self._cut(plane):
                data = _pack(_differences(block) if self.layout.predictor else block, self.bits, self.layout.order)
                yield zlib.compress(data) if self.layout.deflate else data

    def _cut(self, plane: Samples) -> Iterator[Samples]:
        height, width = plane.shape[:2]
        side = self.layout.tile_px
        if side is None:
            rows = self.layout.strip_rows or height
            yield from (plane[top : top + rows] for top in range(0, height, rows))
            return
        padded = np.zeros((-(-height // side) * side, -(-width // side) * side, plane.shape[2]), plane.dtype)
        padded[:height, :width] = plane
        for top in range(0, len(padded), side):
            yield from (padded[top : top + side, left : left + side] for left in range(0, padded.shape[1], side))

    def directory(self, offsets: list[int], sizes: list[int]) -> Tags:
        """Return all tags, given where the blocks are."""
        height, width, count = self.samples_HWC.shape
        word = "Q" if self.layout.big else "I"
        compression = 8 if self.layout.deflate else 1
        tags: Tags = {
            256: ("I", [width]), 257: ("I", [height]), 258: ("H", [self.bits] * count), 259: ("H", [compression]),
            277: ("H", [count]), 284: ("H", [2 if self.layout.planar else 1]),
        }  # fmt: skip
        if self.photometric is not None:
            tags[262] = ("H", [self.photometric])
        if self.sample_format is not None:
            tags[339] = ("H", [self.sample_format] * count)
        if self.layout.predictor:
            tags[317] = ("H", [2])
        if self.layout.tile_px:
            side = self.layout.tile_px
            tags |= {322: ("I", [side]), 323: ("I", [side]), 324: (word, offsets), 325: (word, sizes)}
        else:
            tags |= {278: ("I", [self.layout.strip_rows or height]), 273: (word, offsets), 279: (word, sizes)}
        return tags | (self.tags or {})


def file_of(pages: Iterable[Page]) -> bytes:
    """Return a TIFF of these pages, which share the byte order and size of numbers of the first."""
    pages = list(pages)
    order, big = pages[0].layout.order, pages[0].layout.big
    word = "Q" if big else "I"
    head = {"<": b"II", ">": b"MM"}[order] + (
        struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    )
    body = bytearray(head + bytes(struct.calcsize(f"={word}")))
    link_at = len(head)
    for each in pages:
        offsets, sizes = [], []
        for block in each.blocks():
            offsets.append(len(body))
            sizes.append(len(block))
            body += block + bytes(len(block) % 2)
        struct.pack_into(order + word, body, link_at, len(body))
        link_at = _append_directory(body, each.directory(offsets, sizes), order, big=big)
    return bytes(body)


def _append_directory(body: bytearray, tags: Tags, order: str, *, big: bool) -> int:
    """Append a directory and the values that it points to; return where the offset of the next one is."""
    word, counter = ("Q", "Q") if big else ("I", "H")
    word_bytes = struct.calcsize(f"={word}")
    spill_at = len(body) + struct.calcsize(f"={counter}") + (4 + 2 * word_bytes) * len(tags) + word_bytes
    entries, spill = bytearray(struct.pack(order + counter, len(tags))), bytearray()
    for number, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(raw) > word_bytes:
            place = struct.pack(order + word, spill_at + len(spill))
            spill += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(word_bytes, b"\0")
        entries += struct.pack(f"{order}HH{word}", number, _TYPES[kind], len(values)) + place
    body += entries
    link_at = len(body)
    body += bytes(word_bytes) + spill
    return link_at


def _differences(block: Samples) -> Samples:
    """Return each sample less the one to its left, as the predictor stores it."""
    changed = block.copy()
    changed[:, 1:] -= block[:, :-1]
    return changed


def _pack(block: Samples, bits: int, order: str) -> bytes:
    """Return samples as bytes, the most significant bit first; rows begin at a byte."""
    if bits in (8, 16, 32):
        return block.astype(f"{order}u{bits // 8}").tobytes()
    lines = block.reshape(len(block), -1)[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(lines.astype(np.uint8).reshape(len(block), -1), axis=1).tobytes()
