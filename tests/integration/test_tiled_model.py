"""A model of convolutions gives the same mask in windows as by a bundle that takes the whole picture."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fsf_core import masks, runs, storage
from fsf_core.media.images import ImageLimits
from fsf_core.model.bundle import Bundle
from fsf_core.model.preprocess import PROFILES, Profile
from fsf_core.stages import units
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask
from fsf_core.stages.tiles import TileSettings, score_tiled
from fsf_core.stages.units import Frame, Unit
from tests.support import assets
from tests.support.free_bundle import OWN, free_bundle
from tests.support.tiny_onnx import tiny_onnx

RADIUS = 8
"""A convolution of 5×5 with a stride of 4, then a resize between neighbouring cells."""

SIZE = (600, 476)
"""Divisible by the stride: windows begin at cells of the whole picture's grid."""

IMAGE = np.ascontiguousarray(np.roll(assets.picture(*SIZE), (90, 200), axis=(0, 1))[..., ::-1])


def _infer(bundle: Bundle, *, on_device: bool = False) -> Infer:
    return Infer(
        bundle_uri=bundle.uri, bundle_sha256=bundle.sha256, variant="plain", provider="cpu", threads=1, batch_frames=4,
        on_device=on_device,
    )  # fmt: skip


def _mask_settings(bundle: Bundle) -> MaskSettings:
    return MaskSettings(
        profile=bundle.profile, num_classes=4, palette_K3=masks.voc_palette(4), grid_hw=bundle.signature.grid_hw,
        output=bundle.output, mask_size="original", limits=ImageLimits(), clear_background=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """The mask of the picture, of a model of the same graph that takes any size."""
    bundle = free_bundle(str(tmp_path_factory.mktemp("bundles") / "free"), OWN)
    frame = Frame(frame_index=0, pts_s=None, height_px=SIZE[0], width_px=SIZE[1])
    unit = Unit(item_id="a", uri="a", frames=[frame], inputs_HWC=[np.ascontiguousarray(IMAGE[..., ::-1])])
    [inferred] = _infer(bundle)(units.to_table([unit], extra=pa.schema([])))
    [row] = mask(inferred, _mask_settings(bundle)).to_pylist()
    return np.asarray(masks.decode_png(row["masks"][0]), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model with inputs of 224×224."""
    profile: Profile = PROFILES["fastsegformer"]
    return free_bundle(str(tmp_path_factory.mktemp("bundles") / "fixed"), profile, tiny_onnx())


def _in_windows(bundle: Bundle, folder: Path, overlap_px: int, *, on_device: bool = False) -> NDArray[np.uint8]:
    path = folder / "a.png"
    assert cv2.imwrite(str(path), IMAGE)
    decode = DecodeSettings(
        profile=bundle.profile, limits=ImageLimits(), extra=pa.schema([]), segment_frames=1, overlays=False,
        access=storage.Access(schemes=("file",)),
    )  # fmt: skip
    settings = TileSettings(
        overlap_px=overlap_px, batch_frames=4, decode=decode, mask=_mask_settings(bundle),
        staging=runs.Staging(run_uri=str(folder), number=1),
    )  # fmt: skip
    item = pa.table(
        {
            "item_id": ["a"], "uri": [str(path)], "kind": ["image"], "row_digest": pa.nulls(1, pa.binary(8)),
            "attempt": pa.array([1], pa.int32()), "done_segments": pa.nulls(1, pa.list_(pa.int32())),
        }
    )  # fmt: skip
    [table] = score_tiled(item, _infer(bundle, on_device=on_device), settings)
    return np.asarray(masks.decode_png(table.to_pylist()[0]["masks"][0]), np.uint8)


@pytest.mark.parametrize("overlap_px", [4 * RADIUS, 56])
@pytest.mark.parametrize("on_device", [False, True])
def test_windows_give_the_mask_of_the_whole_picture(
    whole: NDArray[np.uint8], bundle: Bundle, tmp_path: Path, overlap_px: int, *, on_device: bool
) -> None:
    found = _in_windows(bundle, tmp_path, overlap_px, on_device=on_device)
    assert len(np.unique(whole)) > 1
    assert (found == whole).all()


def test_without_overlap_only_pixels_at_borders_of_windows_differ(
    whole: NDArray[np.uint8], bundle: Bundle, tmp_path: Path
) -> None:
    found = _in_windows(bundle, tmp_path, 0)
    near = [np.zeros(size, bool) for size in SIZE]
    for side, size in zip(near, SIZE, strict=True):
        plan = masks.plan_side(size, window_px=224, overlap_px=0)
        for start, weights in zip(plan.starts, plan.weights, strict=True):
            at = np.arange(start, start + 224)
            inner = ((at - start < RADIUS) & (start > 0)) | ((start + 223 - at < RADIUS) & (start + 224 < size))
            side[at] |= inner & (weights > 0)
    differs = found != whole
    assert differs.any()
    assert not differs[~(near[0][:, None] | near[1])].any()
