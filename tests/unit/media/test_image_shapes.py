"""Pictures of the shapes that other tools were reported to get wrong, against Pillow and the formats' definitions."""

# H×W pixels, C channels (red, green, blue)

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from fsf_core.errors import DecodeError
from fsf_core.media import images
from fsf_core.media.images import tiff
from tests.shapes.pictures import ALPHA, decoded, encoded, exif_with, picture, upright
from tests.shapes.tiff_file import Layout, Page, file_of
from tests.support.assets import jpeg_segment, jpeg_with, opencv

IMAGE = picture(np.random.default_rng(7))
GREY = IMAGE[..., 2]
ORIENTATIONS = range(1, 9)


def rgb_of(data, *, honour_exif=True):
    return images.decode_image(data, honour_exif=honour_exif).image_HWC[..., ::-1]


def notes_of(data):
    return images.decode_image(data, honour_exif=True).notes


def refusal_of(data):
    with pytest.raises(DecodeError) as caught:
        images.decode_image(data, honour_exif=True)
    return str(caught.value)


def tiff_of(samples, bits, photometric, *, layout=None, **more):
    samples = samples if samples.ndim == 3 else samples[..., None]
    page = Page(samples_HWC=samples, bits=bits, photometric=photometric, layout=layout or Layout(), **more)
    return file_of([page])


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_avif_is_turned_by_irot_and_imir(orientation):
    """Kind: orientation that a container carries beside EXIF. Heights and widths of photos were swapped."""
    data = encoded(IMAGE, "AVIF", quality=95, exif=exif_with(orientation))
    pillow = Image.open(io.BytesIO(data))

    assert np.array_equal(rgb_of(data), np.asarray(ImageOps.exif_transpose(pillow)))
    assert np.array_equal(rgb_of(data, honour_exif=False), np.asarray(pillow))


def test_exif_inside_avif_counts_for_nothing():
    """HEIF derives orientation from irot and imir alone; a viewer that reads both turns twice."""
    data = encoded(IMAGE, "AVIF", quality=95)
    block = b"\x00\x00\x00\x06" + exif_with(6).tobytes()
    with_exif = data + struct.pack(">I", 8 + len(block)) + b"Exif" + block

    assert np.array_equal(rgb_of(with_exif), rgb_of(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_one_photo_is_turned_alike_in_every_format(kind, orientation):
    """Kind: orientation is honoured in every format or in none, as the profile asks; TIFF was always turned."""
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    data = encoded(IMAGE, kind, exif=exif_with(orientation), **options.get(kind, {}))

    for found, right in (
        (rgb_of(data), upright(IMAGE, orientation)),
        (rgb_of(data, honour_exif=False), IMAGE),
    ):
        assert found.shape == right.shape
        assert np.abs(found.astype(int) - right).mean() < 6


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "letter"), [(3, "H"), (4, "I")], ids=["short", "long"])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_read_from_short_and_long_numbers(name, kind, letter, order):
    """Kind: EXIF asks for a short number, some writers use a long one, and Pillow reads both."""
    value = struct.pack(order + letter, 6).ljust(4, b"\0")
    entry = struct.pack(order + "HHHI", 1, 0x112, kind, 1) + value + bytes(4)
    block = b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + entry
    data = encoded(IMAGE, name, exif=block, **({"lossless": True} if name == "WEBP" else {}))

    assert np.array_equal(rgb_of(data), decoded(data))
    assert rgb_of(data).shape[:2] == IMAGE.shape[1::-1]


# --- Netpbm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxval", [1, 11, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_netpbm_is_scaled_by_its_maxval(kind, maxval):
    """Kind: a MAXVAL other than 255 and 65,535, as cameras of 10 and 12 bits write; their files became black."""
    source = IMAGE if kind in (3, 6) else IMAGE[..., :1]
    samples = np.rint(source / 255 * maxval).astype(int)
    head = b"P%d\n# 640 480\n%d %d\n%d\n" % (kind, IMAGE.shape[1], IMAGE.shape[0], maxval)
    text = b" ".join(b"%d" % value for value in samples.ravel())
    body = text if kind < 4 else samples.astype("u1" if maxval < 256 else ">u2").tobytes()

    right = np.rint(samples * 255 / maxval).astype(np.uint8)
    assert np.array_equal(rgb_of(head + body), np.broadcast_to(right, IMAGE.shape))


@pytest.mark.parametrize(
    ("data", "right"),
    [
        (b"P1\n3 1\n101", [0, 255, 0]),  # 1 is black, and blanks are not needed
        (b"P4\n3 1\n\xa0", [0, 255, 0]),
        (b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n\x01\x00", [255, 0]),  # 1 is white
        (b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 7\nENDHDR\n\x07\x00", [255, 0]),
        (b"P2\n2 1 3 # levels\n3 # white\n1\n", [255, 85]),
        (b"P5\n2 1\n100\n\x00d", [0, 100 * 255 // 100]),
    ],
)
def test_netpbm_follows_its_definition(data, right):
    assert rgb_of(data).tolist() == [[[value] * 3 for value in right]]


def test_pam_without_a_type_is_refused_where_the_order_of_its_samples_is_unknown():
    """OpenCV writes such files as BGR, others as RGB."""
    data = b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n\x01\x02\x03"

    assert "TUPLTYPE" in refusal_of(data)
    assert rgb_of(data.replace(b"ENDHDR", b"TUPLTYPE RGB\nENDHDR")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P5\n2 1\n100\n\x00e", "a sample of 101, its MAXVAL is 100"),
        (b"P2\n2 1\n100\n0 101", "a sample of 101, its MAXVAL is 100"),
        (b"P5\n2 1\n0\n\x00\x00", "MAXVAL of 0, expected 1 to 65535"),
        (b"P5\n2 1\n70000\n\x00\x00\x00\x00", "MAXVAL of 70000"),
        (b"P2\n2 1\n9\n0 x", "no decimal numbers"),
        (b"P5\n2 2\n100\n\x00\x00\x00", "cut off"),
        (b"P3\n2 2\n100\n1 2 3", "cut off"),
    ],
)
def test_damaged_netpbm_is_refused_with_the_reason(data, message):
    assert message in refusal_of(data)


# --- TIFF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "sample_format", "message"),
    [
        (8, 2, "signed (SampleFormat 2)"),
        (16, 2, "signed (SampleFormat 2)"),
        (32, 2, "signed (SampleFormat 2)"),
        (16, 3, "floating-point (SampleFormat 3)"),
        (32, 3, "floating-point (SampleFormat 3)"),
        (16, 5, "complex integers (SampleFormat 5)"),
        (32, 6, "complex (SampleFormat 6)"),
        (32, 1, "32 bits"),
    ],
)
@pytest.mark.parametrize("samples", [GREY, IMAGE], ids=["grey", "colour"])
def test_samples_that_are_not_unsigned_are_refused(samples, bits, sample_format, message):
    """Kind: samples without a defined black and white. Signed ones were taken for unsigned: shadows became bright."""
    data = tiff_of(samples.astype(f"u{bits // 8}"), bits, 2 if samples.ndim == 3 else 1, sample_format=sample_format)

    assert message in refusal_of(data)


@pytest.mark.parametrize(
    ("photometric", "name"),
    [
        (8, "CIELab"),
        (9, "ICCLab"),
        (10, "ITULab"),
        (32803, "colour filter array"),
        (34892, "linear raw"),
        (77, "unknown"),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_other_colour_models_are_refused_by_name(photometric, name, bits):
    """Kind: samples that are no RGB, taken for RGB."""
    message = refusal_of(tiff_of(IMAGE.astype(f"u{bits // 8}"), bits, photometric))

    assert f"colour model is {name}" in message
    assert f"(PhotometricInterpretation {photometric})" in message


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("bits", "white"), [(8, 127), (10, 800), (12, 4095), (16, 1023), (16, 4095), (16, 16383)])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_a_tiff_that_declares_its_white_is_divided_by_it(photometric, bits, white, planar):
    """Kind: 12 bits in 16, with MaxSampleValue. They were black pictures, and scored."""
    source = IMAGE if photometric == 2 else IMAGE[..., :1]
    samples = np.rint(source / 255 * white).astype(np.uint16 if bits > 8 else np.uint8)
    tags = {281: ("H", [white] * source.shape[2])}
    data = tiff_of(samples, bits, photometric, layout=Layout(planar=planar, order=">"), tags=tags)

    right = np.rint(samples.astype(int) * 255 / white).astype(np.uint8)
    assert np.array_equal(rgb_of(data), np.broadcast_to(255 - right if photometric == 0 else right, IMAGE.shape))
    if white != (1 << bits) - 1:
        assert f"(0 to {white}) were scaled" in notes_of(data)


def test_a_declared_white_that_is_exceeded_is_not_used():
    samples = np.full((2, 2), 40_000, np.uint16)
    data = tiff_of(samples, 16, 1, tags={281: ("H", [4095])})

    assert rgb_of(data)[0, 0, 0] == 40_000 >> 8
    assert notes_of(data) is None


def test_a_declared_black_is_black():
    data = tiff_of(np.array([[64, 564, 1064]], np.uint16), 16, 1, tags={280: ("H", [64]), 281: ("H", [1064])})

    assert rgb_of(data)[0, :, 0].tolist() == [0, 128, 255]


LAYOUTS = [
    Layout(), Layout(order=">"), Layout(strip_rows=7), Layout(tile_px=16), Layout(tile_px=64, order=">"),
    Layout(planar=True, strip_rows=5), Layout(planar=True, tile_px=16), Layout(deflate=True, predictor=True),
    Layout(big=True),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [2, 4, 8, 10, 12, 14, 16])
def test_every_depth_is_read_in_every_layout(bits, layout):
    """Kind: depths, bands and tiles that OpenCV refuses, and tiles wider than the image, which it reads wrongly."""
    if layout.predictor and bits not in (8, 16):
        layout = Layout(deflate=True)
    samples = (IMAGE.astype(np.uint16) * 257 >> 16 - bits).astype(np.uint8 if bits <= 8 else np.uint16)
    levels = samples.astype(int) >> 8 if bits == 16 else np.rint(samples.astype(int) * 255 / ((1 << bits) - 1))
    grey, white = samples[..., 2], (1 << bits) - 1 - samples[..., 2]

    assert np.array_equal(rgb_of(tiff_of(samples, bits, 2, layout=layout)), levels)
    assert np.array_equal(rgb_of(tiff_of(grey, bits, 1, layout=layout))[..., 0], levels[..., 2])
    assert np.array_equal(rgb_of(tiff_of(white, bits, 0, layout=layout))[..., 0], levels[..., 2])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("further", [1, 2, 5])
def test_further_bands_are_left_out_and_noted(further, bits):
    """Kind: bands beside red, green and blue; five were refused."""
    extra = np.full((*GREY.shape, further), 200, np.uint8)
    samples = np.dstack([IMAGE, extra]).astype(f"u{bits // 8}") << bits - 8
    data = tiff_of(samples, bits, 2, tags={338: ("H", [0] * further)})

    assert np.array_equal(rgb_of(data), IMAGE)
    assert notes_of(data) == f"bands 1 to 3 of {3 + further} were scored"


@pytest.mark.parametrize("bits", [8, 16])
def test_cmyk_is_read(bits):
    inks = np.dstack([255 - IMAGE, np.zeros_like(GREY)]).astype(f"u{bits // 8}") * (257 if bits == 16 else 1)

    assert np.array_equal(rgb_of(tiff_of(inks, bits, 5, tags={332: ("H", [1])})), IMAGE)
    assert "InkSet" in refusal_of(tiff_of(inks, bits, 5, tags={332: ("H", [2])}))


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_a_tiff_are_not_multiplied_by_alpha(bits, kind):
    """Kind: colours as stored, whatever alpha is. libtiff darkens those of unassociated alpha."""
    samples = np.dstack([IMAGE, np.full_like(GREY, 100)]).astype(f"u{bits // 8}") << bits - 8
    data = tiff_of(samples, bits, 2, tags={338: ("H", [kind])})

    assert np.array_equal(rgb_of(data), IMAGE)
    assert (
        notes_of(data)
        == f"alpha was not applied: {GREY.size:,} of {GREY.size:,} pixels are transparent, at least in part"
    )


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressed_strips_of_a_tiff_are_read_whole_or_refused(compression):
    """Kind: a damaged picture is an error, never half a picture; OpenCV ignores what libtiff reports."""
    image = np.tile(IMAGE, (40, 20, 1))  # several strips
    data = encoded(image, "TIFF", compression=compression)
    tags, _ = tiff._read_tags(data, tiff._first_directory(data))
    start, size = tags[tiff.Tag.STRIP_OFFSETS][1], tags[tiff.Tag.STRIP_BYTES][1]
    shortened = data.replace(struct.pack("<I", size), struct.pack("<I", size // 2))

    assert np.array_equal(rgb_of(data), image)
    assert "cut off" in refusal_of(shortened) or "damaged" in refusal_of(shortened)
    zeros = data[: start + 9] + bytes(size - 9) + data[start + size :]
    assert "damaged" in refusal_of(zeros) or "cut off" in refusal_of(zeros)


def test_depths_that_differ_are_refused_with_their_numbers():
    assert "5, 6, 5 bits" in refusal_of(tiff_of(IMAGE, 8, 2, tags={258: ("H", [5, 6, 5])}))


# --- pages and frames ------------------------------------------------------------------------------------------------


def test_the_first_page_of_a_tiff_is_noted_and_thumbnails_are_no_pages():
    def page(*tags):
        return Page(samples_HWC=IMAGE, bits=8, photometric=2, layout=Layout(), tags=dict(tags))

    stack = file_of([page(), page(), page()])
    pyramid = file_of([page(), page((254, ("I", [1]))), page((254, ("I", [4]))), page((255, ("H", [2])))])

    assert notes_of(stack) == "first of 3 pages"
    assert notes_of(pyramid) is None
    assert np.array_equal(rgb_of(stack), IMAGE)


@pytest.mark.parametrize(
    ("kind", "options", "name"),
    [
        ("GIF", {}, "frames"),
        ("WEBP", {"lossless": True}, "frames"),
        ("PNG", {}, "frames"),
        ("AVIF", {}, "frames"),
        ("MPO", {}, "pictures"),
    ],
)
def test_the_first_of_several_frames_is_noted(kind, options, name):
    """Kind: files of several pictures, of which the first one is scored."""
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())
    data = encoded(first, kind, save_all=True, append_images=[second, first], **options)

    assert notes_of(data) == f"first of 3 {name}"
    assert notes_of(encoded(first, kind, **options)) is None
    pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.abs(rgb_of(data).astype(int) - pillow).mean() < 1


def test_the_image_that_stays_where_an_apng_does_not_move_counts_as_a_frame():
    first, second = Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1].copy())
    data = encoded(first, "PNG", save_all=True, append_images=[second], default_image=True)

    assert notes_of(data) == "first of 2 frames"
    assert np.array_equal(rgb_of(data), IMAGE)


def test_radiance_in_another_order_of_rows_is_refused_by_that_name():
    data = opencv(IMAGE.astype(np.float32) / 255, ".hdr")

    assert "(-Y +X)" in refusal_of(data.replace(b"-Y ", b"+Y "))


def test_a_map_of_brightness_is_no_second_picture():
    """Photos of newer phones carry one for HDR displays, in the form of a Multi-Picture file."""
    data = encoded(IMAGE, "MPO", save_all=True, append_images=[Image.fromarray(IMAGE)])
    xmp = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description hdrgm:Version="1.0"/>'

    assert notes_of(data) == "first of 2 pictures"
    assert notes_of(jpeg_with(data, jpeg_segment(0xE1, xmp))) is None


@pytest.mark.parametrize(
    "head",
    [b"", jpeg_segment(0xFE, b"a camera"), jpeg_segment(0xE1, b"Exif\0\0" + exif_with(1).tobytes()[6:])],
    ids=["JFIF", "comment", "EXIF"],
)
def test_the_first_picture_of_a_raw_mjpeg_stream_is_noted(head):
    """JPEG after JPEG, as network cameras stream them, is a file that begins like a picture."""
    frames = [jpeg_with(encoded(IMAGE[number:], "JPEG"), head) for number in range(3)]

    assert notes_of(b"".join(frames)) == "first of 3 pictures"
    assert notes_of(frames[0] + bytes(64)) is None
    assert np.array_equal(
        images.decode_bgr(b"".join(frames), honour_exif=True), images.decode_bgr(frames[0], honour_exif=True)
    )


def test_the_first_of_several_netpbm_images_is_noted():
    one = b"P5\n2 1\n255\n\x00\xff"

    assert notes_of(one + one) == "first of several images"
    assert notes_of(one) is None


# --- BMP -------------------------------------------------------------------------------------------------------------


def bmp_of(words, bits, masks, header_bytes=40, *, compression=3):
    rows = words.astype(f"<u{bits // 8}")[::-1].tobytes()
    fields = struct.pack(f"<{len(masks)}I", *masks)
    begin = 14 + max(header_bytes, 40 + len(fields) if header_bytes == 40 else 0)
    head = struct.pack(
        "<IiiHHIIiiII", header_bytes, words.shape[1], len(words), 1, bits, compression, len(rows), 0, 0, 0, 0
    )
    return (b"BM" + struct.pack("<IHHI", begin + len(rows), 0, 0, begin) + head + fields).ljust(begin, b"\0") + rows


@pytest.mark.parametrize("header_bytes", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("order", [(0, 8, 16), (16, 8, 0), (8, 16, 24), (24, 0, 8)])
def test_bit_fields_of_a_bmp_are_read_in_their_order(order, header_bytes):
    """Kind: the masks of the header say where red is. Red and blue were swapped."""
    words = sum(IMAGE[..., k].astype(np.uint32) << np.uint32(order[k]) for k in range(3))
    masks = [0xFF << shift for shift in order]

    assert np.array_equal(rgb_of(bmp_of(words, 32, masks, header_bytes)), IMAGE)


@pytest.mark.parametrize(("bits", "masks"), [(16, (0xF800, 0x7E0, 0x1F)), (16, (0x1F, 0x3E0, 0x7C00)), (16, ())])
def test_white_of_16_bits_is_white(bits, masks):
    """Kind: five bits are stretched, not shifted; white was 248."""
    words = np.full((2, 2), sum(masks) if masks else 0x7FFF)

    assert rgb_of(bmp_of(words, bits, masks, compression=3 if masks else 0)).min() == 255


@pytest.mark.parametrize("masks", [(0, 0, 0), (0xF0F0, 0xF00, 0xF), (0xFF, 0xFF, 0xFF00), (0xFF0000, 0xFF00, 0xFF)])
def test_bit_fields_that_make_no_sense_are_refused(masks):
    assert "bit fields" in refusal_of(bmp_of(np.zeros((2, 2)), 16, masks))


# --- alpha -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG2000", "AVIF"])
def test_colours_under_transparent_pixels_are_those_of_the_file(kind):
    """Kind: other colours under full transparency are scored as they are stored, and noted."""
    alpha = np.where(np.indices(GREY.shape)[1] < 4, 0, 255).astype(np.uint8)
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG2000": {"irreversible": False}, "AVIF": {"quality": 100}}
    data = encoded(np.dstack([IMAGE, alpha]), kind, **options.get(kind, {}))

    assert np.abs(rgb_of(data).astype(int) - IMAGE).mean() < (6 if kind == "AVIF" else 0.01)
    assert (
        notes_of(data) == f"{ALPHA}: {(alpha == 0).sum():,} of {alpha.size:,} pixels are transparent, at least in part"
    )
    assert notes_of(encoded(np.dstack([IMAGE, np.full_like(GREY, 255)]), kind, **options.get(kind, {}))) is None


def test_transparent_pixels_of_a_gif_have_the_colour_of_its_palette():
    """OpenCV shows another colour there."""
    image = Image.fromarray(IMAGE).quantize(40)
    index = int(np.asarray(image)[0, 0])
    data = encoded(image, "GIF", transparency=index)

    assert np.array_equal(rgb_of(data), np.asarray(image.convert("RGB")))
    assert notes_of(data).startswith(ALPHA)


def test_a_gif_with_transparency_that_is_cut_off_is_refused():
    data = encoded(Image.fromarray(IMAGE).quantize(40), "GIF", transparency=1)

    assert "gif cannot be decoded: it is cut off" in refusal_of(data[: len(data) // 2])


def test_grey_avif_with_alpha_is_read():
    """OpenCV does not read it."""
    data = encoded(np.dstack([IMAGE, GREY]), "AVIF", subsampling="4:0:0")

    assert np.array_equal(rgb_of(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


# --- JPEG 2000 -------------------------------------------------------------------------------------------------------


def test_luma_and_chroma_of_jpeg_2000_are_not_taken_for_rgb():
    """OpenCV converts sYCC with another range than the file declares."""
    data = encoded(Image.fromarray(IMAGE).convert("YCbCr"), "JPEG2000", irreversible=False)

    assert np.abs(rgb_of(data).astype(int) - IMAGE).mean() < 2


def test_signed_components_of_jpeg_2000_are_refused_by_name():
    assert "components are signed" in refusal_of(encoded(IMAGE, "JPEG2000", irreversible=False, signed=True))
