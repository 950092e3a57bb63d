"""Score one picture by a bundle's plain and fused variant: the stages of the job, in this process, without Ray."""

# H×W pixels

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.masks import decode_png
from fsf_core.media import images
from fsf_core.model.bundle import FUSED, PLAIN, Bundle
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask


def drawn_picture(height_px: int, width_px: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Return a BGR picture of coloured shapes, a gradient and some noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height_px, 0:width_px]
    gradient_HWC = np.stack([rows * 160 / height_px, columns * 160 / width_px, (rows + columns) % 97], axis=-1)
    picture_HWC = np.ascontiguousarray(gradient_HWC + rng.integers(0, 12, (height_px, width_px, 3)), np.uint8)
    for _ in range(8):
        centre = (int(rng.integers(width_px)), int(rng.integers(height_px)))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        cv2.circle(picture_HWC, centre, int(rng.integers(5, max(6, min(height_px, width_px) // 3))), colour, -1)
    return picture_HWC


def class_maps(bundle: Bundle, picture: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the class map of a picture by every float32 variant of a bundle, at the picture's size."""
    return {variant: _class_map(bundle, picture, variant) for variant in (PLAIN, FUSED) if variant in bundle.variants}


def _class_map(bundle: Bundle, picture: Path, variant: str) -> NDArray[np.uint8]:
    settings = DecodeSettings(
        profile=bundle.profile,
        limits=images.ImageLimits(),
        extra=pa.schema([]),
        segment_frames=1,
        overlays=False,
        access=storage.Access(schemes=("file",)),
    )
    infer = Infer(
        bundle_uri=bundle.uri, bundle_sha256=bundle.sha256, variant=variant, provider="cpu", threads=1, batch_frames=2
    )
    masking = MaskSettings(
        profile=bundle.profile,
        num_classes=bundle.num_classes,
        palette_K3=np.asarray(bundle.palette, np.uint8),
        grid_hw=bundle.signature.grid_hw,
        output=bundle.output,
        uncovered_id=bundle.profile.uncovered_id(bundle.classes),
        mask_size="original",
        limits=images.ImageLimits(),
        clear_background=False,
    )
    item = pa.table(
        {
            "item_id": [picture.name],
            "uri": [str(picture)],
            "kind": ["image"],
            "row_digest": pa.nulls(1, pa.binary(8)),
            "attempt": pa.array([1], pa.int32()),
            "done_segments": pa.nulls(1, pa.list_(pa.int32())),
        }
    )
    rows = [row for units in decode(item, settings) for part in infer(units) for row in mask(part, masking).to_pylist()]
    assert [row["error_message"] for row in rows] == [None]
    return decode_png(rows[0]["masks"][0])
