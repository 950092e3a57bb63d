"""What `fsf select` writes: a list that `fsf score` takes as it is, whatever the ids and columns are."""

import csv
import datetime as dt
import json
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fsf_core import storage
from fsf_core.cli.app import main
from fsf_core.errors import ManifestError
from fsf_core.manifest import open_manifest, read_chosen
from tests.support.chosen_runs import Frame, write_run

IDS = ["plain.jpg", 'a/ü,"b"\n\r\n c.jpg', "=HYPERLINK(1)", "  blank ", "x\ty", "日本/写真.png", "'; drop table", "-1"]
BELT = "belt, 1.mp4"
PASSED = pa.schema(
    [
        ("camera", pa.string()),
        ("day", pa.date32()),
        ("plot", pa.int64()),
        ("sizes", pa.list_(pa.float64())),
        ("reason", pa.string()),
    ]
)


def frames_of(ids):
    for number, item_id in enumerate(ids):
        passed = {
            "camera": item_id,
            "day": dt.date(2026, 11, number + 1),
            "plot": None if number else 7,
            "sizes": [0.5, 2.0],
            "reason": "of an earlier choice",
        }
        yield Frame(item_id=item_id, uncertain_share=(number + 1) / 100, brightness=100.0 + 9 * number, passed=passed)


@pytest.fixture
def belt():
    shares = [0.2 + at / 1000 for at in range(20)]
    return [Frame(item_id=BELT, frame_index=at, pts_s=at / 5, uncertain_share=share) for at, share in enumerate(shares)]


@pytest.fixture
def run(tmp_path, belt):
    passed = {field.name: None for field in PASSED}
    frames = [*frames_of(IDS), *(replace(frame, passed=passed) for frame in belt)]
    return write_run(str(tmp_path / "run"), frames, passed=PASSED, failed=["bad.jpg"])


def select(capsys, *words):
    """Return the exit code and the JSON document of the command."""
    code = main(["select", *words])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]) if code == 0 else printed.err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".parquet", ".CSV"])
@pytest.mark.parametrize("place", ["folder", "memory://bucket/next"])
def test_the_file_is_a_list_with_ids_and_columns_as_they_were(suffix, place, run, tmp_path, capsys):
    out = storage.join(str(tmp_path) if place == "folder" else place, f"next{suffix}")
    code, document = select(capsys, run, "--n", "20", "--out", out, "--min-gap-s", "1")

    assert code == 0
    manifest = open_manifest(out)
    rows = [row for batch in manifest.batches() for row in batch.to_pylist()]
    assert {row["item_id"] for row in rows} == {*IDS, BELT}
    assert manifest.items == len(IDS) + 1 < document["selected"]
    assert {row["item_id"]: row["uri"] for row in rows} == {item: f"/photos/{item}" for item in [*IDS, BELT]}
    assert {row["item_id"]: row["kind"] for row in rows} == dict.fromkeys(IDS, "image") | {BELT: "video"}
    assert {row["item_id"]: row["extra"]["camera"] or None for row in rows} == {item: item for item in IDS} | {
        BELT: None
    }
    assert all(row["extra"]["reason"].startswith("uncertain on ") for row in rows)
    assert read_chosen(out) == [(item["id"], item["frame_index"]) for item in document["items"]]


def test_rows_are_by_rank_and_name_every_frame(run, tmp_path, capsys):
    out = tmp_path / "next.csv"
    _, document = select(capsys, run, "--n", "20", "--out", str(out))

    with out.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert [int(row["rank"]) for row in rows] == [*range(1, len(rows) + 1)]
    assert [float(row["score"]) for row in rows] == [item["score"] for item in document["items"]]
    assert rows[0].keys() == {
        *("rank", "id", "frame_index", "time_s", "uri", "kind", "score", "reason", "camera", "day", "plot", "sizes")
    }
    assert sorted(int(row["frame_index"]) for row in rows if row["kind"] == "video") == [4, 9, 14, 19]
    assert json.loads(rows[-1]["sizes"]) == [0.5, 2.0]


def test_numbers_that_json_lacks_are_null_and_bytes_are_digits(tmp_path, capsys):
    passed = pa.schema([("weight", pa.float64()), ("sizes", pa.list_(pa.float64())), ("raw", pa.binary())])
    values = {"weight": float("nan"), "sizes": [float("inf"), 1.0], "raw": b"\xff\x00"}
    run = write_run(str(tmp_path / "run"), [Frame(item_id="a", passed=values)], passed=passed)
    for suffix in ("jsonl", "csv"):
        select(capsys, run, "--out", str(tmp_path / f"next.{suffix}"))

    row = json.loads((tmp_path / "next.jsonl").read_text(), parse_constant=pytest.fail)
    assert [row[name] for name in passed.names] == [None, [None, 1.0], "ff00"]
    (row,) = csv.DictReader((tmp_path / "next.csv").open(newline="", encoding="utf-8"))
    assert row["raw"] == "ff00"


def test_parquet_keeps_the_types_of_the_run(run, tmp_path, capsys):
    select(capsys, run, "--n", "20", "--out", str(tmp_path / "next.parquet"))

    found = pq.read_table(tmp_path / "next.parquet")
    assert [found.schema.field(name).type for name in ("day", "plot", "sizes")] == [
        *(pa.date32(), pa.int64(), pa.list_(pa.float64()))
    ]


def test_the_document_names_what_was_chosen_and_what_was_not(run, capsys):
    code, document = select(capsys, run, "--n", "3", "--by", "random", "--seed", "5", "--where", "plot is null")

    assert code == 0
    assert (document["selected"], document["by"], document["seed"], document["failed_items"]) == (3, "random", 5, 1)
    assert document["left_out"] == {"where": 1}
    assert document["items"][0].keys() == {"id", "frame_index", "time_s", "score", "reason"}
    assert document["out"] is None


def test_an_earlier_choice_is_excluded(run, tmp_path, capsys):
    first, second = str(tmp_path / "first.csv"), str(tmp_path / "second.parquet")
    _, before = select(capsys, run, "--n", "4", "--out", first)
    _, after = select(capsys, run, "--n", "4", "--out", second, "--exclude", first)
    _, last = select(capsys, run, "--n", "50", "--exclude", first, "--exclude", second)

    chosen = [{(item["id"], item["frame_index"]) for item in document["items"]} for document in (before, after, last)]
    assert not chosen[0] & chosen[1]
    assert not chosen[2] & (chosen[0] | chosen[1])
    assert after["left_out"]["excluded"] >= 4


def test_exclusions_that_the_run_does_not_have_are_counted_and_named(run, tmp_path, capsys, caplog):
    (tmp_path / "other.csv").write_text(f'id,frame_index\n{IDS[0]},\nother.jpg,\n"{BELT}",20\n"{BELT}",0\nbad.jpg,\n')

    code, document = select(capsys, run, "--exclude", str(tmp_path / "other.csv"))

    assert (code, document["excluded_not_in_run"]) == (0, 2)
    assert f"event=excluded_not_in_run rows=2 first=(\"frame 20 of '{BELT}'\", \"'other.jpg'\")" in caplog.text
    assert select(capsys, run)[1]["excluded_not_in_run"] == 0


def test_the_file_that_is_excluded_is_never_replaced(run, tmp_path, capsys):
    out = tmp_path / "next.csv"
    select(capsys, run, "--n", "4", "--out", str(out))
    before = out.read_bytes()

    code, message = select(capsys, run, "--n", "4", "--out", str(out), "--exclude", f"{tmp_path}/./next.csv")

    assert (code, out.read_bytes()) == (2, before)
    assert "which --exclude reads, expected another file" in message


@pytest.mark.parametrize("by", ["uncertainty", "rare", "random", "diversity"])
def test_nothing_to_choose_is_an_empty_list_and_no_error(by, tmp_path, capsys):
    run = write_run(str(tmp_path / "run"), [], failed=["bad.jpg"])

    code, document = select(capsys, run, "--by", by, "--out", str(tmp_path / "next.csv"))

    assert (code, document["selected"], document["failed_items"], document["items"]) == (0, 0, 1, [])
    assert (tmp_path / "next.csv").read_text().startswith("rank,id,frame_index,")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "next.tsv"], "--out is .*next.tsv, expected a file that ends in .csv, .jsonl, .ndjson, .parquet"),
        (["--n", "0"], "--n is 0, expected at least 1"),
        (["--min-gap-s", "-1"], "--min-gap-s is -1.0, expected 0 or more seconds"),
        (["--by", "change"], "found --by change without --against, expected both"),
        (["--against", "{run}"], "found --against with --by uncertainty, expected --by change"),
        (["--exclude", "gone.csv"], "gone.csv"),
    ],
)
def test_a_command_that_cannot_work_is_refused(words, message, run, capsys):
    code, printed = select(capsys, run, *(word.format(run=run) for word in words))

    assert code == 2
    assert re.search(message, printed), printed


def test_labels_are_found_from_the_folder_of_the_choice_too(tmp_path, capsys):
    labels = {"near": "labels/near.png", "far": "s3://labels/far.png", "none": None}
    frames = [Frame(item_id=name, passed={"label_uri": label}) for name, label in labels.items()]
    run = write_run(str(tmp_path / "run"), frames, passed=pa.schema([("label_uri", pa.string())]))

    select(capsys, run, "--out", str(tmp_path / "next.csv"))

    manifest = open_manifest(str(tmp_path / "next.csv"))
    found = {row["item_id"]: row["label_uri"] for batch in manifest.batches() for row in batch.to_pylist()}
    assert {name: label or None for name, label in found.items()} == {
        "near": "/lists/labels/near.png",
        "far": "s3://labels/far.png",
        "none": None,
    }


def test_cells_that_a_spreadsheet_computes_are_kept_and_reported(run, tmp_path, capsys, caplog):
    select(capsys, run, "--n", "20", "--out", str(tmp_path / "next.csv"))
    assert [record.getMessage() for record in caplog.records if "cells_look_like_formulas" in record.getMessage()]

    caplog.clear()
    select(capsys, run, "--n", "20", "--out", str(tmp_path / "next.parquet"))
    assert not [record for record in caplog.records if "cells_look_like_formulas" in record.getMessage()]


def test_addresses_that_no_list_can_name_are_reported(tmp_path, capsys, caplog):
    uris = {"m": "span://512+100!a.jpg/photos/all.tar", "s": "https://host/x.jpg?sig=***", "p": "/photos/p.jpg"}
    run = write_run(str(tmp_path / "run"), [Frame(item_id=name) for name in uris], uris=uris)

    select(capsys, run, "--out", str(tmp_path / "next.csv"))

    logged = [record.getMessage() for record in caplog.records if "addresses_not_listable" in record.getMessage()]
    assert ["rows=2" in line for line in logged] == [True]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("l.csv", "id,frame_index\na,3\nb,\n", [("a", 3), ("b", None)]),
        ("l.csv", "uri\nx/a.jpg\n", [("x/a.jpg", None)]),
        ("l.csv", "item_id;frame_index;uri\na;3;x\n", [("a", 3)]),
        ("l.jsonl", '{"id": "a", "frame_index": 3}\n{"id": "b"}\n', [("a", 3), ("b", None)]),
        ("l.tsv", "id\tframe_index\na\t0\n", [("a", 0)]),
        ("l.txt", "x/a.jpg\ny.jpg\n", [("x/a.jpg", None), ("y.jpg", None)]),
    ],
)
def test_lists_of_other_programs_name_items_too(name, content, expected, tmp_path):
    (tmp_path / name).write_text(content)

    assert read_chosen(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\na\n", r"it has the columns \['name'\], expected one named id or uri; rename the column of ids"),
        ("id,frame_index\na,x\n", "frame_index is 'x' in a row, expected the index of a frame, or nothing"),
        ("id,frame_index\na,-1\n", "frame_index is '-1' in a row"),
        ("id,frame_index\na,1e300\n", "frame_index is '1e300' in a row"),
        ("id,id\na,b\n", "2 columns are named id, expected one; rename or remove the others"),
        ("id,frame_index,frame_index\na,1,2\n", "2 columns are named frame_index, expected one"),
        ('id\na\n""\n', "the column id is empty in a row, expected an id"),
    ],
)
def test_a_list_that_names_nothing_is_refused(content, message, tmp_path):
    (tmp_path / "l.csv").write_text(content)

    with pytest.raises(ManifestError, match=message):
        read_chosen(str(tmp_path / "l.csv"))


def test_an_index_of_a_frame_that_is_a_list_is_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "frame_index": [[1]]}), tmp_path / "l.parquet")

    with pytest.raises(ManifestError, match=r"frame_index is \[1\] in a row"):
        read_chosen(str(tmp_path / "l.parquet"))


def test_a_list_of_frames_that_select_did_not_write_is_no_list_of_items(tmp_path):
    (tmp_path / "l.csv").write_text("id,uri,frame_index\na,x.mp4,1\na,x.mp4,9\n")

    with pytest.raises(ManifestError, match="which the masks table has too"):
        open_manifest(str(tmp_path / "l.csv"))


def test_one_id_with_two_addresses_is_refused_in_a_choice_too(tmp_path):
    (tmp_path / "l.csv").write_text("rank,id,uri,frame_index,reason\n1,a,x.mp4,1,r\n2,a,y.mp4,9,r\n")

    with pytest.raises(ManifestError, match="ids more than once"):
        open_manifest(str(tmp_path / "l.csv"))
