import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from fsf_core import masks
from fsf_core.errors import LabelError
from fsf_core.masks.labels import VOC_VOID, decode_label

VOC = masks.voc_palette(4)
OTHER = np.array([(10, 20, 30), (255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
IDS = np.array([[0, 1, 2, 3, 3], [3, 2, 1, 0, 0]], np.uint8)


def png(image, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def indexed(ids, palette, **options):
    image = Image.fromarray(ids)
    image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    return png(image, **options)


def raw_png(rows_HB, *, width_px, bits, colour_type, palette=b""):
    """A PNG of any depth, from the bytes of its rows."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width_px, len(rows_HB), bits, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows_HB))
    colours = chunk(b"PLTE", palette) if palette else b""
    return masks.PNG_SIGNATURE + chunk(b"IHDR", header) + colours + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def read(data, *, palette=VOC, classes=4):
    return decode_label(data, palette_K3=palette, num_classes=classes)


@pytest.mark.parametrize("palette", [VOC, OTHER], ids=["VOC", "own"])
@pytest.mark.parametrize("alpha", [False, True], ids=["RGB", "RGBA"])
def test_a_painting_in_the_colours_of_the_classes_is_read(palette, alpha):
    painted = palette[IDS]
    if alpha:
        painted = np.dstack([painted, np.full(IDS.shape, 255, np.uint8)])
    ids = read(png(painted), palette=palette)
    assert ids.dtype == np.uint8
    assert np.array_equal(ids, IDS)


@pytest.mark.parametrize(("bits", "per_byte"), [(1, 8), (2, 4), (4, 2), (8, 1)])
@pytest.mark.parametrize("colour_type", [0, 3], ids=["grey", "palette"])
def test_levels_and_indices_of_any_depth_are_ids_and_never_scaled(bits, per_byte, colour_type):
    ids = np.arange(16).reshape(2, 8) % min(1 << bits, 4)
    groups = ids.reshape(2, -1, per_byte)
    rows = (groups << (bits * np.arange(per_byte)[::-1])).sum(2)
    palette = masks.voc_palette(4).tobytes() if colour_type == 3 else b""
    found = read(raw_png(rows.astype(np.uint8), width_px=8, bits=bits, colour_type=colour_type, palette=palette))
    assert np.array_equal(found, ids)


def test_grey_of_16_bits_holds_ids_above_255():
    ids = np.array([[0, 255, 256, 299, 300, 65535]], np.uint16)
    found = read(png(ids), palette=masks.voc_palette(300), classes=300)
    assert found.dtype == np.uint16
    assert np.array_equal(found, ids)


def test_levels_above_255_are_ignored_where_classes_are_few():
    found = read(png(np.array([[0, 3, 257, 65535]], np.uint16)))
    assert found.tolist() == [[0, 3, 257, 255]]
    assert read(png(np.array([[0, 3, 255, 65535]], np.uint16))).dtype == np.uint8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_with_alpha_is_read_at_its_depth(dtype):
    opaque = np.full(IDS.shape, np.iinfo(dtype).max, dtype)
    if dtype == np.uint8:
        data = png(np.dstack([IDS, opaque]))
    else:
        data = raw_png(
            [row.astype(">u2").tobytes() for row in np.dstack([IDS.astype(dtype), opaque])],
            width_px=5, bits=16, colour_type=4,
        )  # fmt: skip
    assert np.array_equal(read(data), IDS)


def test_damage_that_pillow_overlooks_is_a_label_error():
    rows = [row.astype(">u2").tobytes() for row in np.dstack([IDS, np.full_like(IDS, 255)]).astype(np.uint16) * 257]
    data = raw_png(rows, width_px=5, bits=16, colour_type=4).replace(b"IEND", b"IXND")
    with pytest.raises(LabelError, match="damaged PNG"):
        read(data)


def test_painting_of_16_bits_is_read():
    data = raw_png(
        [(row.astype(np.uint16) * 257).astype(">u2").tobytes() for row in OTHER[IDS]],
        width_px=5, bits=16, colour_type=2,
    )  # fmt: skip
    assert np.array_equal(read(data, palette=OTHER), IDS)


def test_a_palette_png_of_this_project_is_read_back():
    assert np.array_equal(read(masks.encode_png(IDS, OTHER), palette=OTHER), IDS)


def test_more_classes_than_a_palette_holds_are_painted_and_read():
    ids = np.arange(300).reshape(10, 30).astype(np.uint16)
    palette = masks.voc_palette(300)
    assert np.array_equal(read(png(palette[ids]), palette=palette, classes=300), ids)


def test_voc_colours_are_read_beside_a_palette_that_does_not_contradict_them():
    assert np.array_equal(read(png(VOC[IDS]), palette=OTHER), IDS)


def test_voc_colours_are_not_guessed_where_the_palette_gives_one_of_them_to_another_class():
    turned = VOC[[0, 2, 1, 3]]
    assert np.array_equal(read(png(turned[IDS]), palette=turned), IDS)
    palette = np.array([VOC[0], VOC[2], (1, 2, 3), (4, 5, 6)], np.uint8)
    with pytest.raises(LabelError, match=r"colour #800000 in 2 pixels, first at row 0, column 1"):
        read(png(VOC[IDS]), palette=palette)


def test_voc_borders_are_ignored():
    painted = VOC[IDS]
    painted[0, 0] = VOC_VOID
    assert read(png(painted))[0].tolist() == [255, 1, 2, 3, 3]


def test_an_unknown_colour_is_an_error_that_names_colour_place_and_count():
    painted = VOC[IDS]
    painted[1, 2:4] = (1, 2, 3)
    with pytest.raises(LabelError, match=r"colour #010203 in 2 pixels, first at row 1, column 2; expected .*#800000"):
        read(png(painted))


def test_a_painting_with_soft_edges_is_refused():
    soft = cv2.resize(np.kron(VOC[IDS], np.ones((9, 9, 1), np.uint8)), (131, 57), interpolation=cv2.INTER_LINEAR)
    with pytest.raises(LabelError, match=r"further colours.*export hard-edged PNG"):
        read(png(soft))


def test_a_colour_of_two_classes_is_refused_only_where_it_occurs():
    palette = np.array([VOC[0], (9, 9, 9), (9, 9, 9), VOC[3]], np.uint8)
    assert read(png(palette[[[0, 3]]]), palette=palette).tolist() == [[0, 3]]
    with pytest.raises(LabelError, match=r"#090909 in 1 pixels, which is that of the classes 1, 2"):
        read(png(palette[[[0, 1]]]), palette=palette)
    assert read(indexed(np.array([[0, 2]], np.uint8), palette), palette=palette).tolist() == [[0, 2]]


@pytest.mark.parametrize("alpha", [0, 1, 128], ids="alpha {}".format)
def test_transparent_background_is_class_0_and_half_opaque_paint_counts(alpha):
    painted = np.dstack([VOC[IDS], np.where(IDS > 0, max(alpha, 1), 0)]).astype(np.uint8)
    assert np.array_equal(read(png(painted)), IDS)


def test_classes_hidden_in_transparent_pixels_are_refused():
    painted = np.dstack([VOC[IDS], np.full(IDS.shape, 255)]).astype(np.uint8)
    painted[0, 1:3, 3] = 0
    with pytest.raises(LabelError, match="class 1 in 2 transparent pixels, first at row 0, column 1"):
        read(png(painted))
    with pytest.raises(LabelError, match="class 1 in 2 transparent pixels"):
        read(png(np.dstack([IDS, painted[..., 3]])))


def test_transparent_black_is_refused_where_black_is_no_class():
    painted = np.dstack([OTHER[IDS], np.full(IDS.shape, 255)]).astype(np.uint8)
    painted[0, 0] = 0
    palette = np.array([(1, 1, 1), VOC[2], OTHER[2], OTHER[3]], np.uint8)
    painted = np.dstack([palette[IDS], painted[..., 3]])
    painted[0, 0] = 0
    with pytest.raises(LabelError, match=r"the transparent colour #000000 in 1 pixels.*flatten"):
        read(png(painted), palette=palette)


class TestPalette:
    """A palette PNG: the index is the id, unless its colours say that it cannot be."""

    @pytest.mark.parametrize(
        "palette",
        [
            masks.voc_palette(256),  # VOC, labelme, CVAT, Label Studio's converter
            OTHER,  # those of the run
            np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1),  # Pillow: an L image converted to P
            np.zeros((256, 3), np.uint8),  # no colours at all
            np.random.default_rng(0).integers(0, 256, (4, 3), dtype=np.uint8),  # a tool's own
            [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)],  # grey for looking at
        ],
        ids=["VOC", "own", "grey ramp", "black", "arbitrary", "stretched grey"],
    )
    @pytest.mark.parametrize("own", [VOC, OTHER], ids=["VOC run", "other run"])
    def test_index_is_the_id(self, palette, own):
        assert np.array_equal(read(indexed(IDS, palette), palette=own), IDS)

    def test_voc_indices_are_ids_where_the_run_has_the_same_colours_in_another_order(self):
        assert np.array_equal(read(indexed(IDS, VOC), palette=VOC[[0, 2, 1, 3]]), IDS)

    def test_ignored_index_may_have_any_colour(self):
        ids = IDS.copy()
        ids[0, 0] = 255
        for palette in (masks.voc_palette(256), np.vstack([VOC, np.zeros((252, 3), np.uint8)]), VOC):
            data = raw_png(ids, width_px=5, bits=8, colour_type=3, palette=palette.tobytes())
            assert np.array_equal(read(data), ids)

    @pytest.mark.parametrize("ids", [[[2, 2, 3], [3, 2, 2]], [[1]], [[0, 0, 3]]])
    def test_a_painting_stored_with_a_palette_by_pillow_is_refused(self, ids):
        quantized = Image.fromarray(VOC[np.asarray(ids)]).quantize()
        if np.array_equal(np.asarray(quantized), ids):
            pytest.skip("quantize kept the order")
        with pytest.raises(LabelError, match=r"palette PNG whose index \d has the colour #.*save it as RGB"):
            read(png(quantized))

    def test_a_painting_stored_with_a_palette_in_another_order_is_refused(self):
        for turned in ([0, 2, 1, 3], [3, 2, 1, 0]):
            with pytest.raises(LabelError, match="which means class"):
                read(indexed(IDS, OTHER[turned]), palette=OTHER)

    def test_grey_ids_that_an_optimizer_stored_with_a_palette_are_refused(self):
        with pytest.raises(LabelError, match="index 1 has the colour #030303, which means class 3"):
            read(indexed(np.array([[0, 1]], np.uint8), [(0, 0, 0), (3, 3, 3)]))


@pytest.mark.parametrize(
    ("suffix", "message"),
    [(".jpg", "a JPEG, whose compression"), (".webp", "a WebP"), (".bmp", "a BMP"), (".tiff", "a TIFF")],
)
def test_other_formats_are_refused_with_advice(suffix, message):
    data = cv2.imencode(suffix, VOC[IDS])[1].tobytes()
    with pytest.raises(LabelError, match=f"found {message}.*expected a PNG"):
        read(data)


@pytest.mark.parametrize("data", [b"", b"item,label", masks.PNG_SIGNATURE, png(IDS)[:-30], png(VOC[IDS])[:60]])
def test_bytes_that_are_no_whole_png_are_refused_without_quoting_them(data):
    with pytest.raises(LabelError, match=r"found|label") as caught:
        read(data)
    assert "item,label" not in str(caught.value)


def test_one_class_and_one_pixel_are_a_label():
    assert read(png(np.zeros((1, 1), np.uint8)), palette=VOC[:1], classes=1).tolist() == [[0]]
