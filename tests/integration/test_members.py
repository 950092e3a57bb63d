"""The decode stage, in child processes too, reads images and videos inside other files. No Ray."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.manifest import Manifest, open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits, decode_isolated
from tests.support import assets, clips


@pytest.fixture
def files() -> dict[str, bytes]:
    """Return two images, a broken one and a video of 20 frames."""
    good = {f"{number}.jpg": assets.opencv(clips.picture(number), ".jpg") for number in range(2)}
    return {**good, "broken.jpg": b"not an image", "clip.mp4": clips.clip(frames=20)}


def _settings(manifest: Manifest) -> DecodeSettings:
    return DecodeSettings(
        profile=preprocess.PROFILES["fastsegformer"],
        limits=images.ImageLimits(),
        extra=manifest.extra,
        segment_frames=8,
        overlays=False,
        access=storage.Access(schemes=("file",)),
    )


def _rows(manifest: Manifest) -> pa.Table:
    rows = pa.concat_tables(manifest.batches())
    rows = rows.append_column("row_digest", manifest.digests(rows))
    rows = rows.append_column("attempt", pa.array([1] * rows.num_rows, pa.int32()))
    return rows.append_column("done_segments", pa.nulls(rows.num_rows, pa.list_(pa.int32())))


def _frames(tables: list[pa.Table]) -> dict[str, int]:
    """Return the number of frames of every item; -1 for a failure."""
    found: dict[str, int] = {}
    for unit in pa.concat_tables(tables).to_pylist():
        frames = -1 if unit["error_type"] else len(unit["frames"])
        found[unit["item_id"]] = found.get(unit["item_id"], 0) + frames
    return found


def test_members_of_an_archive_are_decoded_in_place(files: dict[str, bytes], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            archive.addfile(facts, io.BytesIO(data))
    manifest = open_manifest(str(tmp_path / "a.tar"))
    expected = {"0": 1, "1": 1, "broken": -1, "clip": 20}

    assert _frames([*decode(_rows(manifest), _settings(manifest))]) == expected
    limits = ChildLimits(item_s=60.0, memory_bytes=3 << 30)
    assert _frames([*decode_isolated(_rows(manifest), _settings(manifest), limits)]) == expected


def test_cells_of_a_table_are_decoded_in_place(files: dict[str, bytes], tmp_path: Path) -> None:
    cells = [{"bytes": data, "path": name} for name, data in files.items()]
    table = pa.table({"id": [*files], "image": cells, "label": range(4)})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    manifest = open_manifest(str(tmp_path / "t.parquet"))
    expected = {"0.jpg": 1, "1.jpg": 1, "broken.jpg": -1, "clip.mp4": 20}

    tables = [*decode(_rows(manifest), _settings(manifest))]

    assert _frames(tables) == expected
    labels = {unit["item_id"]: unit["extra"]["label"] for unit in pa.concat_tables(tables).to_pylist()}
    assert labels == {name: number for number, name in enumerate(files)}
