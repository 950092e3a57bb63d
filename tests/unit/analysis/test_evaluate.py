import io
import json
import os
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from fsf_core import masks, runs
from fsf_core.analysis.metrics import metrics_document
from fsf_core.cli.app import main
from fsf_core.masks.confusion import count
from fsf_core.schema import CONFUSION
from tests.support import labelled
from tests.support.made_runs import make_run

CLASSES = ("background", "sunburn", "ulcer")
NAMES = ",".join(CLASSES)
VOC = masks.voc_palette(3)
OWN = np.array([(9, 9, 9), (250, 0, 0), (0, 250, 0)], np.uint8)


def random_map(seed, classes=3, shape=(20, 30)):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def grey(class_map):
    buffer = io.BytesIO()
    Image.fromarray(class_map).save(buffer, "PNG")
    return buffer.getvalue()


def painted(class_map, palette=VOC):
    return grey(palette[class_map])


def write(path, data):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def folder(root, class_maps, encode=grey, suffix=".png"):
    for name, class_map in class_maps.items():
        write(Path(root) / f"{name}{suffix}", encode(class_map))
    return root


def evaluated(capsys, *words):
    """The exit code, the document and what is printed for people and on stderr."""
    code = main(["evaluate", *map(str, words)])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    document = json.loads(lines[-1], parse_constant=pytest.fail) if lines and lines[-1].startswith("{") else None
    return code, document, "\n".join(lines[:-1]), err


def expected(pairs, classes=CLASSES):
    """The document of pairs of label and mask by item."""
    tables = [CONFUSION.empty_table()]
    for item, (label, mask) in pairs.items():
        cells = count(label, mask, len(classes))
        columns = {"item_id": [item] * len(cells.pixels), "segment": np.zeros(len(cells.pixels), np.int32)}
        tables.append(pa.table({**columns, **cells.columns()}).cast(CONFUSION))
    return metrics_document(pa.concat_tables(tables), classes)


def assert_metrics(document, pairs):
    wanted = expected(pairs)
    assert {name: document[name] for name in wanted} == wanted


PAIRS = {name: (random_map(at), random_map(at + 100)) for at, name in enumerate(["a", "b/c", "ü é"])}
LABELS = {name: label for name, (label, _) in PAIRS.items()}
MASKS = {name: mask for name, (_, mask) in PAIRS.items()}


@pytest.mark.parametrize("encode_mask", [grey, painted, lambda ids: masks.encode_png(ids, VOC)])
@pytest.mark.parametrize("encode_label", [grey, painted])
def test_folders_of_png_are_compared_by_name(tmp_path, capsys, encode_mask, encode_label):
    found = folder(tmp_path / "p", MASKS, encode_mask), folder(tmp_path / "l", LABELS, encode_label)
    code, document, shown, _ = evaluated(capsys, *found, "--classes", NAMES)
    assert code == 0
    assert_metrics(document, PAIRS)
    assert document["pairs"]["compared"] == 3
    assert f"{document['miou']:.6f}" in shown
    assert "3 masks compared with their labels, 0 failed" in shown


def test_masks_and_labels_in_one_folder_are_chosen_by_patterns(tmp_path, capsys):
    for suffix, maps in ((".label.png", LABELS), (".published.png", MASKS)):
        folder(tmp_path, maps, suffix=suffix)
    write(tmp_path / "a.jpg", b"a photograph")
    patterns = f"{tmp_path}/**/*.published.png", f"{tmp_path}/**/*.label.png"
    _, document, *_ = evaluated(capsys, *patterns, "--classes", NAMES)
    assert_metrics(document, PAIRS)
    code, _, _, err = evaluated(capsys, tmp_path, tmp_path, "--classes", NAMES)
    assert code == 2
    assert "choose each with a pattern" in err


def test_two_files_are_compared_whatever_their_names(tmp_path, capsys):
    mask, label = write(tmp_path / "mask.png", grey(MASKS["a"])), write(tmp_path / "gt.png", painted(LABELS["a"]))
    _, document, *_ = evaluated(capsys, mask, label, "--classes", NAMES)
    assert document["confusion"] == expected({"a": PAIRS["a"]})["confusion"]
    assert document["intervals"]["miou"] is None


def test_a_bucket_is_read_like_a_disk(tmp_path, capsys):
    store = fsspec.filesystem("memory")
    for side, maps in (("p", MASKS), ("l", LABELS)):
        for name, class_map in maps.items():
            store.pipe(f"/evaluated/{side}/{name}.png", grey(class_map))
    uris = "memory://evaluated/p", "memory://evaluated/l/**/*.png"
    code, document, *_ = evaluated(capsys, *uris, "--classes", NAMES, "--out", "memory://evaluated/metrics.json")
    assert code == 0
    assert_metrics(document, PAIRS)
    assert json.loads(store.cat("/evaluated/metrics.json")) == document


class TestRun:
    """Masks of a run: names and colours come from it, and its items are found by id, file name or frame."""

    def run(self, root, ids, class_maps, **options):
        ratios = [[1, 0, 0]] * len(class_maps)
        return make_run(
            str(root / "run"), ratios, item_ids=ids, class_names=CLASSES, class_maps=class_maps,
            fingerprint={"palette": OWN.tolist()}, **options,
        )  # fmt: skip

    def test_items_are_found_by_id_and_painted_in_the_colours_of_the_run(self, tmp_path, capsys):
        run = self.run(tmp_path, [f"{name}.jpg" for name in MASKS], [*MASKS.values()], part_rows=2)
        labels = folder(tmp_path / "l", LABELS, lambda ids: painted(ids, OWN))
        _, document, *_ = evaluated(capsys, run, labels)
        assert_metrics(document, {f"{name}.jpg": pair for name, pair in PAIRS.items()})
        assert document["pairs"]["paired_by"] == {"name without suffix": 3}

    def test_labels_in_other_colours_are_read_with_palette(self, tmp_path, capsys):
        run = self.run(tmp_path, ["a"], [MASKS["a"]])
        labels = folder(tmp_path / "l", {"a": LABELS["a"]}, lambda ids: painted(ids, OWN[[1, 0, 2]]))
        *_, err = evaluated(capsys, run, labels)
        assert "gate" not in err, "colours of the run in another order are another reading, not an error"
        _, document, *_ = evaluated(capsys, run, labels, "--palette", "fa0000,090909,00fa00")
        assert document["confusion"] == expected({"a": PAIRS["a"]})["confusion"]

    def test_items_are_found_by_the_file_that_they_were_read_from(self, tmp_path, capsys):
        run = self.run(tmp_path, ["1", "2"], [MASKS["a"], MASKS["b/c"]], uris=["/photos/a.jpg", "s3://photos/c.jpg"])
        _, document, *_ = evaluated(capsys, run, folder(tmp_path / "l", LABELS))
        assert_metrics(document, {"1": PAIRS["a"], "2": PAIRS["b/c"]})
        assert document["pairs"]["labels_without_mask"] == {"count": 1, "names": ["ü é"]}

    def test_frames_of_a_video_are_found_by_number_and_are_one_item(self, tmp_path, capsys):
        maps = [random_map(seed) for seed in range(5)]
        run = self.run(tmp_path, ["clip.mp4", "other"], maps, frames=[4, 1], part_rows=3)
        labels = {f"clip/{frame:06d}": random_map(frame + 50) for frame in (1, 3, 9)}
        _, document, *_ = evaluated(capsys, run, folder(tmp_path / "l", labels))
        cells = [count(labels[f"clip/{frame:06d}"], maps[frame], 3) for frame in (1, 3)]
        assert document["items"] == 1
        assert np.sum(document["confusion"]) == sum(each.counted_px for each in cells)
        assert document["pairs"]["masks_without_label"] == {"count": 3, "names": ["clip.mp4", "other"]}
        assert document["pairs"]["labels_without_mask"] == {"count": 1, "names": ["clip/000009"]}

    def test_a_manifest_names_labels_of_images_and_of_frames(self, tmp_path, capsys):
        maps = [random_map(seed) for seed in range(3)]
        run = self.run(tmp_path, ["clip"], maps, frames=[3])
        folder(tmp_path / "l", {f"frame_{frame}": random_map(frame + 50) for frame in (0, 2)})
        write(tmp_path / "items.csv", b"id,uri,label_uri\nclip,clip.mp4,l\nunlabelled,x.jpg,\n")
        _, document, *_ = evaluated(capsys, run, tmp_path / "items.csv")
        assert document["pairs"]["compared"] == 2
        assert document["items"] == 1

    @pytest.mark.parametrize("form", ["gray", "rgb24"])
    def test_a_manifest_names_a_label_video(self, tmp_path, capsys, form):
        maps = [random_map(seed) for seed in range(150)]
        labels = [random_map(seed + 500) for seed in range(150)]
        shown = labels if form == "gray" else [OWN[each] for each in labels]
        pixels = "gray" if form == "gray" else "bgr0"
        write(tmp_path / "labels.mkv", labelled.label_video(shown, pixels=pixels, form=form))
        write(tmp_path / "bad.mkv", labelled.label_video(labels[:3], codec="mpeg4", pixels="yuv420p"))
        write(tmp_path / "items.csv", b"id,uri,label_uri\nclip,a.mp4,labels.mkv\nother,b.mp4,bad.mkv\n")
        run = self.run(tmp_path, ["clip", "other"], [*maps, maps[0]], frames=[150, 1], part_rows=70)
        code, document, *_ = evaluated(capsys, run, tmp_path / "items.csv", "--draws", "0")
        assert code == 3
        assert [(each["item_id"], each["error_type"]) for each in document["failures"]] == [("other", "DecodeError")]
        joined = np.concatenate(labels), np.concatenate(maps)
        assert document["confusion"] == expected({"clip": joined})["confusion"]

    def test_other_class_names_than_those_of_the_run_are_refused(self, tmp_path, capsys):
        run = self.run(tmp_path, ["a"], [MASKS["a"]])
        labels = folder(tmp_path / "l", LABELS)
        code, _, _, err = evaluated(capsys, run, labels, "--classes", "background,ulcer,sunburn")
        assert code == 2
        assert "but the run has background,sunburn,ulcer" in err
        assert evaluated(capsys, run, labels, "--classes", NAMES)[0] == 0

    def test_without_labels_those_of_the_scored_run_count(self, tmp_path, capsys):
        pairs = {"a": PAIRS["a"], "b": PAIRS["b/c"]}
        tables = []
        for item, (label, mask) in pairs.items():
            cells = count(label, mask, 3)
            columns = {"item_id": [item] * len(cells.pixels), "segment": np.zeros(len(cells.pixels), np.int32)}
            tables.append(pa.table({**columns, **cells.columns()}).cast(CONFUSION))
        options = {"passed_through": {"camera": [1, 2]}, "confusion": pa.concat_tables(tables)}
        run = self.run(tmp_path, [*pairs], [mask for _, mask in pairs.values()], **options)
        _, document, *_ = evaluated(capsys, run, "--by", "camera")
        assert_metrics(document, pairs)
        assert [each["by"] for each in document["groups"]] == [{"camera": 1}, {"camera": 2}]
        assert document["pairs"]["failed"] == 0

    def test_without_labels_a_run_without_any_is_refused(self, tmp_path, capsys):
        code, _, _, err = evaluated(capsys, self.run(tmp_path, ["a"], [MASKS["a"]]))
        assert code == 2
        assert "was scored without labels, expected a run of a manifest with label_uri" in err
        write(tmp_path / "a.png", grey(np.zeros((20, 30, 3), np.uint8)))
        labelled.scored(labelled.write_list(tmp_path, [("a", "a.png", "")]), tmp_path / "none")
        code, _, _, err = evaluated(capsys, tmp_path / "none")
        assert (code, "was scored without labels" in err) == (2, True), "its list has the column, and no label"

    @pytest.mark.parametrize(
        ("value", "code", "found"),
        [
            (255, 0, "class 0 is the only one in the labels, and 50.00 % of their pixels are ignored; expected"),
            (None, 3, "1 of 1 labels could not be compared"),
        ],
        ids=["scaled", "all failed"],
    )
    def test_labels_of_a_scored_run_that_hold_no_classes_are_pointed_out(self, tmp_path, capsys, value, code, found):
        write(tmp_path / "a.png", grey(np.zeros((20, 30, 3), np.uint8)))
        label = np.repeat(np.array([[0, value or 0]], np.uint8), 20, 0).repeat(15, 1)
        write(tmp_path / "label.png", grey(label) if value else b"")
        labelled.scored(labelled.write_list(tmp_path, [("a", "a.png", "label.png")]), tmp_path / "run")
        found_code, document, shown, err = evaluated(capsys, tmp_path / "run")
        assert found_code == code
        assert found in shown + err
        assert len(document["warnings"]) == (value is not None)

    def test_the_folder_of_a_video_is_read_as_a_job_reads_it(self, tmp_path, capsys):
        maps = [random_map(seed) for seed in range(3)]
        folder(tmp_path / "l", {"0_mask": maps[0], "2_mask": maps[2], "._2_mask": maps[1]})
        folder(tmp_path / "two", {"0": maps[0], "frame_0": maps[0]})
        write(tmp_path / "items.csv", b"id,uri,label_uri\nclip,clip.mp4,l\nother,b.mp4,two\n")
        _, document, *_ = evaluated(
            capsys, self.run(tmp_path, ["clip"], maps, frames=[3]), tmp_path / "items.csv", "--draws", "0"
        )
        assert (document["pairs"]["compared"], document["miou"]) == (2, 1)
        assert "two PNGs for frame 0" in document["failures"][0]["error_message"]


class TestGroups:
    def test_columns_of_the_manifest_with_labels_are_groups(self, tmp_path, capsys):
        folder(tmp_path / "l", LABELS)
        rows = {
            "id": [*PAIRS], "uri": [f"{name}.jpg" for name in PAIRS], "label_uri": [f"l/{name}.png" for name in PAIRS],
            "camera": pa.array([2, None, 2], pa.int32()), "orchard": ["n", "s", "s"],
        }  # fmt: skip
        pa.parquet.write_table(pa.table(rows), tmp_path / "items.parquet")
        words = folder(tmp_path / "p", MASKS), tmp_path / "items.parquet", "--classes", NAMES
        _, document, shown, _ = evaluated(capsys, *words, "--by", "camera")
        assert [each["by"] for each in document["groups"]] == [{"camera": 2}, {"camera": None}]
        for group, items in zip(document["groups"], (["a", "ü é"], ["b/c"]), strict=True):
            assert_metrics(group, {item: PAIRS[item] for item in items})
        assert "camera (none)" in shown
        both = evaluated(capsys, *words, "--by", "orchard,camera")[1]["groups"]
        assert [tuple(each["by"].values()) for each in both] == [("n", 2), ("s", 2), ("s", None)]
        code, _, _, err = evaluated(capsys, *words, "--by", "camera,field")
        assert code == 2
        assert "--by has field, expected columns out of camera, orchard" in err

    def test_columns_of_the_run_are_groups(self, tmp_path, capsys):
        run = make_run(
            str(tmp_path / "run"), [[1, 0, 0]] * 3, item_ids=[*MASKS], class_names=CLASSES,
            class_maps=[*MASKS.values()], passed_through={"camera": ["x", None, "x"]},
        )  # fmt: skip
        _, document, *_ = evaluated(capsys, run, folder(tmp_path / "l", LABELS), "--by", "camera")
        assert [(each["by"], each["items"]) for each in document["groups"]] == [
            ({"camera": "x"}, 2), ({"camera": None}, 1),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("values", "groups"),
        [
            ([float("nan"), None, float("inf")], [("inf", 1), (None, 2)]),
            (["x", "", "x"], [("x", 2), (None, 1)]),
        ],
    )
    def test_values_that_json_lacks_are_null_or_text(self, tmp_path, capsys, values, groups):
        folder(tmp_path / "l", LABELS)
        rows = {"id": [*PAIRS], "uri": [*PAIRS], "label_uri": [f"l/{name}.png" for name in PAIRS], "gain": values}
        pa.parquet.write_table(pa.table(rows), tmp_path / "items.parquet")
        words = folder(tmp_path / "p", MASKS), tmp_path / "items.parquet", "--classes", NAMES, "--by", "gain,gain"
        _, document, *_ = evaluated(capsys, *words)
        assert [(each["by"]["gain"], each["items"]) for each in document["groups"]] == groups

    @pytest.mark.parametrize("of", ["manifest", "run"])
    def test_lists_make_no_groups(self, tmp_path, capsys, of):
        folder(tmp_path / "l", LABELS)
        rows = {"id": [*PAIRS], "uri": [*PAIRS], "label_uri": [f"l/{name}.png" for name in PAIRS], "tags": [[1]] * 3}
        pa.parquet.write_table(pa.table(rows), tmp_path / "items.parquet")
        words = [folder(tmp_path / "p", MASKS), tmp_path / "items.parquet", "--classes", NAMES]
        if of == "run":
            run = make_run(
                str(tmp_path / "run"), [[1, 0, 0]] * 3, item_ids=[*MASKS], class_names=CLASSES,
                class_maps=[*MASKS.values()], passed_through={"tags": [[1]] * 3},
            )  # fmt: skip
            words = [run, tmp_path / "l"]
        code, _, _, err = evaluated(capsys, *words, "--by", "tags")
        assert code == 2
        assert "--by has tags, which holds values of type list<" in err

    def test_folders_have_no_columns(self, tmp_path, capsys):
        words = folder(tmp_path / "p", MASKS), folder(tmp_path / "l", LABELS), "--classes", NAMES, "--by", "camera"
        code, _, _, err = evaluated(capsys, *words)
        assert code == 2
        assert "expected a manifest with columns" in err


class TestFailures:
    """A label that cannot be counted is listed with its reason; the metrics are those of the others; exit code 3."""

    def broken(self, root, bad):
        write(root / "l" / "bad.png", bad)
        folder(root / "l", LABELS)
        return folder(root / "p", {**MASKS, "bad": random_map(9)}), root / "l"

    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            (grey(random_map(1, shape=(30, 20))), "the label has 20×30 pixels, expected the 30×20 of its mask"),
            (grey(np.full((20, 30, 3), 7, np.uint8)), "colour #070707 in 600 pixels, first at row 0, column 0"),
            (b"\xff\xd8\xff\xe0 a photograph", "a JPEG, whose compression changes class ids"),
            (grey(random_map(1))[:40], "found a PNG that"),
            (b"", "an empty file"),
        ],
    )
    def test_what_is_wrong_is_listed(self, tmp_path, capsys, bad, reason):
        code, document, shown, err = evaluated(capsys, *self.broken(tmp_path, bad), "--classes", NAMES)
        assert code == 3
        assert_metrics(document, PAIRS)
        (failure,) = document["failures"]
        assert (failure["item_id"], failure["error_type"]) == ("bad", "LabelError")
        assert reason in failure["error_message"]
        assert document["pairs"]["failed"] == 1
        assert reason in shown
        assert "1 of 4 labels could not be compared" in err

    def test_some_may_be_allowed(self, tmp_path, capsys):
        words = *self.broken(tmp_path, b""), "--classes", NAMES, "--max-failed-share", "0.25"
        assert evaluated(capsys, *words)[0] == 0

    def test_a_missing_label_file_of_a_manifest_is_listed(self, tmp_path, capsys):
        write(tmp_path / "items.csv", b"id,uri,label_uri\na,a.jpg,l/a.png\nb/c,c.jpg,l/gone.png\n")
        words = folder(tmp_path / "p", MASKS), tmp_path / "items.csv", "--classes", NAMES
        folder(tmp_path / "l", LABELS)
        code, document, *_ = evaluated(capsys, *words)
        assert code == 3
        assert [each["error_type"] for each in document["failures"]] == ["FetchError"]
        assert_metrics(document, {"a": PAIRS["a"]})

    def test_a_list_opens_no_address_that_items_may_not_have(self, tmp_path, capsys):
        write(
            tmp_path / "items.csv", b"id,uri,label_uri\na,a.jpg,http://127.0.0.1:9/label\nb/c,b.jpg,ftp://x/label.png\n"
        )
        words = folder(tmp_path / "p", MASKS), tmp_path / "items.csv", "--classes", NAMES
        code, document, *_ = evaluated(capsys, *words)
        assert code == 3
        first, second = document["failures"]
        assert "private, local or reserved address" in first["error_message"]
        assert "has the scheme 'ftp'" in second["error_message"]

    def test_a_predicted_value_that_is_no_class_is_no_guess(self, tmp_path, capsys):
        mask = random_map(1)
        mask[0, 0] = 200
        words = folder(tmp_path / "p", {"a": mask}), folder(tmp_path / "l", {"a": LABELS["a"]}), "--classes", NAMES
        code, document, *_ = evaluated(capsys, *words)
        assert code == 3
        assert "the mask holds the value 200" in document["failures"][0]["error_message"]
        assert document["miou"] is None


def test_ids_of_instances_are_pointed_out_by_their_values(tmp_path, capsys):
    instances = LABELS["a"].astype(np.uint16)
    instances[0, :2] = 24001
    instances[0, 2] = 65535
    words = folder(tmp_path / "p", {"a": MASKS["a"]}), folder(tmp_path / "l", {"a": instances}), "--classes", NAMES
    _, document, *_ = evaluated(capsys, *words)
    assert document["ignored"]["by_value"] == {"255": 1, "24001": 2}
    assert "24001 (2 px)" in document["warnings"][0]


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["p", "l"], "masks in a folder have no class names, expected --classes"),
            (["p", "gone", "--classes", NAMES], "found nothing at"),
            (["gone", "l", "--classes", NAMES], "found nothing at"),
            (["p", "empty", "--classes", NAMES], "holds no PNG, expected labels as PNG files"),
            (["p/*.tif", "l", "--classes", NAMES], "holds no PNG, expected masks as PNG files"),
            (["p", "other", "--classes", NAMES], "found 3 masks ('a', 'b/c', 'ü é') and 1 labels ('zzz')"),
            (["p", "items.csv", "--classes", NAMES], "expected one named `label_uri`"),
            (["p", "l", "--classes", NAMES, "--palette", "000000,ffffff"], "--palette has 2 colours, expected 3"),
            (["p", "l", "--classes", "a,a,b"], "expected names of which no two are equal"),
            (["p", "l", "--classes", NAMES, "--draws", "-1"], "--draws is -1"),
            (["p", "l", "--classes", NAMES, "--seed", "-1"], "--seed is -1"),
            (["p", "l", "--classes", NAMES, "--max-failed-share", "2"], "--max-failed-share is 2"),
        ],
    )
    def test_what_cannot_be_compared_is_refused_with_advice(self, tmp_path, capsys, monkeypatch, words, message):
        monkeypatch.chdir(tmp_path)
        folder(tmp_path / "p", MASKS)
        folder(tmp_path / "l", LABELS)
        folder(tmp_path / "other", {"zzz": LABELS["a"]})
        (tmp_path / "empty").mkdir()
        write(tmp_path / "items.csv", b"id,uri\na,a.jpg\n")
        code, document, _, err = evaluated(capsys, *words)
        assert (code, document) == (2, None)
        assert message in err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "items.csv", "l", "other", "p"]


class TestValues:
    def compared(self, tmp_path, capsys, label, classes="background,sunburn"):
        words = folder(tmp_path / "p", {"a": random_map(3, classes=2)}), folder(tmp_path / "l", {"a": label})
        return evaluated(capsys, *words, "--classes", classes)

    def test_ignored_pixels_are_counted_by_value(self, tmp_path, capsys):
        label = random_map(4, classes=2)
        label[0] = 255
        code, document, shown, _ = self.compared(tmp_path, capsys, label)
        assert code == 0
        assert document["ignored"] == {"pixels": 30, "by_value": {"255": 30}}
        assert document["warnings"] == []
        assert "30 pixels are ignored by their labels" in shown

    def test_other_values_that_are_ignored_are_pointed_out(self, tmp_path, capsys):
        label = random_map(4, classes=2)
        label[0] = 7
        _, document, shown, _ = self.compared(tmp_path, capsys, label)
        assert "5.00 % of the labelled pixels have values that are no class and are ignored: 7 (30 px)" in shown
        assert document["items"] == 1

    def test_a_mask_of_0_and_255_is_pointed_out(self, tmp_path, capsys):
        _, document, *_ = self.compared(tmp_path, capsys, random_map(4, classes=2) * np.uint8(255))
        assert document["warnings"][0].startswith("class 0 is the only one in the labels")

    @pytest.mark.parametrize("label", [np.full((20, 30), 255, np.uint8), random_map(4, classes=2) * np.uint8(85)])
    def test_labels_without_a_class_are_refused(self, tmp_path, capsys, label):
        code, document, _, err = self.compared(tmp_path, capsys, label)
        assert (code, document) == (2, None)
        assert "values are never scaled" in err

    def test_a_label_that_ignores_everything_fails_nothing(self, tmp_path, capsys):
        labels = {**LABELS, "void": np.full((20, 30), 255, np.uint8)}
        words = folder(tmp_path / "p", {**MASKS, "void": random_map(5)}), folder(tmp_path / "l", labels)
        code, document, *_ = evaluated(capsys, *words, "--classes", NAMES)
        assert code == 0
        assert document["pairs"]["compared"] == 4
        assert_metrics(document, PAIRS)

    def test_more_classes_than_a_palette_has(self, tmp_path, capsys):
        classes = [f"class {at}" for at in range(300)]
        rng = np.random.default_rng(0)
        label, mask = (rng.integers(0, 300, (40, 50)).astype(np.uint16) for _ in range(2))
        (tmp_path / "names.txt").write_text("\n".join(classes))
        words = folder(tmp_path / "p", {"a": mask}), folder(tmp_path / "l", {"a": label})
        _, document, *_ = evaluated(capsys, *words, "--classes", f"@{tmp_path}/names.txt")
        assert document["confusion"] == expected({"a": (label, mask)}, classes)["confusion"]


def test_an_unfinished_run_and_an_empty_one_are_compared_as_far_as_they_are(tmp_path, capsys):
    options = {"item_ids": ["a"], "class_names": CLASSES, "class_maps": [MASKS["a"]]}
    run = make_run(str(tmp_path / "run"), [[1, 0, 0]], finished=False, **options)
    labels = folder(tmp_path / "l", LABELS)
    assert_metrics(evaluated(capsys, run, labels)[1], {"a": PAIRS["a"]})
    empty = make_run(str(tmp_path / "empty"), np.zeros((0, 3)), item_ids=[], class_names=CLASSES, failed=["a"])
    code, _, _, err = evaluated(capsys, empty, labels)
    assert code == 2
    assert "found 0 masks (none) and 3 labels" in err
    assert runs.open_run(empty).failures().num_rows == 1


@pytest.mark.photos
def test_the_figures_of_the_authors_predictions_are_reproduced(capsys):
    photos = Path(os.environ["FSF_PHOTOS"]) / "labelled"
    names = "background,sunburn,ulcer,wind scarring"
    words = f"{photos}/*.published.png", f"{photos}/*.label.png"
    code, document, *_ = evaluated(capsys, *words, "--classes", names)
    assert code == 0
    assert document["confusion"] == [
        [755383, 421, 370, 1362], [213, 6307, 0, 0], [696, 0, 6989, 56], [3038, 0, 59, 11538],
    ]  # fmt: skip
    for found in (document, document["published"]):
        columns = {name: [each[name] for each in found["classes"]] for name in ("iou", "recall", "precision")}
        assert columns["iou"] == pytest.approx([0.991989, 0.908659, 0.855447, 0.718744], abs=5e-7)
        assert columns["recall"] == pytest.approx([0.997158, 0.967331, 0.902855, 0.788384], abs=5e-7)
        assert columns["precision"] == pytest.approx([0.994802, 0.937426, 0.942168, 0.890553], abs=5e-7)
        means = [found[name] for name in ("miou", "mean_recall", "mean_precision", "accuracy")]
        assert means == pytest.approx([0.868710, 0.913932, 0.941237, 0.992097], abs=5e-7)
