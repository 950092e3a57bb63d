"""Ground truth to class ids: PNG of a palette, of grey levels, or painted in class colours. Knows no model, no files.

A value is never scaled and a colour is never rounded. What two tools would read in two ways is an error.
"""

# H×W pixels, C channels, K classes

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsf_core.errors import DecodeError, LabelError
from fsf_core.masks import kernels
from fsf_core.masks.class_map import ClassMap, class_map_dtype
from fsf_core.masks.palette import voc_palette
from fsf_core.masks.png import PNG_SIGNATURE, open_png, stored_values

VOC_VOID = (224, 224, 192)
"""Colour of PASCAL VOC's borders and difficult objects, which are ignored."""

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # colour types of PNG
_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG, whose compression changes class ids and colours; export the labels as PNG"),
    (b"RIFF", "a WebP, which may be lossy; export the labels as PNG"),
    (b"GIF8", "a GIF; convert it to PNG"),
    (b"BM", "a BMP; convert it to PNG"),
    (b"II*\0", "a TIFF; convert it to PNG"),
    (b"MM\0*", "a TIFF; convert it to PNG"),
    (b"\x93NUMPY", "a NumPy array; write it as a PNG of grey levels"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file; run `git lfs pull`"),
)


class _Colours(NamedTuple):
    """Colours that have a meaning, ordered by their codes."""

    codes_N: NDArray[np.uint32]
    values_N: NDArray[np.unsignedinteger[Any]]
    shared: dict[int, tuple[int, ...]]
    """Codes that several classes have."""


def decode_label(data: bytes, *, palette_K3: NDArray[np.uint8], num_classes: int) -> ClassMap:
    """Decode a label to class ids.

    - Grey of 1, 2, 4, 8 or 16 bits: the level is the id.
    - Palette: the index is the id, whatever its colour. An error where the colours contradict that: all of them are
      colours of classes, but of others than their indices, which is what a painting becomes that an optimizer or
      Pillow's quantize stored with a palette.
    - RGB or RGBA: the colour is that of a class, in the palette; or in PASCAL VOC's colours, with their colour of
      ignored borders, where no class has one of these as another's colour.
    - With alpha: the colour or level counts as it is stored, but a transparent pixel may only be class 0.

    Args:
        data: the whole file; its kind is read from its content.
        palette_K3: RGB of every class.
        num_classes: classes of the model.

    Returns:
        uint8, or uint16 above 255 classes. Values of num_classes and above, which are ignored, stay as they are: a map
        that holds some above 255 is uint16. But for 65535, which becomes 255 where both are ignored.

    Raises:
        LabelError: no PNG, a damaged one, a colour that is no class's, or indices that contradict their colours.
    """
    bits, colour_type = _read_kind(data)
    colours = _colours_of(np.ascontiguousarray(palette_K3[:num_classes], np.uint8).tobytes())
    try:
        image = open_png(data)
    except DecodeError as error:
        raise LabelError(f"label: {error}") from error
    if colour_type in (_GREY, _PALETTE):
        values_HW: NDArray[Any] = stored_values(image, bits=bits)
        if colour_type == _PALETTE:
            _require_agreement(values_HW, image.getpalette() or [], colours, num_classes)
    elif colour_type == _GREY_ALPHA:
        values_HW, alpha_HW = _read_grey_alpha(image, data, bits)
        _require_opaque(values_HW, alpha_HW)
    else:
        values_HW = _read_painted(np.asarray(image), bits, colours)
    dtype = class_map_dtype(num_classes)
    if values_HW.dtype.itemsize > dtype.itemsize:
        values_HW = np.where(values_HW == np.iinfo(values_HW.dtype).max, np.iinfo(dtype).max, values_HW)
        dtype = dtype if values_HW.max() <= np.iinfo(dtype).max else values_HW.dtype
    return values_HW.astype(dtype, copy=False)


def _read_kind(data: bytes) -> tuple[int, int]:
    """Return bits per channel and colour type of a PNG.

    Raises:
        LabelError: it is no PNG, or ends inside its header.
    """
    if not data.startswith(PNG_SIGNATURE):
        found = next((text for magic, text in _OTHERS if data.startswith(magic)), "no image that is read as a label")
        found = found if data else "an empty file (0 bytes); copy it again"
        raise LabelError(
            f"found {found}; expected a PNG: palette, grey levels of class ids, or RGB(A) in class colours"
        )
    if len(data) < 33 or data[12:16] != b"IHDR":  # noqa: PLR2004 # signature and header
        raise LabelError(f"found a PNG that is cut off inside its header ({len(data)} bytes); copy it again")
    return data[24], data[25]


@lru_cache(maxsize=8)
def _colours_of(palette: bytes) -> _Colours:
    """Return the colours of classes: those of the palette, and VOC's where they contradict none of them."""
    own: dict[int, list[int]] = {}
    codes_K = _codes(np.frombuffer(palette, np.uint8).reshape(-1, 3)).tolist()
    for class_id, code in enumerate(codes_K):
        own.setdefault(code, []).append(class_id)
    voc = {int(code): class_id for class_id, code in enumerate(_codes(voc_palette(len(codes_K))).tolist())}
    dtype = class_map_dtype(len(codes_K))
    voc.setdefault(int(_codes(np.asarray([VOC_VOID], np.uint8))[0]), int(np.iinfo(dtype).max))
    values = {code: ids[0] for code, ids in own.items()}
    if all(values.get(code, value) == value for code, value in voc.items()):
        values = voc | values
    codes_N = np.asarray(sorted(values), np.uint32)
    return _Colours(
        codes_N=codes_N,
        values_N=np.asarray([values[code] for code in codes_N.tolist()], dtype),
        shared={code: tuple(ids) for code, ids in own.items() if len(ids) > 1},
    )


def _codes(colours_N3: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return RGB as one number, red highest."""
    red, green, blue = colours_N3.astype(np.uint32).T
    codes_N: NDArray[np.uint32] = red << 16 | green << 8 | blue
    return codes_N


def _require_agreement(values_HW: NDArray[Any], palette: list[int], colours: _Colours, num_classes: int) -> None:
    """Check that the indices of a palette PNG do not contradict its colours.

    Raises:
        LabelError: they do.
    """
    used = np.flatnonzero(cv2.calcHist([values_HW], [0], None, [256], [0, 256]))
    ids = used[used < num_classes]
    table_N3 = np.asarray(palette, np.uint8).reshape(-1, 3)
    if ids.max(initial=0) >= len(table_N3):
        return  # no colours to contradict anything
    levels_n3 = table_N3[ids]
    codes = _codes(levels_n3)
    if np.array_equal(codes, _codes(voc_palette(256)[ids])) or len(np.unique(codes)) < len(codes):
        return  # what VOC and most labelling tools write, whatever the colours of the run; or no painting
    at = np.minimum(np.searchsorted(colours.codes_N, codes), len(colours.codes_N) - 1)
    if np.array_equal(colours.codes_N[at], codes):
        meant = colours.values_N[at].astype(np.int64)
    elif (levels_n3 == levels_n3[:, :1]).all() and (levels_n3 < num_classes).all():
        meant = levels_n3[:, 0].astype(np.int64)  # ids as grey levels, stored with a palette
    else:
        return  # colours of somebody's own choice
    wrong = [
        (class_id, code, value)
        for class_id, code, value in zip(ids.tolist(), codes.tolist(), meant.tolist(), strict=True)
        if value != class_id and class_id not in colours.shared.get(code, ())
    ]
    if wrong:
        index, code, value = wrong[0]
        raise LabelError(
            f"found a palette PNG whose index {index} has the colour #{code:06x}, which means class {value}; expected "
            "index = class id: some program stored a painting with a palette; save it as RGB, where colours count, or "
            "as grey levels of class ids"
        )


def _read_grey_alpha(image: Image.Image, data: bytes, bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return levels and alpha.

    Raises:
        LabelError: it is damaged in a way that Pillow overlooks.
    """
    values_HWC: Any = np.asarray(image)
    if bits > 8:  # noqa: PLR2004 # Pillow keeps the upper byte alone
        values_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values_HWC is None:
            raise LabelError("found a damaged PNG, expected a whole one; write it again")
    return values_HWC[..., 0], values_HWC[..., -1]


def _require_opaque(values_HW: NDArray[Any], alpha_HW: NDArray[Any]) -> None:
    """Check that what is transparent is class 0.

    Raises:
        LabelError: a transparent pixel holds another class: an eraser may have left it there, or a painter meant it.
    """
    hidden_HW = (alpha_HW == 0) & (values_HW != 0)
    if hidden_HW.any():
        row, column = np.unravel_index(int(hidden_HW.argmax()), hidden_HW.shape)
        raise LabelError(
            f"found class {values_HW[row, column]} in {int(hidden_HW.sum())} transparent pixels, first at row {row}, "
            f"column {column}; expected opaque pixels, or class 0: flatten the image, so that hidden pixels get the "
            "class that is meant"
        )


def _read_painted(image_HWC: NDArray[np.uint8], bits: int, colours: _Colours) -> NDArray[Any]:
    """Return the class ids of a painted label.

    Raises:
        LabelError: a colour is that of no class or of several, or a transparent pixel is not of class 0.
    """
    values_HW = np.empty(image_HWC.shape[:2], colours.values_N.dtype)
    first = kernels.look_up_colours(kernels.as_input(image_HWC), colours.codes_N, colours.values_N, values_HW)
    if first >= 0:
        _refuse_colour(image_HWC, first, bits, colours)
    if colours.shared:
        _require_distinct(image_HWC, colours)
    if image_HWC.shape[2] == 4:  # noqa: PLR2004 # with alpha
        _require_opaque(values_HW, image_HWC[..., 3])
    return values_HW


def _refuse_colour(image_HWC: NDArray[np.uint8], first: int, bits: int, colours: _Colours) -> None:
    """Raise the error of a colour that has no meaning.

    Raises:
        LabelError: always.
    """
    codes_HW = _codes(image_HWC[..., :3].reshape(-1, 3))
    code = int(codes_HW[first])
    count = int((codes_HW == code).sum())
    unknown = np.setdiff1d(codes_HW, colours.codes_N)
    row, column = divmod(first, image_HWC.shape[1])
    transparent = image_HWC.shape[2] > 3 and image_HWC[row, column, 3] == 0  # noqa: PLR2004 # with alpha
    shown = ", ".join(f"#{each:06x}" for each in colours.codes_N[np.argsort(colours.values_N, kind="stable")][:8])
    more = f" and {len(unknown) - 1} further colours" if len(unknown) > 1 else ""
    do = (
        "flatten the image, so that transparent pixels get the colour of their class"
        if transparent
        else "soft edges and lossy steps mix colours: export hard-edged PNG"
        if len(unknown) > 8  # noqa: PLR2004 # more than a wrong palette has
        else "paint it in the colours of the classes, give those in --palette, or save class ids as grey levels"
    )
    raise LabelError(
        f"found {'the transparent ' if transparent else ''}colour #{code:06x} in {count} pixels, first at row {row}, "
        f"column {column}{more}{' (16 bits, of which the upper 8 count)' if bits > 8 else ''}; expected colours of "  # noqa: PLR2004
        f"classes ({shown}{', …' if len(colours.codes_N) > 8 else ''}): {do}"  # noqa: PLR2004 # a line
    )


def _require_distinct(image_HWC: NDArray[np.uint8], colours: _Colours) -> None:
    """Check that no pixel has the colour of several classes.

    Raises:
        LabelError: one has.
    """
    codes_HW = _codes(image_HWC[..., :3].reshape(-1, 3))
    for code, ids in colours.shared.items():
        if count := int((codes_HW == code).sum()):
            raise LabelError(
                f"found colour #{code:06x} in {count} pixels, which is that of the classes {', '.join(map(str, ids))}; "
                "expected one class per colour: save class ids as grey levels, or give the classes other colours"
            )
