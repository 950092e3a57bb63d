"""Images: OpenCV's pixels where a file is intact and OpenCV is right, an error with a reason where it is not.

What OpenCV gets wrong is in test_image_shapes.py, against Pillow and the formats' definitions.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fsf_core.errors import DecodeError, ItemError, LimitError
from fsf_core.media import images
from fsf_core.media.images import tiff_samples
from tests.support import assets

GOOD = assets.good_images()
BROKEN = assets.broken_files()
REPOSITORY = Path(__file__).parents[3]


ROUNDED = {"tiff/16 bit rgb.tif", "pnm/16 bit.ppm"}
"""Images of 16 bits where OpenCV rounds and this project cuts, or the other way round."""


def opencv_pixels(data: bytes, *, honour_exif: bool = True):
    flags = cv2.IMREAD_COLOR if honour_exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if data.startswith(b"P7"):  # OpenCV takes RGB for BGR
        return image_HWC[..., ::-1]
    if data == GOOD["exif/orientation 6.avif"] and honour_exif:  # OpenCV never turns AVIF, and always TIFF
        return cv2.rotate(image_HWC, cv2.ROTATE_90_CLOCKWISE)
    if data == GOOD["exif/orientation 6.tiff"] and not honour_exif:
        return cv2.rotate(image_HWC, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return image_HWC


@pytest.mark.parametrize("honour_exif", [True, False], ids=["EXIF orientation applied", "as stored"])
@pytest.mark.parametrize("name", GOOD)
def test_good_images_have_the_pixels_of_opencv(name, honour_exif):
    image_HWC = images.decode_bgr(GOOD[name], honour_exif=honour_exif)

    expected_HWC = opencv_pixels(GOOD[name], honour_exif=honour_exif)
    np.testing.assert_allclose(image_HWC, expected_HWC, atol=name in ROUNDED)
    assert image_HWC.dtype == np.uint8
    assert image_HWC.flags.c_contiguous


@pytest.mark.parametrize("name", GOOD)
def test_the_header_gives_format_and_stored_size(name):
    header = images.read_header(GOOD[name])

    seen_px = opencv_pixels(GOOD[name], honour_exif=False).shape[:2]
    assert (header.height_px, header.width_px) == seen_px
    assert header.format == images.sniff(GOOD[name][:64])


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_raise_an_error_with_the_reason(name):
    broken = BROKEN[name]

    with pytest.raises(ItemError) as caught:
        images.decode_bgr(broken.data, honour_exif=True)

    assert type(caught.value) is broken.error
    assert broken.message in str(caught.value)


def test_all_eight_exif_orientations_are_applied():
    seen = [images.decode_bgr(GOOD[f"exif/orientation {n}.jpg"], honour_exif=True) for n in range(1, 9)]

    stored = (assets.HEIGHT_PX, assets.WIDTH_PX, 3)
    assert [image.shape == stored for image in seen] == [True] * 4 + [False] * 4
    assert len({image.tobytes() for image in seen}) == 8


def test_16_bit_images_lose_their_low_byte():
    deep_HW = np.array([[0x12FF, 0xFF00], [0x00FF, 0x8000]], np.uint16)

    image_HWC = images.decode_bgr(assets.opencv(deep_HW, ".png"), honour_exif=True)

    assert image_HWC[..., 0].tolist() == [[0x12, 0xFF], [0x00, 0x80]]


def test_unknown_bytes_are_refused_with_what_is_read():
    with pytest.raises(DecodeError, match=r"found unknown bytes \(3001 bytes\), not an image or a video that is read "
                       r"\(JPEG, .*; MP4, .*\); replace the file or remove it from the manifest"):  # fmt: skip
        images.decode_bgr(BROKEN["noise.jpg"].data, honour_exif=True)
    with pytest.raises(DecodeError, match=r"found text .*, not an image or a video; replace the file"):
        images.decode_bgr(b"hello, this is a text", honour_exif=True)


def test_the_format_is_detected_by_content_not_by_name():
    assert images.sniff(GOOD["names/png inside.jpg"]) == "png"
    assert images.sniff(GOOD["names/jpeg inside.png"]) == "jpeg"
    assert images.sniff(BROKEN["text.jpg"].data) is None


@pytest.mark.parametrize("name", [name for name in GOOD if not name.startswith(("names/", "sizes/3 mega"))])
def test_64_bytes_are_enough_to_detect_the_format(name):
    assert images.sniff(GOOD[name][:64]) == images.sniff(GOOD[name])


@pytest.mark.parametrize("name", ["jpeg/420.jpg", "jpeg/progressive.jpg", "jpeg/cmyk.jpg", "jpeg/restart markers.jpg"])
def test_a_jpeg_truncated_anywhere_is_an_error(name):
    # A decoder fills what is missing with grey; half an orange would be counted as a small one.
    data = GOOD[name]

    for end in [*range(0, len(data), 97), len(data) - 1]:
        with pytest.raises(DecodeError):
            images.decode_bgr(data[:end], honour_exif=True)


@pytest.mark.parametrize("name", ["png/rgb.png", "png/interlaced.png", "png/palette.png"])
def test_a_png_truncated_anywhere_is_an_error(name):
    data = GOOD[name]

    for end in [*range(0, len(data), 211), len(data) - 1]:
        with pytest.raises(DecodeError):
            images.decode_bgr(data[:end], honour_exif=True)


def test_a_png_with_a_flipped_bit_is_an_error():
    data = GOOD["png/rgb.png"]

    for at in range(8, len(data), 173):
        with pytest.raises(ItemError):
            images.decode_bgr(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :], honour_exif=True)


def test_opencv_alone_accepts_damaged_jpeg_and_tiff():
    # The reason for our own checks before OpenCV decodes; when this fails, one of them can be removed.
    for name in ("jpeg damaged scan.jpg", "tiff deflate damaged.tif"):
        assert opencv_pixels(BROKEN[name].data) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the process from /proc")
def test_decompression_bombs_are_refused_without_allocating_memory():
    # A process that may grow by 100 MB; decoding any of these takes 400 MB or more.
    program = f"""
import os, resource
from fsf_core.media import images
from fsf_core.errors import LimitError
from tests.support import assets
bombs = [broken.data for broken in assets.broken_files().values() if broken.error is LimitError]
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * os.sysconf("SC_PAGE_SIZE") + {100 << 20}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for data in bombs:
    try:
        images.decode_bgr(data, honour_exif=True)
    except LimitError:
        continue
    raise SystemExit("a bomb was decoded")
print(len(bombs))
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (images.ImageLimits(max_pixels=90 * 120 - 1), "10,800 in all; the limit is 10,799"),
        (images.ImageLimits(max_side_px=119), "the limit of a side is 119"),
        (images.ImageLimits(max_bytes=100), "the limit is 100"),
    ],
)
def test_limits_are_enforced_and_named(limits, message):
    with pytest.raises(LimitError, match=message):
        images.decode_bgr(GOOD["png/rgb.png"], honour_exif=True, limits=limits)


def test_an_image_exactly_at_the_limits_is_decoded():
    data = GOOD["png/rgb.png"]
    limits = images.ImageLimits(max_pixels=90 * 120, max_side_px=120, max_bytes=len(data))

    assert images.decode_bgr(data, honour_exif=True, limits=limits).shape == (90, 120, 3)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        images.ImageLimits(max_pixels=0)


def test_a_limit_set_in_opencvs_environment_is_named():
    program = """
import numpy as np
from fsf_core.media import images
from fsf_core.errors import LimitError
from tests.support import assets
try:
    images.decode_bgr(assets.pillow(np.zeros((40, 40, 3), np.uint8), "PNG"), honour_exif=True)
except LimitError as error:
    print(error)
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"OPENCV_IO_MAX_IMAGE_PIXELS": "100", "PATH": "/usr/bin:/bin"},
        check=False,
    )

    assert "unset OPENCV_IO_MAX_IMAGE_PIXELS" in done.stdout, done.stderr


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_large_strips_of_a_tiff_are_read_whatever_pillow_takes_for_a_bomb(compression, monkeypatch):
    """60 megapixels in one strip are within the limits here, and beyond Pillow's, which counts their bytes."""
    picture_HWC = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    data = assets.pillow(picture_HWC, "TIFF", compression=compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    assert np.array_equal(images.decode_bgr(data, honour_exif=True)[..., ::-1], picture_HWC)


def test_a_strip_of_a_tiff_that_would_fill_the_memory_is_refused_before_it_is_read(monkeypatch):
    data = assets.pillow(np.zeros((30, 40, 3), np.uint8), "TIFF", compression="tiff_lzw")
    monkeypatch.setattr(tiff_samples, "_LARGEST_BYTES", 3599)

    with pytest.raises(LimitError, match="3,600 bytes, expected at most 3,599"):
        images.decode_bgr(data, honour_exif=True)


def test_errors_are_not_also_printed(capfd):
    # These two PNGs have correct checksums, so libpng is the first to notice, and it always prints.
    loud = {"png half its rows.png", "png unknown filter.png"}

    for name, broken in BROKEN.items():
        if name not in loud:
            with pytest.raises(ItemError):
                images.decode_bgr(broken.data, honour_exif=True)

    assert capfd.readouterr() == ("", "")


def test_fuzzed_files_give_opencvs_pixels_or_an_item_error():
    outcomes = {"pixels": 0, "error": 0}

    for damaged in assets.damaged_files(seed=1, count=400):
        try:
            image_HWC = images.decode_bgr(damaged.data, honour_exif=True)
        except ItemError:
            outcomes["error"] += 1
        else:
            outcomes["pixels"] += 1
            levels = damaged.name.endswith((".ppm", ".tif"))  # of 16 bits, as in ROUNDED
            np.testing.assert_allclose(image_HWC, opencv_pixels(damaged.data), atol=levels, err_msg=damaged.name)

    assert min(outcomes.values()) > 50, outcomes


def test_decoding_is_thread_safe():
    # A truncated and an intact image alternate: a message or a pixel from another thread would show.
    cut, whole = BROKEN["jpeg cut in half.jpg"].data, GOOD["jpeg/420.jpg"]
    expected_HWC = opencv_pixels(whole)

    def decode_both(_):
        with pytest.raises(DecodeError, match="Premature end"):
            images.decode_bgr(cut, honour_exif=True)
        return np.array_equal(images.decode_bgr(whole, honour_exif=True), expected_HWC)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(decode_both, range(200)))


def test_fuzzed_files_are_reproducible(tmp_path):
    first = assets.write_damaged(tmp_path / "a", seed=3, count=30)
    second = assets.write_damaged(tmp_path / "b", seed=3, count=30)

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert (tmp_path / "a" / "damage.jsonl").read_text() == (tmp_path / "b" / "damage.jsonl").read_text()


def test_all_files_can_be_written_under_their_names(tmp_path):
    good, broken = assets.write_good(tmp_path / "good"), assets.write_broken(tmp_path / "broken")

    assert [path.relative_to(tmp_path / "good").as_posix() for path in good] == sorted(GOOD)
    assert len(broken) >= len(BROKEN) + 3
    assert all(path.exists() or path.is_symlink() for path in broken)
