"""From class scores to masks: softmax, class map, statistics, PNG, colours. Knows no model, no file and no video.

The class map is the argmax of the class probabilities after each plane was resized to the picture with OpenCV's
INTER_LINEAR, as FastSegFormer does it, and it is found without resizing: interpolation between four samples is a
convex combination, so where the four agree on the winner, everything between them does. Only tiles whose corners
disagree are interpolated. Pixels can differ from the resized planes only where two classes tie to the last bits.
"""

# K classes, H×W pixels of the picture, h×w cells of the network's grid

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core import kernels
from fsf_core.errors import DecodeError, MaskError

ClassMap = NDArray[np.uint8] | NDArray[np.uint16]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameMask:
    """The class map of one frame and what was counted while it was drawn."""

    class_map_HW: ClassMap
    """Class of every pixel at the size of the picture: uint8, or uint16 with more than 255 classes."""
    pixels_K: NDArray[np.int64]
    """Pixels of each class; they add up to H·W."""
    components_K: NDArray[np.int64]
    """Connected regions of each class. Pixels that touch at a corner are connected, as in OpenCV and COCO tools: a
    scratch one pixel wide is one region at every angle."""
    largest_component_px_K: NDArray[np.int64]
    """Pixels of the largest region of each class; 0 where there is none."""
    mean_probability_K: NDArray[np.float64]
    """Mean probability of a class over the cells of the network's grid that it wins; NaN where it wins none, and where
    the model answered a class map instead of scores. A class can win cells and lose every pixel (a picture smaller
    than the grid), or the other way round."""


def class_map_dtype(num_classes: int) -> np.dtype[Any]:
    """What a class map of this many classes is made of; 255 stays free in uint8, readers of labels take it for ignore.

    Raises:
        ValueError: more than 65536 classes, or none.
    """
    if not 1 <= num_classes <= 1 + np.iinfo(np.uint16).max:
        raise ValueError(f"found {num_classes} classes; expected 1 to 65536")
    return np.dtype(np.uint8 if num_classes <= np.iinfo(np.uint8).max else np.uint16)


def softmax(scores_Khw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the classes (axis 0): minus the maximum, exponential, divided by the sum.

    Within a few units in the last place of torch's and NumPy's, and the same bits on every processor.
    """
    scores_Khw = kernels.as_input(scores_Khw.astype(np.float32, copy=False))
    probabilities_Khw = np.empty(scores_Khw.shape, np.float32)
    classes = scores_Khw.shape[0]
    kernels.softmax_planes(scores_Khw.reshape(classes, -1), probabilities_Khw.reshape(classes, -1))
    return probabilities_Khw


def make_mask(probabilities_Khw: NDArray[np.float32], *, height_px: int, width_px: int) -> FrameMask:
    """Draw the class map at the size of the picture and count on the way.

    Components are always counted: they come from the runs that are drawn anyway, for less than a tenth of the time.
    Beyond the map itself, memory grows with the grid and with the width of the picture, not with their product.

    Args:
        probabilities_Khw: float32, from `softmax`; may be a view, such as a letterbox cut away.
        height_px: rows of the picture, more or fewer than the grid's.
        width_px: columns of the picture.

    Raises:
        MaskError: a probability is NaN or infinite.
    """
    if probabilities_Khw.ndim != 3 or 0 in probabilities_Khw.shape or probabilities_Khw.dtype != np.float32:  # noqa: PLR2004 # axes
        raise ValueError(
            f"found {probabilities_Khw.dtype} probabilities of shape {probabilities_Khw.shape}; "
            "expected float32 [classes, rows, columns], none of them 0"
        )
    if height_px < 1 or width_px < 1:
        raise ValueError(f"the picture is {height_px}x{width_px}; both sides must be at least 1")
    classes, height_cells, width_cells = probabilities_Khw.shape
    probabilities_Khw = kernels.as_input(probabilities_Khw)

    winner_hw = np.empty((height_cells, width_cells), np.uint16)
    wins_K = np.zeros(classes, np.int64)
    summed_K = np.zeros(classes, np.float64)
    if not kernels.grid_winners(probabilities_Khw, winner_hw, wins_K, summed_K):
        raise MaskError(
            "found NaN or infinity among the class probabilities; expected finite numbers: "
            "the network overflowed on this input, try the float32 model"
        )
    class_map_HW = np.empty((height_px, width_px), class_map_dtype(classes))
    pixels_K = np.zeros(classes, np.int64)
    components_K = np.zeros(classes, np.int64)
    largest_K = np.zeros(classes, np.int64)
    kernels.draw(
        probabilities_Khw,
        winner_hw,
        _axis(height_px, height_cells),
        _axis(width_px, width_cells),
        class_map_HW,
        pixels_K,
        components_K,
        largest_K,
    )
    return FrameMask(
        class_map_HW=class_map_HW,
        pixels_K=pixels_K,
        components_K=components_K,
        largest_component_px_K=largest_K,
        mean_probability_K=np.divide(summed_K, wins_K, out=np.full(classes, np.nan), where=wins_K > 0),
    )


def measure(class_map_HW: ClassMap, *, num_classes: int) -> FrameMask:
    """Count what `make_mask` counts, in a class map that the model drew itself; it has no probabilities to average.

    Args:
        class_map_HW: uint8 or uint16.
        num_classes: of the model.

    Raises:
        MaskError: a class is num_classes or above.
    """
    if class_map_HW.ndim != 2 or 0 in class_map_HW.shape or class_map_HW.dtype not in (np.uint8, np.uint16):  # noqa: PLR2004 # axes
        raise ValueError(
            f"found a {class_map_HW.dtype} class map of shape {class_map_HW.shape}; expected uint8 or uint16 [H, W]"
        )
    counts = [np.zeros(num_classes, np.int64) for _ in range(3)]
    if not kernels.measure(kernels.as_input(class_map_HW), *counts):
        raise MaskError(
            f"found class {class_map_HW.max()}, expected classes below {num_classes}: "
            "the model answers more classes than its bundle names"
        )
    return FrameMask(
        class_map_HW=class_map_HW,
        pixels_K=counts[0],
        components_K=counts[1],
        largest_component_px_K=counts[2],
        mean_probability_K=np.full(num_classes, np.nan),
    )


def _axis(pixels: int, cells: int) -> "kernels.Axis":
    """Between which two samples the centre of every pixel lies, and how far along (half-pixel centres).

    Band b lies between sample b-1 and sample b; the first and the last band have one sample only.
    Coordinates are float64, as in OpenCV with IPP (every x86 wheel). OpenCV without IPP rounds them to float32 first,
    which moves a weight by up to 3e-5 on a grid of 300 cells: two builds of OpenCV differ by that much.
    """
    position = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
    before = np.floor(position)
    weight = (position - before).astype(np.float32)
    weight[(before < 0) | (before >= cells - 1)] = 0
    return kernels.Axis(np.clip(before + 1, 0, cells).astype(np.int32), weight, cells / pixels)


def encode_png(class_map_HW: ClassMap, palette_K3: NDArray[np.uint8]) -> bytes:
    """Write a class map as an indexed PNG that carries its palette, or above 256 classes as a grey PNG of 16 bits.

    The same map and palette give the same bytes on every machine.

    Args:
        class_map_HW: classes below K.
        palette_K3: RGB of every class, of `voc_palette`; its length alone decides the bits per pixel.
    """
    # 4 classes, 6 % of the tiles on a border, one core of an EPYC, `python tests/bench/bench_masks.py`, 2026-11-23:
    #                                 512x512             4000x3000
    #   this                      0.34 ms  4,847 B     3.8 ms   39,580 B
    #   cv2.imencode, grey        0.68     7,735      25        63,117
    #   Pillow P, level 1         0.89     7,106      42        69,116
    #   zlib Z_RLE (*)            0.18     4,750       5.2      39,377
    #   isal level 1 (*)          0.08     6,275       0.8      59,998
    #   zlib level 6 (*)          1.22     5,302      21        49,010
    # (*) only the stream, of the same 2-bit rows with the filter Up. With 8 bits a pixel or without the filter, isal
    # makes 10,099 B and 83,908 B, Z_RLE 5,913 B and 50,693 B.
    height, width = class_map_HW.shape
    classes = len(palette_K3)
    if height < 1 or width < 1 or class_map_HW.max() >= classes:
        raise ValueError(f"found a {height}x{width} class map and {classes} colours; expected a colour for every class")
    bits = next((bits for bits in (1, 2, 4, 8) if classes <= 1 << bits), 16)
    indexed = bits < 16  # noqa: PLR2004 # PNG's palettes end at 256
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if indexed else 0, 0, 0, 0)
    palette = _chunk(b"PLTE", np.ascontiguousarray(palette_K3, dtype=np.uint8).tobytes()) if indexed else b""
    pixels = _chunk(b"IDAT", kernels.compress_rows(class_map_HW, bits))
    return PNG_SIGNATURE + _chunk(b"IHDR", header) + palette + pixels + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk: length, kind, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def decode_png(encoded: bytes) -> ClassMap:
    """Read the class map out of an indexed or grey PNG of any depth, ours or another's; the palette is not looked at.

    Raises:
        DecodeError: not a PNG, broken off, or a PNG of colours instead of classes.
    """
    if not encoded.startswith(PNG_SIGNATURE):
        raise DecodeError(f"found {encoded[:8]!r}; expected a PNG: give a mask that this program or a labeller wrote")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # masks of 100 megapixels are ordinary
            picture = Image.open(io.BytesIO(encoded))
            values_HW = np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"found a PNG that cannot be read ({error}); expected a whole one: write it again") from error
    if picture.mode not in ("P", "1", "L", "I;16", "I"):
        raise DecodeError(
            f"found a PNG of mode {picture.mode}; expected class numbers (palette or grey): convert the colours first"
        )
    if picture.mode in ("I;16", "I"):
        return values_HW.astype(np.uint16)
    if picture.mode == "L":
        bits = encoded[24]  # Pillow stretches grey of 2 and 4 bits to 0..255
        return values_HW // np.uint8(255 // ((1 << bits) - 1))
    return values_HW.astype(np.uint8)


def voc_palette(num_classes: int) -> NDArray[np.uint8]:
    """PASCAL VOC's colours as RGB [K, 3]: bit 0, 1, 2 of the class give the top bit of red, green, blue, and so on.

    The rule is VOC's own for 256 classes and simply goes on: all colours stay different up to 2**24 classes.
    """
    classes = np.arange(num_classes)
    palette_K3 = np.zeros((num_classes, 3), np.int64)
    for level in range(8):
        for channel in range(3):
            palette_K3[:, channel] |= (classes >> (3 * level + channel) & 1) << (7 - level)
    return palette_K3.astype(np.uint8)


def voc_colours(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """`voc_palette` as plain numbers."""
    return tuple((red, green, blue) for red, green, blue in voc_palette(num_classes).tolist())


def colour_map(class_map_HW: ClassMap, palette_K3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paint every pixel in the colour of its class: uint8 [H, W, 3], channels in the palette's order."""
    if class_map_HW.max(initial=0) >= len(palette_K3):
        raise ValueError(f"found class {class_map_HW.max()} and {len(palette_K3)} colours; expected a colour for each")
    if class_map_HW.dtype != np.uint8:
        return palette_K3[class_map_HW]
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette_K3), 0] = palette_K3[:256]
    return np.asarray(cv2.applyColorMap(class_map_HW, table), np.uint8)


def overlay(
    image_HWC: NDArray[np.uint8],
    class_map_HW: ClassMap,
    palette_K3: NDArray[np.uint8],
    *,
    clear_background: bool = False,
) -> NDArray[np.uint8]:
    """Blend 0.6 of the picture with 0.4 of the class colours, as FastSegFormer's tools do.

    Args:
        image_HWC: uint8 BGR, at the size of the class map.
        class_map_HW: class of every pixel.
        palette_K3: RGB of every class.
        clear_background: leave the pixels of class 0 as they are.

    Returns:
        uint8 BGR.
    """
    if image_HWC.shape != (*class_map_HW.shape, 3):
        raise ValueError(f"the picture is {image_HWC.shape}, the class map {class_map_HW.shape}; expected one size")
    blended = cv2.addWeighted(image_HWC, 0.6, colour_map(class_map_HW, palette_K3[:, ::-1]), 0.4, 0)
    if clear_background:
        cv2.copyTo(image_HWC, (class_map_HW == 0).view(np.uint8), blended)
    return np.asarray(blended, np.uint8)


def count_table(class_names: Sequence[str], pixels_K: NDArray[np.int64]) -> str:
    """The table of pixels and share per class that FastSegFormer's tools print, classes that occur only."""
    rule = "-" * 63
    total_px = int(pixels_K.sum())
    lines = [rule, "|%25s | %15s | %15s|" % ("Key", "Value", "Ratio"), rule]  # noqa: UP031 # the format is the contract
    for name, pixels in zip(class_names, pixels_K.tolist(), strict=True):
        if pixels > 0:
            lines += ["|%25s | %15s | %14.2f%%|" % (name, pixels, 100 * pixels / total_px), rule]  # noqa: UP031 # as above
    return "\n".join(lines)


def warm_up() -> None:
    """Compile or load all that scoring with up to 255 classes runs, so that the first frame does not wait for it."""
    scores_Khw = np.zeros((4, 3, 3), np.float32)
    scores_Khw[0, 0, 0] = 1
    scores_Khw[1, 1, 1] = 1
    mask = make_mask(softmax(scores_Khw), height_px=5, width_px=5)
    measure(mask.class_map_HW, num_classes=4)
    encode_png(mask.class_map_HW, voc_palette(4))
