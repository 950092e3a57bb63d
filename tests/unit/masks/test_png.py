import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from fsf_core import masks
from fsf_core.errors import DecodeError
from fsf_core.masks import png


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1000])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 8), (33, 129)])
def test_a_class_map_survives_png_in_pillow_and_opencv(classes, shape):
    rng = np.random.default_rng(classes)
    blocks = rng.integers(0, classes, (shape[0] // 5 + 1, shape[1] // 5 + 1)).repeat(5, 0).repeat(5, 1)
    class_map = blocks[: shape[0], : shape[1]].astype(np.uint8 if classes < 256 else np.uint16)
    palette = masks.voc_palette(classes)
    encoded = masks.encode_png(class_map, palette)
    assert np.array_equal(masks.decode_png(encoded), class_map)
    by_opencv = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    image = Image.open(io.BytesIO(encoded))
    if classes <= 256:
        assert np.array_equal(by_opencv[..., ::-1], palette[class_map])
        assert np.array_equal(np.asarray(image.convert("RGB")), palette[class_map])
        assert image.mode == "P"
    else:
        assert np.array_equal(by_opencv, class_map)
        assert np.array_equal(np.asarray(image), class_map)


def test_a_smooth_mask_is_smaller_than_pillows_and_opencvs():
    coarse = np.random.default_rng(7).standard_normal((4, 4, 5)).astype(np.float32)
    scores = np.stack([cv2.resize(plane, (512, 512), interpolation=cv2.INTER_CUBIC) for plane in coarse])
    class_map = scores.argmax(0).astype(np.uint8)
    by_pillow = io.BytesIO()
    Image.fromarray(class_map).save(by_pillow, "PNG", compress_level=6)
    ours = len(masks.encode_png(class_map, masks.voc_palette(4)))
    assert ours < len(by_pillow.getvalue())
    assert ours < len(cv2.imencode(".png", class_map)[1])


@pytest.mark.parametrize(
    ("mode", "values", "options"),
    [
        ("P", np.arange(6, dtype=np.uint8), {}),
        ("L", np.arange(6, dtype=np.uint8), {}),
        ("L", np.array([0, 1, 2, 3, 2, 255], np.uint8), {}),
        ("1", np.array([0, 1, 0, 1, 1, 0], np.uint8), {}),
        ("I;16", np.array([0, 1, 300, 65535, 4, 5], np.uint16), {}),
    ],
)
def test_masks_written_by_pillow_are_decoded(mode, values, options):
    values = values.reshape(2, 3)
    if mode == "1":
        image = Image.fromarray(values * 255).convert("1")
    elif mode == "P":
        image = Image.frombytes("P", (3, 2), values.tobytes())
        image.putpalette([9, 9, 9] * 6)
    else:
        image = Image.fromarray(values)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", **options)
    assert np.array_equal(masks.decode_png(encoded.getvalue()), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_png_of_few_bits_keeps_class_numbers(bits):
    class_map = (np.arange(35).reshape(5, 7) % (1 << bits)).astype(np.uint8)
    indexed = masks.encode_png(class_map, masks.voc_palette(1 << bits))
    header = bytearray(indexed[12:29])
    header[13] = 0  # colour type: grey
    end_of_palette = indexed.index(b"IDAT") - 4
    grey = indexed[:8] + png._chunk(b"IHDR", bytes(header[4:])) + indexed[end_of_palette:]
    assert np.array_equal(masks.decode_png(grey), class_map)


@pytest.mark.parametrize(
    "damage", [lambda png: png[: len(png) // 2], lambda _: b"\xff\xd8\xff\xe0 jpeg", lambda _: b""]
)
def test_bytes_that_are_not_a_whole_png_raise_decode_error(damage):
    encoded = masks.encode_png(np.random.default_rng(0).integers(0, 4, (50, 50)).astype(np.uint8), masks.voc_palette(4))
    with pytest.raises(DecodeError, match="expected"):
        masks.decode_png(damage(encoded))


def test_an_rgb_png_raises_decode_error():
    encoded = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(DecodeError, match="RGB"):
        masks.decode_png(encoded)


def test_a_class_without_a_colour_raises_value_error():
    class_map = np.array([[0, 4]], np.uint8)
    with pytest.raises(ValueError, match="colour"):
        masks.encode_png(class_map, masks.voc_palette(4))
    with pytest.raises(ValueError, match="colour"):
        masks.colour_map(class_map, masks.voc_palette(4))


def rings_and_noise(classes):
    """Runs longer than one match of DEFLATE, rows of an odd number of pixels, and noise at the right edge."""
    y, x = np.mgrid[:301, :1037]
    rings = ((x - 400) ** 2 + (y - 150) ** 2) // 9000
    class_map = np.where(x < 900, rings, x * y * 7919 // 64) % classes
    return class_map.astype(masks.class_map_dtype(classes))


@pytest.mark.parametrize(
    ("classes", "sha256"),
    [
        (2, "086224b0c2bfb2ae94fbd2afe77f6ebcc6ca0a2fd7d31c559112ecb6057823ac"),
        (4, "135e3b486f723c8f7f323c09b7acc742987935bef3e9bdac798d3813f9b01048"),
        (16, "0aaf87c5b8c9e9265bec4ea674f31097430607debe63a1c3c756680c1db2c7d6"),
        (200, "d3b1a78e0f1851b350192cf779b678753027d1f7dea677cf3cafcb05430b8eb7"),
        (1000, "ea3eef812b131b92af1d0397b7beb692c9b1c4aa3ad7ff3e07c9df7f2561af63"),
    ],
)
def test_equal_class_maps_give_equal_png_bytes(classes, sha256):
    """One case per bit depth: 1, 2, 4, 8, 16. A changed digest changes the bytes of every mask that users compare."""
    class_map = rings_and_noise(classes)

    encoded = masks.encode_png(class_map, masks.voc_palette(classes))

    assert np.array_equal(masks.decode_png(encoded), class_map)
    assert hashlib.sha256(encoded).hexdigest() == sha256


def test_masks_are_compressed_without_zlib(monkeypatch):
    """zlib's output differs between its builds."""
    masks.compile_kernels()  # numba itself compresses names
    monkeypatch.delattr(png.zlib, "compress")
    monkeypatch.delattr(png.zlib, "compressobj")

    assert masks.encode_png(np.zeros((3, 3), np.uint8), masks.voc_palette(4)).startswith(masks.PNG_SIGNATURE)
