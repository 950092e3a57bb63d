"""Rows of an earlier run in the columns of this one."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs, storage
from fsf_core.masks import voc_palette
from fsf_core.media import rasters
from fsf_core.runs import load_ledger
from fsf_core.stages.reuse import ReuseSettings, reuse_items
from fsf_core.stages.write import WriteSettings
from tests.support import assets, clips, labelled, ledger


@pytest.mark.parametrize(
    ("kind", "value"), [(pa.string(), "ripe"), (pa.int64(), 7), (None, None)], ids=["text", "number", "none"]
)
def test_a_column_of_the_earlier_manifest_is_not_taken_for_notes(kind, value, tmp_path):
    """Versions without the column `notes` passed one of that name through."""
    (tmp_path / "a.jpg").write_bytes(b"a.jpg")
    earlier = ledger.begin(str(tmp_path / "earlier"))
    passed = [(pa.field("notes", kind), value)] if kind else []
    part = ledger.commit_older(earlier, ledger.image("a.jpg"), passed=passed).part
    now = ledger.begin(str(tmp_path / "now"))
    rows = pa.table({"item_id": ["a.jpg"], "uri": [str(tmp_path / "a.jpg")], "row_digest": [b"12345678"]})
    write = WriteSettings(
        staging=now.staging, run_id="now", bundle_sha256="ab", class_names=ledger.CLASSES, extra=pa.schema([])
    )
    settings = ReuseSettings(
        earlier_uri=earlier.uri, same_by="sha256", access=storage.Access(schemes=("file",)), write=write
    )

    assert reuse_items(rows, [part], load_ledger(earlier.uri), settings) == 1
    (found,) = runs.read_table(now.uri, "masks").to_pylist()
    assert (found["run_id"], found["item_id"], found["notes"]) == ("now", "a.jpg", None)


@pytest.mark.parametrize("torn", [False, True])
def test_a_mask_outside_of_the_tables_is_copied_if_it_is_whole(torn, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a.jpg")
    earlier = ledger.begin(str(tmp_path / "earlier"))
    tables = ledger.tables_of([ledger.image("a.jpg")])
    [row] = tables["masks"].to_pylist()
    size = {"height_px": row["height_px"], "width_px": row["width_px"]}
    with (
        earlier.staging.replacing("masks_tiff/a.tif") as local,
        rasters.MaskWriter(local, **size, num_classes=2, palette_K3=voc_palette(2)) as writer,
    ):
        writer.write(0, np.zeros((size["height_px"], size["width_px"]), np.uint8))
    row |= {"mask": {"bytes": None, "path": "masks_tiff/a.tif"}, "item_sha256": hashlib.sha256(b"a.jpg").hexdigest()}
    tables["masks"] = pa.Table.from_pylist([row], tables["masks"].schema)
    part = runs.commit(earlier.staging, tables, ledger.rows_of([ledger.image("a.jpg")])).part
    written = tmp_path / "earlier/masks_tiff/a.tif"
    if torn:
        written.write_bytes(written.read_bytes()[:-1])
    now = ledger.begin(str(tmp_path / "now"))
    rows = pa.table({"item_id": ["a.jpg"], "uri": [str(tmp_path / "a.jpg")], "row_digest": [b"12345678"]})
    write = WriteSettings(
        staging=now.staging, run_id="now", bundle_sha256="ab", class_names=ledger.CLASSES, extra=pa.schema([])
    )
    settings = ReuseSettings(
        earlier_uri=earlier.uri, same_by="sha256", access=storage.Access(schemes=("file",)), write=write
    )

    assert reuse_items(rows, [part], load_ledger(earlier.uri), settings) == (0 if torn else 1)
    copies = [path.read_bytes() for path in (tmp_path / "now").rglob("*.tif*")]
    assert copies == ([] if torn else [written.read_bytes()])


SAME, OTHER = (labelled.encode(labelled.label(20, 30, seed=seed)) for seed in (1, 2))


def reused(tmp_path, *, before, now, same_by="sha256"):
    """Score an image with a label, or without one (None), and try to reuse it for a list with another.

    Returns:
        The tables confusion before and after, and the number of items reused.
    """
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(20, 30), "PNG"))
    for name, data in (("before", before), ("now", now)):
        if data:
            (tmp_path / f"{name}.png").write_bytes(data)
    lists = [
        labelled.write_list(tmp_path, [("a", "a.png", f"{name}.png" if data is not None else "")], name=f"{name}.csv")
        for name, data in (("before", before), ("now", now))
    ]
    earlier = labelled.scored(lists[0], tmp_path / "earlier")
    rows, decode, found = labelled.rows_of(lists[1])
    attempt = ledger.begin(str(tmp_path / "run"))
    write = WriteSettings(
        staging=attempt.staging, run_id="now", bundle_sha256="ab", class_names=labelled.CLASSES, extra=found.extra
    )
    settings = ReuseSettings(earlier_uri=earlier.uri, same_by=same_by, access=decode.access, write=write)
    parts = load_ledger(earlier.uri)
    count = reuse_items(rows, parts.parts, parts, settings)
    return earlier.confusion(), runs.read_table(attempt.uri, "confusion"), count


@pytest.mark.parametrize("same_by", ["sha256", "version"])
def test_an_item_whose_label_is_the_same_brings_its_confusion_along(same_by, tmp_path):
    """Wherever the label is now."""
    before, after, count = reused(tmp_path, before=SAME, now=SAME, same_by=same_by)

    assert count == 1
    assert after.equals(before)
    assert after.num_rows
    (row,) = runs.read_table(str(tmp_path / "run"), "masks").to_pylist()
    assert (row["label_uri"], row["label_sha256"]) == ("now.png", hashlib.sha256(SAME).hexdigest())


@pytest.mark.parametrize(
    ("before", "now"),
    [(SAME, OTHER), (SAME, None), (None, SAME), (SAME, b"")],
    ids=["changed", "taken", "given", "gone"],
)
def test_an_item_whose_label_is_another_is_scored_again(before, now, tmp_path):
    assert reused(tmp_path, before=before, now=now)[2] == 0


def test_an_item_that_never_had_a_label_is_reused_in_a_list_of_labels(tmp_path):
    assert reused(tmp_path, before=None, now=None)[2] == 1


def test_a_labelled_video_is_scored_again(tmp_path):
    """Its label is many files, or one that would have to be read whole."""
    (tmp_path / "v.mp4").write_bytes(clips.clip(frames=4))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "3.png").write_bytes(labelled.encode(labelled.label(64, 96)))
    manifest = labelled.write_list(tmp_path, [("v", "v.mp4", "labels")])
    earlier = labelled.scored(manifest, tmp_path / "earlier")
    rows, decode, found = labelled.rows_of(manifest)
    now = ledger.begin(str(tmp_path / "run")).staging
    write = WriteSettings(
        staging=now, run_id="now", bundle_sha256="ab", class_names=labelled.CLASSES, extra=found.extra
    )
    settings = ReuseSettings(earlier_uri=earlier.uri, same_by="sha256", access=decode.access, write=write)
    parts = load_ledger(earlier.uri)

    assert reuse_items(rows, parts.parts, parts, settings) == 0
