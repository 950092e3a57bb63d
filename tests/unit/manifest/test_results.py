"""A list never holds the pictures, videos and tables of runs, its own or others, wherever it finds them."""

import json
import logging

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from fsf_core import storage
from fsf_core.errors import ManifestError
from fsf_core.manifest import open_manifest

RUN_JSON = json.dumps({"layout": 2, "run_id": "r", "fingerprint": {}, "attempts": []}).encode()

MEDIA = ("1.jpg", "sub/2.jpg", "overlays/3.jpg")

RESULTS = ("overlays/a.jpg", "videos/b.mp4", "masks/part.parquet", ".attempt-1/videos/c.mp4", "bundle/d.png")


@pytest.fixture(params=["disk", "store"])
def home(request, tmp_path):
    """A folder on a disk or in a store with MEDIA in `media`."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
    base = str(tmp_path) if request.param == "disk" else "memory://bucket"
    put(base, *(f"media/{name}" for name in MEDIA))
    yield base
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def put(home, *names):
    for name in names:
        storage.write_bytes(storage.join(home, name), b"x")


def put_run(home, folder, run_json=RUN_JSON):
    put(home, *(f"{folder}/{name}" for name in RESULTS))
    storage.write_bytes(storage.join(home, folder, "run.json"), run_json)


def ids(uri, **options):
    return [item for batch in open_manifest(uri, **options).batches() for item in batch.column("item_id").to_pylist()]


@pytest.mark.parametrize("pattern", ["", "/", "/**/*.*", "/**/*"])
def test_runs_below_a_folder_are_left_out_of_folders_and_globs(pattern, home):
    expected = ids(f"{home}/media{pattern}")
    put_run(home, "media/run")
    put_run(home, "media/sub/nightly/2026-11-27")

    assert sorted(expected) == sorted(MEDIA)
    assert ids(f"{home}/media{pattern}") == expected


@pytest.mark.parametrize("pattern", ["media/*/*.jpg", "media/*/overlays/*.jpg", "media/**/videos/*"])
def test_a_pattern_that_names_what_runs_hold_finds_none_of_it(pattern, home):
    put_run(home, "media/run")
    put(home, "media/videos/overlays/4.jpg", "media/videos/5.jpg")

    assert not [name for name in ids(f"{home}/{pattern}") if "run/" in name]


def test_pictures_of_one_run_can_be_scored_by_their_own_folder(home):
    put_run(home, "media/run")

    assert ids(f"{home}/media/run/overlays") == ids(f"{home}/media/run/overlays/*") == ["a.jpg"]


@pytest.mark.parametrize("pattern", ["", "/**/*"])
@pytest.mark.parametrize("written", ["media/out", "media/out/"])
def test_the_folder_that_the_job_writes_is_left_out_before_it_is_a_run_and_after(written, pattern, home):
    outputs = [f"{home}/{written}", f"{home}/elsewhere"]
    first = ids(f"{home}/media{pattern}", outputs=outputs)
    put(home, "media/out/bundle/d.png", "media/out/overlays/a.jpg", "media/outer.jpg")
    second = ids(f"{home}/media{pattern}", outputs=outputs)
    put_run(home, "media/out")

    assert sorted(second) == sorted([*first, "outer.jpg"])
    assert ids(f"{home}/media{pattern}", outputs=outputs) == second


@pytest.mark.parametrize(
    ("listed", "written"), [("media", "link/out"), ("link", "media/out"), ("media", "media/../media/out")]
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_folder_that_the_job_writes_may_be_written_in_another_way(scheme, listed, written, tmp_path):
    put(str(tmp_path), "media/1.jpg", "media/out/overlays/a.jpg")
    (tmp_path / "link").symlink_to("media")

    assert ids(f"{tmp_path}/{listed}", outputs=[f"{scheme}{tmp_path}/{written}"]) == ["1.jpg"]
    assert ids(f"{scheme}{tmp_path}/{listed}", outputs=[f"{tmp_path}/{written}"]) == ["1.jpg"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", b'{"layout": 1, "run_id": 2}', b"[" * 100_000, b'{"fingerprint": 1}']
)
def test_a_run_json_of_another_program_hides_nothing(content, home):
    put_run(home, "media/run", content)

    assert {"run/overlays/a.jpg", "run/videos/b.mp4"} < {*ids(f"{home}/media")}
    assert "run/overlays/a.jpg" in ids(f"{home}/media/**/*.jpg")


def test_tables_of_runs_are_no_lists(home):
    def write(name, columns):
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.table(columns), sink)
        storage.write_bytes(storage.join(home, name), sink.getvalue().to_pybytes())

    write("lists/day.parquet", {"uri": ["/a.jpg"]})
    write("lists/run/masks/part.parquet", {"item_id": ["/b.jpg"]})
    storage.write_bytes(f"{home}/lists/run/run.json", RUN_JSON)

    assert ids(f"{home}/lists") == ["/a.jpg"]


def test_left_out_folders_are_logged_and_do_not_change_the_count_of_files(home, caplog):
    put(home, "media/notes.txt")
    before = open_manifest(f"{home}/media").left_out
    put_run(home, "media/run")
    put_run(home, "media/sub/other")
    with caplog.at_level(logging.INFO, "fsf"):
        assert open_manifest(f"{home}/media").left_out == before == 1

    assert "event=results_left_out folders=2" in caplog.text
    assert f"{home}/media/run" in caplog.text


def test_a_folder_of_nothing_but_results_is_refused_with_the_reason(home):
    put_run(home, "nightly/run")

    for uri in (f"{home}/nightly", f"{home}/nightly/run", f"{home}/nightly/**/*.jpg"):
        with pytest.raises(ManifestError, match=r"1 folders are runs or outputs of this job"):
            open_manifest(uri)
