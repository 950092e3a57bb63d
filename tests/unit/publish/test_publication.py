"""Publications that are killed, repeated, refused, cut to a choice, or lack pictures."""

import datetime as dt
import http.server
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import StorageError
from fsf_core.publish import frames
from tests.support import picture_runs
from tests.unit.publish.conftest import files

FORMS = {"png": [], "coco": ["--segmentation", "polygon"], "hf": [], "label-studio": ["--with-images"], "cvat": []}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(frames, "CHUNK_FRAMES", 2)


def _published(folder):
    """Return the files of a publication, without what it needs until it is complete and without its own address."""
    found = {name: data for name, data in files(folder).items() if not name.startswith(".fsf-publish/")}
    return {name: data.replace(str(folder).lstrip("/").encode(), b"HERE") for name, data in found.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_killed_publication_is_completed_by_the_same_command(form, run, publish, small_chunks, tmp_path, monkeypatch):
    """After every number of files written; the result equals that of a publication in one go, byte for byte."""
    publish(run, form, tmp_path / "whole", *FORMS[form])
    expected = _published(tmp_path / "whole")
    write, lock = storage.write_bytes, threading.Lock()
    for limit in (2, 5, 9):
        out = tmp_path / f"killed-{limit}"
        left = limit

        def failing(uri, data, **options):
            nonlocal left
            with lock:
                left -= 1
                if left < 0:
                    raise StorageError("the store went away")
            write(uri, data, **options)

        monkeypatch.setattr(storage, "write_bytes", failing)
        code, _, error = publish(run, form, out, *FORMS[form])
        monkeypatch.setattr(storage, "write_bytes", write)
        if code == 0:  # with fewer files
            continue
        assert (code, "the same command goes on" in error) == (75, True)
        assert not (out / "publication.json").exists()
        (out / ".left.png.0123abcd.tmp").write_bytes(b"half of a file")
        code, document, _ = publish(run, form, out, *FORMS[form])
        assert (code, document["rows"] + document["skipped"]) == (0, 10)
        found = _published(out)
        if form == "label-studio":  # addresses of pictures have another length, and so its sizes
            assert found.pop("publication.json")
        assert found.items() <= expected.items()
        assert len(found) >= len(expected) - 1
        assert not (out / ".fsf-publish").exists()


def test_what_is_done_is_skipped(run, publish, small_chunks, tmp_path):
    _, first, _ = publish(run, "png", tmp_path / "out")
    before = files(tmp_path / "out")
    code, again, _ = publish(run, "png", tmp_path / "out")

    assert (first["rows"], first["skipped"]) == (10, 0)
    assert (code, again["rows"], again["skipped"], again["files"], again["bytes"]) == (0, 0, 10, 0, 0)
    assert files(tmp_path / "out") == before


def test_what_a_kill_at_the_very_end_left_is_removed_by_the_same_command(run, publish, tmp_path, monkeypatch):
    def failing(uri):
        raise StorageError("the store went away")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove_folder", failing)
        code, first, _ = publish(run, "coco", tmp_path / "out")
    left = (tmp_path / "out" / ".fsf-publish").exists()
    again, second, _ = publish(run, "coco", tmp_path / "out")

    assert (code, first["rows"], left) == (0, 10, True)
    assert (again, second["skipped"]) == (0, 10)
    assert not (tmp_path / "out" / ".fsf-publish").exists()


def test_a_folder_of_something_else_is_refused_and_stays_as_it_is(run, publish, small_chunks, home, items, tmp_path):
    """Other files, another run, other options, a file, a run: finished publications and killed ones."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    publish(run, "coco", tmp_path / "rle")
    publish(picture_runs.finished(tmp_path / "other", items[:2]), "coco", tmp_path / "of_other")
    killed = tmp_path / "killed" / ".fsf-publish"
    killed.mkdir(parents=True)
    (killed / "identity.json").write_text(json.dumps({"to": "coco", "run_id": "x", "options": {}}))
    publish(run, "coco", tmp_path / "older", "--segmentation", "polygon")
    done = tmp_path / "older" / "publication.json"
    document = json.loads(done.read_text())
    document["identity"]["run_sha256"] = "0" * 64  # as before its parts were merged, or more items were scored
    done.write_text(json.dumps(document))
    for name, message in {
        "notes": "holds a.txt and no publication.json",
        "file": "is a file",
        "rle": "segmentation=polygon",
        "of_other": "holds coco of run",
        "killed": "holds coco of run x (no options)",
        "older": "expected it as it is now: the run has been published again since",
        "other": "which is part of a run",
        "other/below": "which is part of a run",
    }.items():
        before = files(tmp_path)
        source = tmp_path / "other" if name == "other/below" else run
        code, _, error = publish(source, "coco", tmp_path / name, "--segmentation", "polygon")
        assert (code, message in error) == (2, True), (name, error)
        assert files(tmp_path) == before


def test_a_run_that_is_not_finished_is_refused(items, publish, tmp_path):
    run = picture_runs.finished(tmp_path / "run", items, publish=False)
    for form in (*FORMS, "delta"):
        code, _, error = publish(run, form, tmp_path / "out")
        assert (code, "is not finished (_SUCCESS is missing)" in error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_gone_or_changed_are_listed_and_tried_again(publish, small_chunks, tmp_path):
    rng = np.random.default_rng(0)
    items = [picture_runs.image(tmp_path, f"{at}.png", rng.integers(0, 4, (8, 9)).astype(np.uint8)) for at in range(6)]
    items.append(picture_runs.video(tmp_path, "clip", frames=3))
    run = picture_runs.finished(tmp_path / "run", items)
    kept = {item.item_id: item.source.read_bytes() for item in items}
    items[1].source.unlink()
    items[4].source.write_bytes(items[2].source.read_bytes())
    items[6].source.write_bytes(items[6].source.read_bytes() + b"\0")
    code, document, error = publish(run, "hf", tmp_path / "out")
    listed = [json.loads(line) for line in (tmp_path / "out" / "missing.jsonl").read_text().splitlines()]

    assert (code, document["rows"], document["pictures_missing"]) == (3, 9, 5)
    reasons = {(row["item_id"], row["frame_index"]): row["reason"] for row in listed}
    assert "changed since it was scored" in reasons["4.png", 0]
    assert [key for key in reasons if key[0] == "clip"] == [("clip", 0), ("clip", 1), ("clip", 2)]
    assert "1.png" in reasons["1.png", 0]
    assert "no picture of 1.png, frame 0" in error
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "data").to_pylist()
    assert sorted(row["item_id"] for row in rows if row["image"] is None) == ["1.png", "4.png", "clip", "clip", "clip"]
    assert all(row["mask"] for row in rows)

    for item in items:
        item.source.write_bytes(kept[item.item_id])
    code, document, _ = publish(run, "hf", tmp_path / "out")
    assert (code, document["pictures_missing"]) == (0, 0)
    assert 0 < document["skipped"] < 9
    assert not (tmp_path / "out" / "missing.jsonl").exists()
    publish(run, "hf", tmp_path / "anew")
    assert _published(tmp_path / "out") == _published(tmp_path / "anew")


LISTS = {
    "a.csv": "item_id,frame_index,reason\nbelt/clip.mp4,3,dark\nbelt/clip.mp4,1,\nring.webp,,\n",
    "a.jsonl": '{"id": "belt/clip.mp4", "frame_index": 3}\n{"id": "belt/clip.mp4", "frame_index": 1}\n'
    '{"id": "ring.webp"}\n',
}


@pytest.mark.parametrize("name", [*LISTS, "a.parquet"])
def test_a_choice_of_items_and_frames_is_published(name, run, publish, tmp_path):
    path = tmp_path / name
    if name in LISTS:
        path.write_text(LISTS[name])
    else:
        rows = [{"item_id": "belt/clip.mp4", "frame_index": 3.0}, {"item_id": "belt/clip.mp4", "frame_index": 1.0}]
        rows.append({"item_id": "ring.webp", "frame_index": None})
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    code, document, _ = publish(run, "png", tmp_path / "out", "--items", str(path))

    assert (code, document["rows"]) == (0, 3)
    found = sorted(str(path.relative_to(tmp_path / "out" / "masks")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["belt/clip.mp4/000001.png", "belt/clip.mp4/000003.png", "ring.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id\nring.web\n", "1 of 1 items that are not in the run, such as 'ring.web', did you mean ring.webp?"),
        (
            "item_id,frame_index\nbelt/clip.mp4,4\nbelt/clip.mp4,5\nring.webp,0\nring.webp,1\nempty.png,\n",
            "lists 2 of 4 frames that are not in the run, such as frame 5 of 'belt/clip.mp4', frame 1 of 'ring.webp'; ",
        ),
        ("name\nring.webp\n", "expected one named id or uri"),
        ("item_id\n", "lists nothing"),
        ("item_id,frame_index\nring.webp,first\n", "frame_index is 'first'"),
        (None, "does not exist"),
    ],
)
def test_a_choice_that_does_not_fit_the_run_is_refused(text, message, run, publish, tmp_path):
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    code, _, error = publish(run, "png", tmp_path / "out", "--items", str(tmp_path / "a.csv"))

    assert (code, message in error) == (2, True), error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("frame", ["", "7"])
def test_items_of_a_choice_that_failed_are_counted_and_named(frame, run, publish, tmp_path, caplog):
    (tmp_path / "a.csv").write_text(f"item_id,frame_index\ngone.jpg,{frame}\nring.webp,0\n")
    code, document, _ = publish(run, "png", tmp_path / "out", "--items", str(tmp_path / "a.csv"))

    assert (code, document["rows"], document["failed_items"]) == (0, 1, 1)
    assert "event=chosen_items_failed items=1 of=2 first=['gone.jpg']" in caplog.text


def test_a_picture_that_other_programs_would_turn_is_written_upright(publish, tmp_path):
    """The mask is upright; programs that ignore EXIF would show a copy turned."""
    upright_HW = np.kron(np.array([[0, 1], [2, 3], [1, 0]]), np.ones((8, 8))).astype(np.uint8)
    pixels_HWC = np.repeat((upright_HW * 60)[..., None], 3, axis=2)
    stored = cv2.imencode(".jpg", np.rot90(pixels_HWC))[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = stored[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + stored[2:]
    item = picture_runs.image(tmp_path, "turned.jpg", upright_HW)
    item.source.write_bytes(data)
    run = picture_runs.finished(tmp_path / "run", [item])
    code, _, _ = publish(run, "png", tmp_path / "out", "--with-images")
    copy = tmp_path / "out" / "images" / "turned.png"

    assert code == 0
    found_HWC = cv2.imread(str(copy), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(found_HWC, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert found_HWC.shape[:2] == upright_HW.shape


class _Signed(http.server.BaseHTTPRequestHandler):
    """A web server that sends one picture to who has the signature."""

    picture = b""

    def do_GET(self):
        allowed = self.path == "/a.png?X-Amz-Signature=abc123"
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(self.picture) if allowed else 0))
        self.end_headers()
        self.wfile.write(self.picture if allowed else b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_a_picture_with_a_signature_needs_the_manifest_that_has_it(publish, tmp_path):
    item = picture_runs.image(tmp_path, "a.png", np.eye(8, dtype=np.uint8))
    _Signed.picture = item.source.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Signed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}/a.png?X-Amz-Signature=abc123"
    (tmp_path / "list.csv").write_text(f"id,uri\na.png,{uri}\n")
    run = picture_runs.finished(tmp_path / "run", [replace(item, uri=storage.redact(uri))])
    words = ["--with-images", "--http-hosts", "127.0.0.1"]
    code, document, error = publish(run, "png", tmp_path / "out", *words)
    assert (code, document["pictures_missing"]) == (3, 1)
    assert "pass the manifest that has the full URI" in error

    code, _, error = publish(run, "png", tmp_path / "out", *words, "--manifest", str(tmp_path / "list.csv"))
    server.shutdown()
    server.server_close()
    assert (code, error.count("no picture")) == (0, 0)
    assert (tmp_path / "out" / "images" / "a.png").read_bytes() == _Signed.picture
    assert b"abc123" not in b"".join(files(tmp_path / "out").values())


def test_masks_of_the_size_of_the_network_are_refused_by_forms_that_need_that_of_the_image(items, publish, tmp_path):
    run = picture_runs.finished(tmp_path / "run", items[:2], fingerprint={"mask_size": "model"})
    for form in ("coco", "label-studio", "cvat"):
        code, _, error = publish(run, form, tmp_path / "out")
        assert (code, "score with --mask-size original" in error) == (2, True)
    assert publish(run, "png", tmp_path / "png")[0] == 0


@pytest.mark.parametrize(
    "words", [["png", "--segmentation", "rle"], ["delta", "--items", "a.csv"], ["coco", "--shard-mb", "5"]], ids=str
)
def test_an_option_that_means_nothing_to_the_form_is_refused(words, run, publish, tmp_path):
    code, _, error = publish(run, words[0], tmp_path / "out", *words[1:])

    assert (code, f"found {words[1]} with --to {words[0]}" in error) == (2, True)


def test_delta_tables_are_written_by_the_same_command(run, publish, tmp_path):
    from deltalake import DeltaTable

    before = files(Path(run))
    code, document, _ = publish(run, "delta", tmp_path / "tables")
    assert (code, document["rows_by_table"]) == (0, {"masks": 10, "class_stats": 40, "failures": 1})
    shutil.rmtree(tmp_path / "tables" / "failures")
    code, again, _ = publish(run, "delta", tmp_path / "tables")
    rows = DeltaTable(str(tmp_path / "tables" / "masks")).to_pyarrow_table()

    assert (code, rows.num_rows, again["tables"]["masks"]) == (0, 10, 2)
    assert {"orchard", "image", "tags"} <= {*rows.column_names}
    assert files(Path(run)) == before, "the run stays as it is"


def test_columns_that_delta_has_no_type_for_are_refused_by_name(publish, tmp_path):
    item = picture_runs.image(tmp_path / "in", "a.png", np.zeros((4, 4), np.uint8), clock=dt.time(3, 4))
    run = picture_runs.finished(tmp_path / "run", [item], columns=pa.schema([("clock", pa.time32("s"))]))
    code, _, error = publish(run, "delta", tmp_path / "tables")

    assert code == 2
    assert "its column 'clock' is time32" in error
    assert "nothing was published" in error
    assert not (tmp_path / "tables").exists()
