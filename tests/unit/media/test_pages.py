"""The pages of a TIFF, each decoded as if it were a file of its own, against Pillow."""

# H×W pixels, C channels (red, green, blue)

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fsf_core.errors import DecodeError, LimitError
from fsf_core.media import images
from fsf_core.media.images import tiff
from tests.shapes.tiff_file import Layout, Page, file_of
from tests.support.assets import opencv, pillow

RANDOM = np.random.default_rng(5)
SIZES = [(40, 60), (33, 17), (64, 64), (1, 5)]
PICTURES = [RANDOM.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def pages_of(data):
    listed = images.read_pages(data)
    assert listed.error is None
    return [images.decode_page(data, page, honour_exif=True).image_HWC[..., ::-1] for page in listed.pages]


def by_pillow(pictures, **options):
    first, *others = map(Image.fromarray, pictures)
    return pillow(first, "TIFF", save_all=True, append_images=others, **options)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"big_tiff": True}])
def test_pages_of_all_sizes_are_those_that_pillow_reads(options):
    data = by_pillow(PICTURES, **options)
    opened = Image.open(io.BytesIO(data))

    found = pages_of(data)

    assert len(found) == len(PICTURES)
    for page_HWC, frame in zip(found, ImageSequence.Iterator(opened), strict=True):
        assert np.array_equal(page_HWC, np.asarray(frame.convert("RGB")))


@pytest.mark.parametrize("compression", ["jpeg", "group4"])
def test_pages_that_opencv_decodes_are_those_of_their_own_files(compression):
    """OpenCV decodes the first page of a file: each page is given to it as a file of its own."""
    mode = "1" if compression == "group4" else "RGB"
    pictures = [np.asarray(Image.fromarray(each).convert(mode)) for each in PICTURES[:3]]
    alone = [pages_of(by_pillow([each], compression=compression))[0] for each in pictures]

    together = pages_of(by_pillow(pictures, compression=compression))

    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_thumbnails_and_masks_are_no_pages():
    kinds = [{}, {254: ("I", [1])}, {254: ("I", [4])}, {255: ("H", [2])}, {254: ("I", [2])}]
    pages = [
        Page(samples_HWC=PICTURES[k % 4], bits=8, photometric=2, layout=Layout(), tags=tags)
        for k, tags in enumerate(kinds)
    ]

    found = pages_of(file_of(pages))

    assert [page.shape[:2] for page in found] == [SIZES[0], SIZES[0]]


def test_each_page_has_its_own_orientation_and_notes():
    tags = [{274: ("H", [6])}, {274: ("H", [1]), 338: ("H", [2])}]
    samples = [PICTURES[0], np.dstack([PICTURES[1], np.zeros(SIZES[1], np.uint8)])]
    pages = [
        Page(samples_HWC=each, bits=8, photometric=2, layout=Layout(), tags=of)
        for each, of in zip(samples, tags, strict=True)
    ]
    data = file_of(pages)
    first, second = (images.decode_page(data, page, honour_exif=True) for page in images.read_pages(data).pages)

    assert first.image_HWC.shape == (60, 40, 3)
    assert first.notes is None
    assert "transparent" in second.notes


def test_limits_hold_for_each_page():
    data = by_pillow(PICTURES)
    small, large = images.read_pages(data).pages[1], images.read_pages(data).pages[2]
    limits = images.ImageLimits(max_pixels=40 * 60)

    assert images.decode_page(data, small, honour_exif=True, limits=limits).image_HWC.shape == (33, 17, 3)
    with pytest.raises(LimitError, match="64x64"):
        images.decode_page(data, large, honour_exif=True, limits=limits)


def test_a_chain_of_pages_that_breaks_ends_with_the_reason_after_the_pages_before():
    data = bytearray(by_pillow(PICTURES))
    second = images.read_pages(bytes(data)).pages[1].at
    entries = struct.unpack_from("<H", data, second)[0]
    link_at = second + 2 + 12 * entries
    for target, reason in ((len(data) + 100, "outside the file"), (second, "circle")):
        struct.pack_into("<I", data, link_at, target)
        listed = images.read_pages(bytes(data))
        assert len(listed.pages) == 2
        assert isinstance(listed.error, DecodeError)
        assert reason in str(listed.error)


def test_more_pages_than_the_limit_are_refused_after_it(monkeypatch):
    monkeypatch.setattr(tiff, "_MAX_PAGES", 2)
    listed = images.read_pages(by_pillow(PICTURES))

    assert len(listed.pages) == 2
    assert isinstance(listed.error, LimitError)


def test_a_damaged_page_leaves_the_others():
    data = by_pillow(PICTURES[:3], compression="tiff_adobe_deflate")
    page = images.read_pages(data).pages[1]
    tags, _ = tiff._read_tags(data, page.at)
    offset, size = tags[tiff.Tag.STRIP_OFFSETS][0], tags[tiff.Tag.STRIP_BYTES][0]
    damaged = data[: offset + size // 2] + bytes(size // 2) + data[offset + size // 2 * 2 :]
    first, second, third = images.read_pages(damaged).pages

    for good in (first, third):
        images.decode_page(damaged, good, honour_exif=True)
    with pytest.raises(DecodeError):
        images.decode_page(damaged, second, honour_exif=True)


def test_a_file_of_another_format_has_one_page():
    listed = images.read_pages(opencv(PICTURES[0], ".png"))

    assert [(page.height_px, page.width_px) for page in listed.pages] == [SIZES[0]]
