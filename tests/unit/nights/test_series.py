"""Series of runs: listing by date, the pointer to the newest finished run, and what reads it."""

import datetime as dt
import json
import logging
import os
import re
import shutil
import socket
from pathlib import Path

import pytest

from fsf_core import open_run, runs, storage
from fsf_core.errors import OutputError
from fsf_core.nights.series import STATE
from fsf_core.nights.template import parse_date
from fsf_core.runs import lease
from tests.support.series import make_run, make_series, series

DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")


def pointer(root: str, name: str = "latest.json") -> dict[str, str]:
    return json.loads(storage.read_bytes(f"{root}/{name}"))


def test_nights_are_listed_by_the_date_in_their_path_and_other_folders_are_ignored(root):
    make_series(root, *DAYS, "2026-11-20-again", "first", "2026-1-1")
    storage.write_bytes(f"{root}/notes.txt", b"x")

    assert [night.path for night in series(root).nights()] == [*reversed(DAYS)]
    assert [night.path for night in series(root, "{date}-again").nights()] == ["2026-11-20-again"]
    assert series(f"{root}/nowhere").nights() == []


def test_nights_of_several_names_are_found_below_each_other(root):
    make_series(root, "2026/11/20/run", "2026/12/01/run", "2025/01/31/run", "2026/13/02/run", "x/y/z/run")

    found = series(root, "{date:%Y/%m/%d}/run").nights()
    assert [night.path for night in found] == ["2026/12/01/run", "2026/11/20/run", "2025/01/31/run"]
    assert found[0].uri == f"{root}/2026/12/01/run"


def test_the_pointer_names_the_newest_finished_run_by_date_and_never_goes_back(root):
    make_series(root, "2026-11-20", "2026-11-18")
    make_series(root, "2026-11-21", finished=False)
    one = series(root)
    one.advance()
    assert pointer(root) | {"written_at": ""} == {
        "layout": 1, "template": "{date}", "run": "2026-11-20", "date": "2026-11-20T00:00:00", "written_at": "",
    }  # fmt: skip

    make_run(f"{root}/2026-11-19")
    one.advance()
    assert pointer(root)["run"] == "2026-11-20", "a night that was caught up is no newer"
    make_run(f"{root}/2026-11-22")
    one.advance()
    assert pointer(root)["run"] == "2026-11-22"


def test_a_pointer_that_is_right_is_not_written_again(root):
    make_series(root, *DAYS)
    series(root).advance()
    before = storage.read_bytes(f"{root}/latest.json")
    series(root).advance()
    assert storage.read_bytes(f"{root}/latest.json") == before


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"run": 3}', b'{"run": "gone"}', None])
def test_a_lost_or_damaged_pointer_is_written_again(damage, root):
    make_series(root, *DAYS)
    if damage is not None:
        storage.write_bytes(f"{root}/latest.json", damage)
    series(root).advance()
    assert pointer(root)["run"] == DAYS[-1]


def test_a_series_without_a_finished_run_has_no_pointer(root):
    make_series(root, *DAYS, finished=False)
    series(root).advance()
    assert not storage.exists(f"{root}/latest.json")


def test_a_pointer_is_read_in_place_of_a_run(root):
    make_series(root, *(f"date={day}" for day in DAYS))
    series(root, "date={date}").advance()

    for name in ("latest", "latest/", "date=latest"):
        assert runs.find_run(f"{root}/{name}").rstrip("/") == f"{root}/date=2026-11-20"
    assert open_run(f"{root}/latest").masks().num_rows == 1
    assert runs.find_run(f"{root}/date=2026-11-18") == f"{root}/date=2026-11-18"
    assert runs.find_run(f"{root}/nowhere") == f"{root}/nowhere"


def test_the_only_series_of_a_folder_is_its_latest_whatever_its_pointer_is_named(root):
    make_series(root, "orchard-2026-11-20")
    series(root, "orchard-{date}").advance()
    storage.write_bytes(f"{root}/notes-latest.json", b"{}")

    assert runs.find_run(f"{root}/latest") == f"{root}/orchard-2026-11-20"
    assert runs.find_run(f"{root}/orchard-latest") == f"{root}/orchard-2026-11-20"


def test_of_several_series_the_one_must_be_named(root):
    make_series(root, "a-2026-11-20", "b-2026-11-21")
    for name in "ab":
        series(root, f"{name}-{{date}}").advance()

    with pytest.raises(OutputError, match="holds 2 series, expected one for latest; give a-latest or b-latest instead"):
        runs.find_run(f"{root}/latest")
    assert runs.find_run(f"{root}/a-latest") == f"{root}/a-2026-11-20"


def test_a_run_that_is_named_latest_is_that_run(root):
    make_series(root, "2026-11-20", "latest")
    series(root).advance()
    assert runs.find_run(f"{root}/latest") == f"{root}/latest"


def test_a_pointer_to_a_run_that_is_not_finished_is_refused(root):
    make_series(root, "2026-11-20")
    series(root).advance()
    storage.remove(f"{root}/2026-11-20/_SUCCESS")
    assert runs.find_run(f"{root}/latest"), "its publication was interrupted: manifest.json still lists a whole run"
    storage.remove(f"{root}/2026-11-20/manifest.json")

    with pytest.raises(OutputError, match="names '2026-11-20', which is no finished run; give"):
        runs.find_run(f"{root}/latest")


def test_where_nothing_has_finished_latest_is_no_run(root):
    with pytest.raises(OutputError, match=r"latest holds no run \(run.json is missing\)"):
        open_run(f"{root}/latest")


def test_runs_that_were_not_finished_since_the_newest_finished_one_are_reported(root, caplog):
    make_series(root, "2026-11-17", "2026-11-20", "2026-11-21", "2026-11-22", finished=False)
    make_series(root, "2026-11-18")
    with caplog.at_level(logging.WARNING):
        series(root).report_unfinished("2026-11-22")

    assert [record.message.partition(" do=")[0] for record in caplog.records] == [
        f"event=night_unfinished run={root}/2026-11-{day}" for day in (21, 20)
    ]
    assert "--date 2026-11-21 resumes it" in caplog.records[0].message


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H", "%Y%m%d-%H%M", "%Y-%m-%dT%H%M%S"])
def test_the_date_that_resumes_an_unfinished_run_of_an_hour_is_one_that_the_option_takes(root, form, caplog):
    """It was 2026-11-20T05:00:00, which --date refused."""
    path = f"{{date:{form}}}"
    unfinished = f"{dt.datetime(2026, 11, 20, 5, 30, 9, tzinfo=dt.UTC):{form}}"
    make_series(root, unfinished, finished=False)
    one = series(root, path)
    with caplog.at_level(logging.WARNING):
        one.report_unfinished("2026-11-22")
    [advice] = re.findall(r"--date (\S+) resumes it", caplog.text)

    assert one.template.folder(parse_date(advice, dt.datetime.now(dt.UTC))) == f"{root}/{unfinished}"


# --- the lock ---


def test_two_jobs_of_one_series_do_not_overlap_and_those_of_others_do(root, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    holder = rf"process {os.getpid()} on {socket.gethostname()} since 20\S+; wait for it"
    refused = pytest.raises(OutputError, match=rf"the series \S+/\{{date\}} is in use by {holder}")
    with series(root).locked():
        with series(root, "{date}-b").locked(), series(root, "b/{date}").locked():
            pass
        with refused, series(root, "{date:%F}").locked():
            pass
    with series(root).locked():
        pass


def test_a_lock_inside_a_lock_of_the_same_job_is_none(root):
    one = series(root)
    with one.locked(), one.locked():
        pass
    with one.locked():
        pass


def test_a_lock_leaves_nothing_on_a_disk(tmp_path):
    with series(str(tmp_path / "runs")).locked():
        assert (tmp_path / "runs" / STATE).exists()
    assert [*tmp_path.iterdir()] == []
    make_series(str(tmp_path / "runs"), "2026-11-20")
    with series(str(tmp_path / "runs")).locked():
        pass
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["2026-11-20"]


def test_a_lock_that_was_released_by_an_error_can_be_taken(root):
    with pytest.raises(ZeroDivisionError), series(root).locked():
        raise ZeroDivisionError
    with series(root).locked():
        pass


def test_the_root_may_be_moved(tmp_path):
    make_series(str(tmp_path / "runs"), *DAYS)
    series(str(tmp_path / "runs")).advance()
    shutil.move(tmp_path / "runs", tmp_path / "moved")

    assert runs.find_run(str(tmp_path / "moved" / "latest")) == str(tmp_path / "moved" / DAYS[-1])
    assert Path(tmp_path / "moved" / "latest.json").exists()
