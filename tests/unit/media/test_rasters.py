"""Images by windows against the same images decoded whole, and against tifffile, Pillow and rasterio."""

# H×W pixels, C channels (blue, green, red)

import io
import itertools

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio import shutil
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from fsf_core import storage
from fsf_core.errors import DecodeError, FSFError, LimitError
from fsf_core.media import images, rasters
from fsf_core.media.rasters import mask_tiff, tiff_windows
from fsf_core.storage import usage
from tests.shapes.tiff_file import Layout, Page, file_of
from tests.support.assets import broken_files, good_images, tiff_tagged
from tests.support.bucket import bucket_of

RANDOM = np.random.default_rng(3)
HEIGHT, WIDTH = 75, 101
IMAGE = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
SMOOTH = np.stack(
    [np.add.outer(np.arange(HEIGHT) * k, np.arange(WIDTH) * 2).astype(np.uint8) for k in (1, 2, 3)], axis=-1
)
WINDOWS = [(0, 0, HEIGHT, WIDTH), (0, 0, 1, 1), (HEIGHT - 1, WIDTH - 1, 1, 1), (13, 0, 40, WIDTH), (30, 29, 21, 37)]
LIMITS = images.ImageLimits()


def opened(data, **more):
    return rasters.open_raster(io.BytesIO(data), honour_exif=True, limits=LIMITS, **more)


def assert_as_whole(data):
    """Compare windows, and the notes after all was read, with the image decoded whole."""
    whole = images.decode_image(data, honour_exif=True)
    raster = opened(data)
    height, width = whole.image_HWC.shape[:2]
    assert (raster.height_px, raster.width_px) == (height, width)
    for window in WINDOWS:
        top, left = min(window[0], height - 1), min(window[1], width - 1)
        rows, columns = min(window[2], height - top), min(window[3], width - left)
        window_HWC = raster.read(top, left, rows, columns)
        assert window_HWC.flags.c_contiguous
        assert np.array_equal(window_HWC, whole.image_HWC[top : top + rows, left : left + columns])
    raster.read(0, 0, height, width)
    assert ("; ".join(raster.notes) or None) == whole.notes


LAYOUTS = [
    Layout(**kinds, **shape)
    for shape in ({}, {"strip_rows": 7}, {"tile_px": 16}, {"tile_px": 128})
    for kinds in (
        {}, {"planar": True}, {"deflate": True}, {"deflate": True, "predictor": True, "order": ">"},
        {"planar": True, "deflate": True, "big": True},
    )
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("bits", [8, 16])
def test_windows_are_those_of_the_whole_image_in_every_layout(layout, bits):
    samples = IMAGE.astype(np.uint16) * 257 if bits == 16 else IMAGE

    assert_as_whole(file_of([Page(samples_HWC=samples, bits=bits, photometric=2, layout=layout)]))


@pytest.mark.parametrize("layout", [Layout(strip_rows=7), Layout(tile_px=32), Layout(deflate=True)], ids=str)
@pytest.mark.parametrize(
    ("bits", "photometric", "bands", "tags"),
    [
        (1, 0, 1, {}), (1, 1, 1, {}), (4, 1, 1, {}), (12, 1, 1, {}), (8, 0, 1, {}), (16, 0, 1, {}),
        (8, 5, 4, {}), (16, 5, 4, {}), (8, 2, 4, {338: ("H", [2])}), (16, 2, 4, {338: ("H", [1])}),
        (8, 2, 6, {338: ("H", [0, 0, 0])}), (8, 1, 2, {338: ("H", [2])}),
        (4, 3, 1, {320: ("H", [*range(0, 48 * 1000, 1000)])}), (8, 3, 1, {320: ("H", [*range(0, 768 * 80, 80)])}),
        (16, 1, 1, {281: ("H", [4095])}), (8, 2, 3, {274: ("H", [6])}),
    ],
)  # fmt: skip
def test_windows_are_those_of_the_whole_image_in_every_kind(layout, bits, photometric, bands, tags):
    samples = RANDOM.integers(0, 1 << bits, (HEIGHT, WIDTH, bands), np.uint16)
    samples = np.minimum(samples, 4095) if 281 in tags else samples

    assert_as_whole(file_of([Page(samples_HWC=samples, bits=bits, photometric=photometric, layout=layout, tags=tags)]))


TIFFS = {name: data for name, data in good_images().items() if images.sniff(data[:64]) == "tiff"}


@pytest.mark.parametrize("name", TIFFS)
def test_windows_are_those_of_the_whole_image_in_the_gallery(name):
    assert_as_whole(TIFFS[name])


def by_gdal(image_HWC, **options):
    """Return an image as GDAL writes it; options as of its GTiff driver."""
    height, width, count = image_HWC.shape
    tagged = {name: options.pop(name) for name in ("crs", "transform", "gcps", "nodata") if name in options}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, dtype=image_HWC.dtype, **tagged, **options
        ) as file:
            file.write(np.moveaxis(image_HWC, -1, 0))
        return bytes(memory.getbuffer())


@pytest.mark.parametrize("shape", [{}, {"blockysize": 16}, {"tiled": True, "blockxsize": 32, "blockysize": 48}])
@pytest.mark.parametrize(
    "options",
    [
        {"compress": "lzw", "predictor": 2}, {"compress": "packbits"}, {"compress": "deflate"},
        {"compress": "deflate", "interleave": "band"}, {"compress": "jpeg", "photometric": "ycbcr"},
        {"compress": "jpeg"}, {"compress": "jpeg", "interleave": "band"}, {"bigtiff": "yes", "endianness": "big"},
    ],
)  # fmt: skip
def test_windows_are_those_of_the_whole_image_in_every_file_of_gdal(shape, options):
    assert_as_whole(by_gdal(SMOOTH, **shape, **options))


def test_windows_of_fax_codes_and_of_grey_jpeg_are_those_of_the_whole_image():
    for code in ("ccittrle", "ccittfax3", "ccittfax4"):
        assert_as_whole(by_gdal((IMAGE[..., :1] >> 7), compress=code, nbits=1, blockysize=8))
    assert_as_whole(by_gdal(SMOOTH[..., :1], compress="jpeg", tiled=True, blockxsize=32, blockysize=32))


# --- independent references ---


def test_windows_are_those_that_rasterio_reads():
    data = by_gdal(IMAGE, compress="deflate", tiled=True, blockxsize=32, blockysize=32)
    raster = opened(data)
    with MemoryFile(data) as memory, memory.open() as file:
        expected = file.read(window=((20, 60), (40, 99)))

    assert np.array_equal(raster.read(20, 40, 40, 59)[..., ::-1], np.moveaxis(expected, 0, -1))


# --- damage and limits ---


@pytest.mark.parametrize("shape", [{"blockysize": 8}, {"tiled": True, "blockxsize": 32, "blockysize": 32}])
@pytest.mark.parametrize("compress", ["none", "lzw", "packbits", "deflate", "jpeg"])
def test_a_file_that_ends_early_is_an_error_and_the_rows_before_are_not(shape, compress):
    data = by_gdal(IMAGE, compress=compress, **shape)
    raster = opened(data[: len(data) * 3 // 4])

    assert np.array_equal(raster.read(0, 0, 8, WIDTH), opened(data).read(0, 0, 8, WIDTH))
    with pytest.raises(DecodeError):
        raster.read(0, 0, HEIGHT, WIDTH)


@pytest.mark.parametrize("shape", [{"blockysize": 8}, {"tiled": True, "blockxsize": 32, "blockysize": 32}])
@pytest.mark.parametrize("compress", ["none", "lzw", "packbits", "deflate", "jpeg"])
@pytest.mark.parametrize("lost_bytes", [1, 40])
def test_what_a_strip_or_tile_lacks_is_not_made_up(shape, compress, lost_bytes):
    whole = by_gdal(IMAGE, compress=compress, **shape)
    [page] = images.read_pages(whole).pages
    expected = images.decode_image(whole, honour_exif=True).image_HWC
    for decode in (
        lambda data: opened(data).read(0, 0, HEIGHT, WIDTH),
        lambda data: images.decode_page(data, page, honour_exif=True).image_HWC,
    ):
        try:
            found = decode(whole[:-lost_bytes])
        except DecodeError:
            continue
        assert lost_bytes == 1, "the mark of the end"
        assert np.array_equal(found, expected)


def test_what_a_directory_holds_for_other_programs_is_not_read(monkeypatch):
    layers = {37724: ("B", [0] * 2000)}  # of Photoshop, often larger than the picture
    data = file_of([Page(samples_HWC=IMAGE, bits=8, photometric=2, layout=Layout(tile_px=32), tags=layers)])
    monkeypatch.setattr(tiff_windows, "MAX_DIRECTORY_BYTES", 1000)

    assert_as_whole(data)


def _opens_and_reads(data):
    try:
        raster = opened(data)
        return raster.read(0, 0, raster.height_px, raster.width_px)
    except FSFError as error:
        return type(error)


@pytest.mark.parametrize("name", [name for name in broken_files() if "tif" in name])
def test_broken_files_are_refused_by_windows_too(name):
    outcome = _opens_and_reads(broken_files()[name].data)

    assert outcome in (DecodeError, LimitError)


@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_a_compression_that_nothing_here_reads_is_named_as_for_the_whole_image(tile):
    file = io.BytesIO()
    tifffile.imwrite(file, SMOOTH, photometric="rgb", tile=tile, compression="adobe_deflate")
    lerc = tiff_tagged(file.getvalue(), 259, 34887)
    with pytest.raises(DecodeError) as whole:
        images.decode_image(lerc, honour_exif=True)
    with pytest.raises(DecodeError, match=r"PhotometricInterpretation 2, Compression 34887\)") as by_windows:
        opened(lerc).read(0, 0, 1, 1)
    assert str(by_windows.value) == str(whole.value)


def test_damaged_bytes_give_an_error_or_the_pixels_of_the_whole_image():
    for shape, compress in itertools.product(
        ({}, {"tiled": True, "blockxsize": 32, "blockysize": 32}), ("lzw", "jpeg")
    ):
        data = by_gdal(SMOOTH, compress=compress, **shape)
        for _ in range(60):
            at = int(RANDOM.integers(8, len(data)))
            changed = data[:at] + bytes([int(RANDOM.integers(256))]) + data[at + 1 :]
            by_windows = _opens_and_reads(changed)
            try:
                whole = images.decode_image(changed, honour_exif=True).image_HWC
            except FSFError:
                continue  # windows may know less of what is wrong elsewhere in the file
            assert isinstance(by_windows, type) or np.array_equal(by_windows, whole)


def test_what_takes_too_much_memory_is_refused_before_it_is_read(monkeypatch):
    plain = by_gdal(IMAGE, compress="deflate", blockysize=HEIGHT)
    tall = tiff_tagged(tiff_tagged(plain, 257, 1 << 28), 278, 1 << 28)

    with pytest.raises(LimitError, match="limit of what is read by windows"):
        opened(tall)
    with pytest.raises(LimitError, match="strips of 101x268435456 pixels"):
        opened(tall, max_pixels=1 << 62)
    monkeypatch.setattr(tiff_windows, "MAX_DIRECTORY_BYTES", 64)
    with pytest.raises(LimitError, match="places in a directory"):
        opened(by_gdal(IMAGE, blockysize=1))


def test_a_large_tiff_that_is_decoded_whole_is_refused_with_the_way_that_scores_it():
    with pytest.raises(LimitError, match="score it in windows with --tile"):
        images.decode_image(by_gdal(IMAGE), honour_exif=True, limits=images.ImageLimits(max_pixels=1000))


def test_what_must_be_decoded_whole_is_refused_above_the_limits_with_the_reason():
    declares_white = Page(
        samples_HWC=IMAGE[..., :1], bits=8, photometric=1, layout=Layout(tile_px=16), tags={281: ("H", [254])}
    )

    with pytest.raises(LimitError, match=r"MaxSampleValue.*101x75 pixels, the limit is 1,000"):
        rasters.open_raster(
            io.BytesIO(file_of([declares_white])), honour_exif=True, limits=images.ImageLimits(max_pixels=1000)
        )


def test_what_is_stored_in_one_large_strip_is_decoded_whole_within_the_limits(monkeypatch):
    """As without windows; many writers compress an image as one strip."""
    data = by_gdal(IMAGE, compress="deflate", blockysize=HEIGHT)
    monkeypatch.setattr(tiff_windows, "MAX_BLOCK_BYTES", IMAGE.nbytes - 1)

    assert_as_whole(data)
    for limits in (images.ImageLimits(max_pixels=HEIGHT * WIDTH - 1), images.ImageLimits(max_bytes=len(data) - 1)):
        with pytest.raises(LimitError, match=f"strips of {WIDTH}x{HEIGHT} pixels"):
            rasters.open_raster(io.BytesIO(data), honour_exif=True, limits=limits)


def test_an_uncompressed_strip_of_the_whole_image_is_read_in_parts():
    data = file_of([Page(samples_HWC=IMAGE, bits=8, photometric=2, layout=Layout())])
    file = _Counting(data)
    raster = rasters.open_raster(file, honour_exif=True, limits=LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff_windows, "_LINE_STEP_BYTES", 4 * WIDTH * 3)
        raster = rasters.open_raster(file, honour_exif=True, limits=LIMITS)
    file.count = 0

    assert np.array_equal(raster.read(40, 0, 8, WIDTH)[..., ::-1], IMAGE[40:48])
    assert file.count == 8 * WIDTH * 3


class _Counting(io.BytesIO):
    """Counts the bytes that are read, and notes where."""

    def __init__(self, data):
        super().__init__(data)
        self.count, self.places = 0, []

    def read(self, size=-1):
        self.places.append(self.tell())
        data = super().read(size)
        self.count += len(data)
        return data


def test_only_tiles_are_read_after_the_directory():
    """Kind: seeks of a remote file. Each one drops what the store has read ahead."""
    data = by_gdal(SMOOTH, tiled=True, blockxsize=16, blockysize=16, compress="jpeg", photometric="ycbcr")
    file = _Counting(data)
    raster = rasters.open_raster(file, honour_exif=True, limits=LIMITS)
    file.places.clear()
    raster.read(0, 0, 16, WIDTH)
    raster.read(16, 0, HEIGHT - 16, WIDTH)

    assert len(file.places) == 2


def test_a_window_reads_only_its_tiles_and_none_twice():
    data = by_gdal(IMAGE, tiled=True, blockxsize=16, blockysize=16)
    file = _Counting(data)
    raster = rasters.open_raster(file, honour_exif=True, limits=LIMITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff_windows, "_GAP_BYTES", 0)
        file.count = 0
        raster.read(16, 32, 16, 16)
        assert file.count == 16 * 16 * 3
        raster.read(16, 32, 16, 32)
        assert file.count == 2 * 16 * 16 * 3


def test_a_cloud_optimised_geotiff_is_one_page_without_its_overviews():
    large = by_gdal(np.kron(IMAGE, np.ones((8, 8, 1), np.uint8)), **GROUND)
    with MemoryFile(large) as memory, memory.open() as file, MemoryFile() as written:
        shutil.copy(file, written.name, driver="COG", compress="deflate", blocksize=128, overview_count=2)
        data = bytes(written.getbuffer())
    raster = opened(data)

    assert_as_whole(data)
    assert raster.notes == ()
    assert raster.georeference


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "jpeg"])
def test_tiles_that_a_sparse_file_does_not_hold_are_an_error(compress):
    """Kind: what is not stored is no colour. The header would be read in its place where tiles are uncompressed."""
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=64, width=64, count=3, dtype="uint8", tiled=True, blockxsize=32, blockysize=32,
            compress=compress, sparse_ok=True, photometric="rgb",
        ) as file:  # fmt: skip
            file.write(np.moveaxis(IMAGE[:32, :32], -1, 0), window=((0, 32), (0, 32)))
        data = bytes(memory.getbuffer())

    assert compress == "jpeg" or np.array_equal(opened(data).read(0, 0, 32, 32)[..., ::-1], IMAGE[:32, :32])
    for read in (lambda: opened(data).read(32, 0, 8, 8), lambda: images.decode_image(data, honour_exif=True)):
        with pytest.raises(DecodeError):
            read()


@pytest.fixture
def bucket():
    """A TIFF of 12 MB of noise in a bucket."""
    noise = np.random.default_rng(1).integers(0, 256, (2048, 2048, 3), np.uint8)
    data = file_of([Page(samples_HWC=noise, bits=8, photometric=2, layout=Layout(tile_px=256))])
    with bucket_of({"large.tif": data}) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://bucket/large.tif", noise, len(data)


def test_a_window_of_a_file_in_a_bucket_is_read_by_ranges(bucket):
    """The directory is at the end of the file, the window in the middle; the store reads 4 MiB ahead of each."""
    uri, noise, size = bucket
    usage.take()
    with storage.open_binary(uri) as file:
        raster = rasters.open_raster(file, honour_exif=True, limits=LIMITS)
        found_HWC = raster.read(1030, 0, 40, 2048)
        read_bytes = usage.take()[usage.READ_BYTES]
        raster.read(1030, 0, 40, 2048)

    assert np.array_equal(found_HWC[..., ::-1], noise[1030:1070])
    assert read_bytes < size / 2
    assert usage.take().get(usage.READ_BYTES, 0) == 0


# --- masks ---

PALETTE = RANDOM.integers(0, 256, (300, 3), np.uint8)


def mask_file(mask_HW, *, classes, blocks=(40,), **more):
    file = io.BytesIO()
    height, width = mask_HW.shape
    with rasters.MaskWriter(
        file, height_px=height, width_px=width, num_classes=classes, palette_K3=PALETTE, **more
    ) as writer:
        top = 0
        for rows in itertools.cycle(blocks):
            if top >= height:
                break
            writer.write(top, mask_HW[top : top + rows])
            top += rows
    return file.getvalue()


@pytest.mark.parametrize(("classes", "kind"), [(2, np.uint8), (256, np.uint8), (300, np.uint16)])
@pytest.mark.parametrize("size", [(1, 1), (512, 512), (513, 1030), (700, 90)])
def test_a_mask_opens_in_every_library_with_the_same_classes(classes, kind, size):
    mask_HW = RANDOM.integers(0, classes, size).astype(kind)
    data = mask_file(mask_HW, classes=classes)

    assert np.array_equal(tifffile.imread(io.BytesIO(data)), mask_HW)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), mask_HW)
    with MemoryFile(data) as memory, memory.open() as file:
        assert np.array_equal(file.read(1), mask_HW)
        assert file.block_shapes == [(512, 512)]
        if kind == np.uint8:
            assert file.colormap(1)[1] == (*PALETTE[1].tolist(), 255)
    raster = rasters.read_mask(io.BytesIO(data))
    assert (raster.height_px, raster.width_px) == size
    assert np.array_equal(raster.read(0, 0, *size), mask_HW)
    assert np.array_equal(
        raster.read(size[0] // 2, size[1] // 3, 1, 1), mask_HW[size[0] // 2 :, size[1] // 3 :][:1, :1]
    )


def test_a_mask_has_the_same_bytes_however_its_rows_come():
    mask_HW = RANDOM.integers(0, 4, (1100, 600), np.uint8)

    assert len({mask_file(mask_HW, classes=4, blocks=blocks) for blocks in ((1100,), (512,), (1,), (7, 600))}) == 1


def test_a_mask_that_could_exceed_four_gigabytes_is_a_bigtiff(monkeypatch):
    monkeypatch.setattr(mask_tiff, "_CLASSIC_BYTES", 1 << 20)
    mask_HW = RANDOM.integers(0, 4, (600, 700), np.uint8)
    data = mask_file(mask_HW, classes=4)

    assert data[:4] == b"II+\0"
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), mask_HW)
    with MemoryFile(data) as memory, memory.open() as file:
        assert np.array_equal(file.read(1), mask_HW)
    assert np.array_equal(rasters.read_mask(io.BytesIO(data)).read(0, 0, 600, 700), mask_HW)


def test_rows_that_are_missing_or_do_not_fit_leave_no_mask():
    file = io.BytesIO()
    writer = rasters.MaskWriter(file, height_px=8, width_px=4, num_classes=3, palette_K3=PALETTE)
    for wrong in (np.zeros((2, 5)), np.full((2, 4), 3), np.full((2, 4), -1), np.zeros((9, 4))):
        with pytest.raises(ValueError, match="expected"):
            writer.write(0, wrong.astype(np.int16))
    writer.write(0, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected rows from 4"):
        writer.write(0, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="expected 8"), writer:
        pass
    with pytest.raises(DecodeError):
        rasters.read_mask(io.BytesIO(file.getvalue()))


# --- georeference ---

GROUND = {"crs": "EPSG:32632", "transform": from_origin(691_000.25, 5_335_000.5, 0.2, 0.3)}
POINTS = [GroundControlPoint(row=r, col=c, x=11 + c / 90, y=48 - r / 80, z=0) for r in (2, 60) for c in (5, 90)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("point", ["area", "point"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_is_on_the_ground_of_its_image(orientation, point, turned):
    """Every pixel of the upright mask has the coordinates that rasterio gives to the stored pixel it comes from."""
    transform = GROUND["transform"] @ rasterio.Affine.rotation(30 if turned else 0)
    with rasterio.Env(GTIFF_POINT_GEO_IGNORE=False), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=HEIGHT, width=WIDTH, count=3, dtype="uint8", crs=GROUND["crs"], transform=transform,
            tiled=True, blockxsize=32, blockysize=32,
        ) as file:  # fmt: skip
            file.update_tags(AREA_OR_POINT=point.title())
            file.write(np.moveaxis(IMAGE, -1, 0))
        data = bytes(memory.getbuffer())
    data = _with_orientation(data, orientation)
    raster = opened(data)
    mask = mask_file(
        np.zeros((raster.height_px, raster.width_px), np.uint8), classes=2, georeference=raster.georeference
    )

    places = [(0, 0), (raster.height_px - 1, 3), (17, raster.width_px - 1)]
    numbers_HW = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    upright_HW = _turn(numbers_HW, orientation)
    with MemoryFile(mask) as memory, memory.open() as file:
        assert file.crs == rasterio.CRS.from_string(GROUND["crs"])
        assert file.tags().get("AREA_OR_POINT") == point.title()
        for row, column in places:
            stored = divmod(int(upright_HW[row, column]), WIDTH)
            expected = transform @ (stored[1] + 0.5, stored[0] + 0.5)
            assert file.xy(row, column) == pytest.approx(expected, abs=1e-6)


def _with_orientation(data, orientation):
    """Put the orientation into the entry of tag 305 or the like that GDAL leaves room for: PLANAR becomes 274."""
    return tiff_tagged(data, 284, orientation, new_tag=274) if orientation > 1 else data


def _turn(image_HW, orientation):
    image_HW = image_HW.T if orientation >= 5 else image_HW
    image_HW = image_HW[:, ::-1] if orientation in (2, 3, 6, 7) else image_HW
    return image_HW[::-1] if orientation in (3, 4, 7, 8) else image_HW


@pytest.mark.parametrize("orientation", [1, 6])
def test_ground_control_points_are_kept(orientation):
    data = _with_orientation(
        by_gdal(IMAGE, crs="EPSG:4326", gcps=POINTS, tiled=True, blockxsize=32, blockysize=32), orientation
    )
    raster = opened(data)
    mask = mask_file(
        np.zeros((raster.height_px, raster.width_px), np.uint8), classes=2, georeference=raster.georeference
    )

    with MemoryFile(mask) as memory, memory.open() as file:
        points, crs = file.gcps
    expected = [(p.row, p.col) if orientation == 1 else (p.col, HEIGHT - p.row) for p in POINTS]
    assert crs == rasterio.CRS.from_epsg(4326)
    assert np.allclose([(p.row, p.col) for p in points], expected)
    assert [(p.x, p.y) for p in points] == [(p.x, p.y) for p in POINTS]


def test_a_camera_model_is_kept_of_an_upright_image_alone():
    """Its coefficients are for rows and columns as they are stored."""
    satellite = rasters.Georeference(camera=tuple(map(float, range(92))))

    assert satellite.turned(1, HEIGHT, WIDTH) == satellite
    assert satellite.turned(6, HEIGHT, WIDTH).camera == ()


def test_no_data_is_noted_and_not_kept():
    """The number means no data in the image; in the mask it is a class."""
    raster = opened(by_gdal(IMAGE, nodata=0, **GROUND))
    mask = mask_file(np.zeros((HEIGHT, WIDTH), np.uint8), classes=2, georeference=raster.georeference)

    assert any("no data" in note for note in raster.notes)
    with MemoryFile(mask) as memory, memory.open() as file:
        assert file.nodata is None


def test_an_image_without_ground_has_no_georeference():
    assert opened(by_gdal(IMAGE)).georeference is None
    assert rasters.whole(IMAGE).georeference is None


def test_a_decoded_image_is_a_raster():
    raster = rasters.whole(IMAGE, notes=["first of 2 pages"])

    assert np.array_equal(raster.read(3, 4, 5, 6), IMAGE[3:8, 4:10])
    assert raster.read(3, 4, 5, 6).flags.c_contiguous
    assert raster.notes == ("first of 2 pages",)
