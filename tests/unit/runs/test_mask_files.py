"""A mask that is a TIFF is read as it was written, whole or in part; one that is gone is an error of the run."""

import tracemalloc

import numpy as np
import pytest

from fsf_core import masks, runs
from fsf_core.errors import LimitError, OutputError
from fsf_core.media import rasters
from fsf_core.runs.mask_files import find_mask_problem

IDS = np.random.default_rng(2).integers(0, 5, (700, 530)).astype(np.uint8)
PALETTE = masks.voc_palette(5)
CELL = {"bytes": None, "path": "masks_tiff/a.tif"}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "masks_tiff").mkdir()
    with rasters.MaskWriter(
        tmp_path / CELL["path"], height_px=700, width_px=530, num_classes=5, palette_K3=PALETTE
    ) as writer:
        writer.write(0, IDS)
    return tmp_path


@pytest.mark.parametrize("step", [1, 2, 7, 600])
def test_every_nth_pixel_is_read(run, monkeypatch, step):
    monkeypatch.setattr("fsf_core.runs.mask_files._BAND_PX", 100 * 530)
    png = {"bytes": masks.encode_png(IDS, PALETTE), "path": None}
    for cell in (CELL, png):
        assert (runs.class_map_of(str(run), cell, step=step) == IDS[::step, ::step]).all()


def test_a_mask_that_is_gone_or_cut_off_is_an_error_of_the_run(run):
    path = run / CELL["path"]
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(OutputError, match=r"masks_tiff/a\.tif cannot be read"):
        runs.class_map_of(str(run), CELL)
    path.unlink()
    with pytest.raises(OutputError, match=r"masks_tiff/a\.tif"):
        runs.class_map_of(str(run), CELL)


def test_every_nth_pixel_takes_no_memory_for_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("fsf_core.runs.mask_files._BAND_PX", 100 * 600)
    monkeypatch.setattr("fsf_core.media.rasters.tiff_windows.CACHE_BYTES", 1 << 20)
    size = (8_000, 600)
    with rasters.MaskWriter(
        tmp_path / "a.tif", height_px=size[0], width_px=size[1], num_classes=5, palette_K3=PALETTE
    ) as writer:
        writer.write(0, np.zeros(size, np.uint8))
    tracemalloc.start()
    try:
        runs.class_map_of(str(tmp_path), {"bytes": None, "path": "a.tif"}, step=100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size[0] * size[1] / 2


@pytest.mark.parametrize("at", [-900, 60_000])
def test_a_mask_that_is_torn_or_of_another_size_is_found(run, at):
    path, size = run / CELL["path"], {"height_px": 700, "width_px": 530}
    assert find_mask_problem(str(run), CELL["path"], **size) is None
    assert "has 530x700 pixels, its row 530x701" in find_mask_problem(
        str(run), CELL["path"], height_px=701, width_px=530
    )
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert "masks_tiff/a.tif cannot be read" in find_mask_problem(str(run), CELL["path"], **size)
    path.write_bytes(b"")
    assert "masks_tiff/a.tif cannot be read" in find_mask_problem(str(run), CELL["path"], **size)


def test_a_directory_with_any_wrong_byte_is_a_problem_or_none(run):
    path, size = run / CELL["path"], {"height_px": 700, "width_px": 530}
    data = path.read_bytes()
    found = []
    for at in range(8, 60):
        path.write_bytes(data[:at] + bytes([data[at] ^ 64]) + data[at + 1 :])
        found.append(find_mask_problem(str(run), CELL["path"], **size))
    assert all(each is None or "masks_tiff/a.tif" in each for each in found)
    assert len(found) - found.count(None) > 10


def test_a_png_that_does_not_exist_is_not_made_up():
    assert runs.png_of({"bytes": b"png", "path": "masks_tiff/a.tif"}) == b"png"
    with pytest.raises(LimitError, match=r"is a TIFF, masks_tiff/a\.tif in the run"):
        runs.png_of(CELL)
