"""A series of nights in a bucket: what each reuses, a missed one that is caught up, two starts at once."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pytest

from fsf_core import open_run, runs, storage
from fsf_core.cli.app import main
from fsf_core.model.bundle import Bundle
from fsf_core.runs import lease
from tests.support import assets, ledger, stores
from tests.support.series import make_series, series

Fsf = Callable[..., tuple[int, dict[str, Any], str]]

IMAGES = 8


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket, and an environment with which this process and its Ray reach it."""
    with stores.seaweed(tmp_path_factory.mktemp("seaweed")) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield store.bucket
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def fsf(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, bucket: str, ray_here: None) -> Fsf:
    """Run the command in this process: returns its exit code, its last line on stdout, its log and stderr."""

    def run(*words: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        caplog.clear()
        with caplog.at_level("INFO", "fsf"):
            code = main(words)
        printed = capsys.readouterr()
        last = printed.out.strip().rpartition("\n")[2]
        return code, json.loads(last) if last.startswith("{") else {}, caplog.text + printed.err

    return run


@pytest.fixture
def score(fsf: Fsf, tiny_bundle: Bundle) -> Fsf:
    """Score a series with the options of a night."""

    def run(manifest: str, out: str, *more: str) -> tuple[int, dict[str, Any], str]:
        return fsf(
            "score", "--bundle", tiny_bundle.uri, "--manifest", manifest, "--out", out, "--provider", "cpu", *more
        )  # fmt: skip

    return run


def put(uri: str, number: int) -> None:
    storage.write_bytes(uri, assets.pillow(assets.picture(60 + number, 80), "JPEG"))


def test_nights_reuse_the_newest_finished_run_and_a_missed_one_is_caught_up(bucket: str, score: Fsf, fsf: Fsf) -> None:
    photos, out = f"{bucket}/photos", f"{bucket}/scores/date={{date}}"
    for number in range(IMAGES):
        put(f"{photos}/{number}.jpg", number)
    nightly = (photos, out, "--reuse", "latest")

    code, first, log = score(*nightly, "--date", "2024-11-18")
    assert (code, first["items"]["total"], first["reused_items"], first["reused_run"]) == (0, IMAGES, 0, None)
    assert "no finished run of date={date} can be reused" in log

    put(f"{photos}/8.jpg", 8)
    put(f"{photos}/9.jpg", 9)
    put(f"{photos}/0.jpg", 90)
    storage.remove(f"{photos}/1.jpg")
    code, second, _ = score(*nightly, "--date", "2024-11-19")
    assert (code, second["items"]["total"], second["reused_items"]) == (0, IMAGES + 1, IMAGES - 2)
    assert second["reused_run"] == f"{bucket}/scores/date=2024-11-18"

    put(f"{photos}/10.jpg", 10)
    code, fourth, _ = score(*nightly, "--date", "2024-11-21")
    assert (code, fourth["items"]["total"], fourth["reused_items"]) == (0, IMAGES + 2, IMAGES + 1)

    code, caught_up, log = score(*nightly, "--date", "2024-11-18..2024-11-21")
    assert code == 0
    states = [(night["night"], night["state"], night["reused_items"]) for night in caught_up["nights"]]
    assert states == [
        ("date=2024-11-18", "finished", 0),
        ("date=2024-11-19", "finished", IMAGES - 2),
        ("date=2024-11-20", "scored", IMAGES + 2),
        ("date=2024-11-21", "finished", IMAGES + 1),
    ]
    assert log.count("event=night_skipped") == 3
    pointer = json.loads(storage.read_bytes(f"{bucket}/scores/latest.json"))
    assert (pointer["run"], pointer["template"]) == ("date=2024-11-21", "date={date}")

    assert open_run(f"{bucket}/scores/latest").run_id == fourth["run_id"]
    for words in (("inspect", f"{bucket}/scores/latest"), ("verify", f"{bucket}/scores/latest")):
        assert fsf(*words)[0] == 0
    afresh = score(photos, f"{bucket}/afresh")[1]
    assert afresh["items"] == fourth["items"]
    rows = [ledger.sorted_rows(run, "class_stats") for run in (f"{bucket}/afresh", f"{bucket}/scores/date=2024-11-20")]
    assert rows[0] == rows[1]


def test_two_starts_at_once_do_not_overlap(bucket: str, score: Fsf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.5)
    put(f"{bucket}/one/1.jpg", 1)
    out = f"{bucket}/once/{{date}}"
    with series(f"{bucket}/once").locked():
        for date in ("2024-11-20", "2024-11-19", "2024-11-18..2024-11-20"):
            code, _, log = score(f"{bucket}/one", out, "--date", date)
            assert code == 2
            assert f"the series {out} is in use by process {os.getpid()}" in log
        assert [*storage.list_files(f"{bucket}/once")] == []
        assert score(f"{bucket}/one", f"{bucket}/once/other-{{date}}", "--date", "2024-11-20")[0] == 0
    assert score(f"{bucket}/one", out, "--date", "2024-11-20")[0] == 0


def test_a_range_goes_on_after_a_night_that_fails_and_reports_it_again(bucket: str, score: Fsf) -> None:
    for day in (18, 19, 21):
        put(f"{bucket}/days/2024-11-{day}/{day}.jpg", day)
    storage.write_bytes(f"{bucket}/days/2024-11-19/broken.jpg", b"no image")
    words = (f"{bucket}/days/{{date}}/", f"{bucket}/dated/{{date}}", "--max-failed-share", "0")
    words = (*words, "--date", "2024-11-18..2024-11-21")

    for states in (["scored", "scored", "refused", "scored"], ["finished", "finished", "refused", "finished"]):
        code, printed, log = score(*words)
        assert code == 3
        assert [night["state"] for night in printed["nights"]] == states
        assert [bool(night.get("gates") or night.get("error")) for night in printed["nights"]] == [
            False,
            True,
            True,
            False,
        ]
        assert "gate: 2024-11-19: 1 of 2 items failed" in log
        assert "gate: 2024-11-20: ManifestError: " in log
    assert runs.find_run(f"{bucket}/dated/latest") == f"{bucket}/dated/2024-11-21"
    assert score(*words[:-1], "2024-11-20..2024-11-20")[0] == 2, "nothing ran"


def test_old_nights_are_removed_in_batches_and_a_pinned_one_stays(bucket: str, fsf: Fsf) -> None:
    root = f"{bucket}/kept"
    nights = [f"2024-11-{number}" for number in (17, 18, 19, 20)]
    make_series(root, *nights)
    with ThreadPoolExecutor(16) as pool:  # more than one request deletes
        for number in range(1100):
            pool.submit(storage.write_bytes, f"{root}/2024-11-17/overlays/{number}.jpg", b"x")
    series(root).advance()
    assert fsf("pin", f"{root}/2024-11-18", "--reason", "reference")[0] == 0

    code, planned, _ = fsf("prune", root, "--keep", "30d", "--dry-run")
    assert [each["run"] for each in planned["removed"]] == ["2024-11-19", "2024-11-17"]
    code, done, _ = fsf("prune", root, "--keep", "30d")
    assert (code, done["removed"], done["bytes"]) == (0, planned["removed"], planned["bytes"])
    left = {entry.relative.partition("/")[0] for entry in storage.list_files(root, hidden=True)}
    assert left == {"2024-11-18", "2024-11-20", "latest.json", ".nights"}
    code, listed, _ = fsf("runs", root)
    assert [(each["run"], each["state"], each["pinned"]) for each in listed["runs"]] == [
        ("2024-11-20", "finished", False),
        ("2024-11-18", "finished", True),
    ]
    assert fsf("prune", root, "--keep", "30d")[1]["removed"] == []
