"""Large JPEGs in the decode stage: the same units, whether all pixels are decoded or those that the input needs."""

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.media.images import ImageLimits
from fsf_core.media.images.sparse import choice
from fsf_core.model.preprocess import PROFILES
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from tests.support import assets

SMALL = replace(PROFILES["fastsegformer"], height_px=12, width_px=20)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    broken = {name: each.data for name, each in assets.broken_files().items() if name.endswith(".jpg")}
    large = cv2.imencode(".jpg", cv2.resize(assets.picture(), (800, 600), interpolation=cv2.INTER_CUBIC))[1].tobytes()
    files = {**assets.good_images(), **broken, "large.jpg": large, "turned.jpg": turned(large)}
    uris = []
    for number, data in enumerate(files.values()):
        path = folder / f"{number:03d}"
        path.write_bytes(data)
        uris.append(str(path))
    columns = {"item_id": list(files), "uri": uris, "kind": pa.array(["image"] * len(uris))}
    columns |= {"row_digest": pa.nulls(len(uris), pa.binary(8)), "attempt": pa.array([1] * len(uris), pa.int32())}
    return pa.table({**columns, "done_segments": pa.nulls(len(uris), pa.list_(pa.int32()))})


def turned(jpeg: bytes) -> bytes:
    return assets.jpeg_with(jpeg, assets.jpeg_segment(0xE1, assets.exif(6)))


def units_of(rows, profile) -> pa.Table:
    settings = DecodeSettings(
        profile=profile, limits=ImageLimits(), extra=pa.schema([]), segment_frames=4, overlays=False,
        access=storage.Access(schemes=("file",)),
    )  # fmt: skip
    return pa.concat_tables(decode(rows, settings))


@pytest.mark.parametrize(
    "profile",
    [SMALL, replace(SMALL, honour_exif=False), replace(SMALL, mode="letterbox"), replace(SMALL, interpolation="area")],
    ids=["stretched", "as stored", "letterbox", "another filter"],
)
def test_units_are_the_same_with_the_decoder_of_few_pixels(rows, profile, monkeypatch):
    expected = units_of(rows, profile)
    monkeypatch.setattr(choice, "MIN_PIXELS", 0)
    monkeypatch.setattr(choice, "_MIN_SHARE", 2)
    monkeypatch.setattr(choice, "TRIAL", choice.Trial(seen_px=1 << 40))
    assert units_of(rows, profile).equals(expected)
    assert (choice.TRIAL.lead > 0) == (profile.interpolation == "linear")


def test_a_large_picture_is_decoded_where_its_input_is_computed_from(tmp_path, monkeypatch):
    image_HWC = np.random.default_rng(1).integers(0, 256, (150, 200, 3), np.uint8)
    image_HWC = cv2.resize(image_HWC, (2400, 1800), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), image_HWC)
    columns = {"item_id": ["large"], "uri": [str(path)], "kind": ["image"]}
    columns |= {"row_digest": pa.nulls(1, pa.binary(8)), "attempt": pa.array([1], pa.int32())}
    rows = pa.table({**columns, "done_segments": pa.nulls(1, pa.list_(pa.int32()))})
    expected = units_of(rows, PROFILES["fastsegformer"])
    monkeypatch.setattr(choice, "TRIAL", choice.Trial(seen_px=1 << 40))
    assert units_of(rows, PROFILES["fastsegformer"]).equals(expected)
    assert choice.TRIAL.lead == 1
