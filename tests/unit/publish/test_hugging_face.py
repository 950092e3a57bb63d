"""A dataset folder, opened by `datasets`: pictures and masks as those of the run."""

import datetime as dt
import io

import numpy as np
import pyarrow as pa
import pytest
import yaml
from datasets import load_dataset
from PIL import Image

from tests.support import picture_runs


@pytest.fixture(scope="module")
def datasets_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def load(datasets_cache):
    return lambda folder: load_dataset(str(folder), cache_dir=datasets_cache)


def test_pictures_and_masks_are_those_of_the_run(run, items, publish, load, tmp_path, caplog):
    """And `datasets` has nothing to complain about."""
    code, document, _ = publish(run, "hf", tmp_path / "out")
    dataset = load(tmp_path / "out")["train"]
    expected = picture_runs.class_maps(run)
    sources = {item.item_id: item for item in items}
    frames = picture_runs.decoded(sources["belt/clip.mp4"].source)

    assert (code, document["rows"], len(dataset)) == (0, 10, 10)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("datasets")] == []
    for row in dataset:
        np.testing.assert_array_equal(np.asarray(row["mask"]), expected[row["item_id"], row["frame_index"]])
        item = sources[row["item_id"]]
        if item.is_video:
            np.testing.assert_array_equal(np.asarray(row["image"])[..., ::-1], frames[row["frame_index"]])
        else:
            wanted = Image.open(io.BytesIO(item.source.read_bytes()))
            np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(wanted))
        assert row["classes"] == np.unique(expected[row["item_id"], row["frame_index"]]).tolist()


def test_features_have_the_classes_and_the_columns_of_the_manifest(run, publish, load, tmp_path):
    """A column of the manifest that has the name of one of the dataset's gets another one; lists become text."""
    publish(run, "hf", tmp_path / "out")
    dataset = load(tmp_path / "out")["train"]
    card = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    names = {each["name"]: each for each in card["dataset_info"]["features"]}

    assert dataset.features["classes"].feature.names == [*picture_runs.NAMES]
    assert names["classes"]["list"]["class_label"]["names"] == dict(zip("0123", picture_runs.NAMES, strict=True))
    assert names.keys() == dataset.features.keys() >= {"confidence", "uncertain_share", "sharpness"}
    row = next(row for row in dataset if row["item_id"] == "north/1.jpg")
    assert (row["orchard"], row["manifest_image"], row["tags"]) == ("nord", 7, '["a", "b"]')
    assert card["dataset_info"]["splits"][0]["num_examples"] == 10


def test_values_without_a_type_become_text_and_no_column_takes_the_place_of_another(publish, load, tmp_path):
    columns = pa.schema(
        [
            ("clock", pa.time32("s")),
            ("raw", pa.large_binary()),
            ("places", pa.list_(pa.int64())),
            ("image", pa.string()),
            ("manifest_image", pa.string()),
        ]
    )
    values = {"clock": dt.time(3, 4), "raw": b"\xff", "places": [1, 2], "image": "one", "manifest_image": "two"}
    item = picture_runs.image(tmp_path / "in", "a.png", np.zeros((4, 4), np.uint8), **values)
    publish(picture_runs.finished(tmp_path / "run", [item], columns=columns), "hf", tmp_path / "out")
    (row,) = load(tmp_path / "out")["train"]

    assert [row[name] for name in ("clock", "raw", "places")] == ["03:04:00", "ff", "[1, 2]"]
    assert [row[name] for name in ("manifest_manifest_image", "manifest_image")] == ["one", "two"]


def test_three_hundred_classes_stay_whole(publish, load, tmp_path):
    run, class_map_HW = picture_runs.of_many_classes(tmp_path)
    publish(run, "hf", tmp_path / "out")
    (row,) = load(tmp_path / "out")["train"]

    np.testing.assert_array_equal(np.asarray(row["mask"]), class_map_HW)
    assert row["classes"] == [*range(300)]


def test_files_have_a_bounded_size(publish, load, tmp_path):
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 4, (300, 400)).astype(np.uint8) for _ in range(9)]
    items = [picture_runs.image(tmp_path, f"{at}.png", class_map_HW) for at, class_map_HW in enumerate(drawn)]
    run = picture_runs.finished(tmp_path / "run", items)
    code, document, _ = publish(run, "hf", tmp_path / "out", "--shard-mb", "1")
    shards = sorted((tmp_path / "out" / "data").iterdir())

    assert code == 0
    assert len(shards) == document["files"] - 1 > 3
    assert max(shard.stat().st_size for shard in shards) < 1.2 * (1 << 20)
    assert sorted(load(tmp_path / "out")["train"]["item_id"]) == [f"{at}.png" for at in range(9)]


def test_a_run_without_rows_is_opened_as_a_stream(publish, tmp_path):
    """`datasets` has no tables without rows: it refuses to load one of any origin."""
    run = picture_runs.finished(tmp_path / "run", [picture_runs.failed("a")])
    publish(run, "hf", tmp_path / "out")
    dataset = load_dataset(str(tmp_path / "out"), streaming=True)["train"]

    assert [*dataset] == []
    assert dataset.features["classes"].feature.names == [*picture_runs.NAMES]
