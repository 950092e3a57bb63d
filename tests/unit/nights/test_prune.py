"""fsf prune, fsf pin and fsf runs: what is removed, what stays, and what an interrupted removal leaves."""

import contextlib
import datetime as dt
import json
import os
from pathlib import Path

import pytest

from fsf_core import open_run, runs, storage
from fsf_core.cli.app import main
from fsf_core.errors import ConfigError, OutputError, ResumableError, StorageError
from fsf_core.nights import prune as pruning
from fsf_core.nights.overview import list_runs
from fsf_core.nights.prune import prune
from fsf_core.runs import lease, removal
from tests.support.series import make_run, make_series, series

TODAY = dt.datetime.now(dt.UTC).date()


def day(age: int) -> str:
    return str(TODAY - dt.timedelta(days=age))


def removed(done) -> list[str]:
    return sorted(each["run"] for each in done.removed)


def reasons(done) -> dict[str, str]:
    return {each["run"]: each["reason"] for each in done.kept}


def files(root: str) -> dict[str, bytes]:
    return {each.relative: storage.read_bytes(each.uri) for each in storage.list_files(root, hidden=True)}


def size_of(run: dict[str, bytes]) -> int:
    """Return the bytes of what a removal itself does not change."""
    return sum(len(data) for path, data in run.items() if not path.partition("/")[2].startswith(("run.json", ".l")))


def content(root: str, path: str) -> dict[str, bytes]:
    """Return the files of a run without its locks."""
    return {name: data for name, data in files(root).items() if name.startswith(f"{path}/") and "/.l" not in name}


def folders(root: str) -> set[str]:
    return {path.partition("/")[0] for path in files(root)}


def test_old_runs_are_removed_and_everything_else_stays_as_it_was(root):
    make_series(root, *map(day, (0, 5, 29, 40, 50, 60)))
    make_series(root, "first", f"{day(70)}-b", f"{day(80)}-b")
    storage.write_bytes(f"{root}/{day(90)}/notes.txt", b"no run")
    for path in ("{date}", "{date}-b"):
        series(root, path).advance()
    before = files(root)
    gone = [day(60), day(50), day(40)]

    done = prune(f"{root}/{{date}}", keep="30d", keep_last=None)

    assert removed(done) == gone
    assert reasons(done)[day(0)] == "it is the newest finished run"
    assert reasons(done)[day(29)] == "it is younger than the limit"
    stayed = {path: data for path, data in files(root).items() if not path.startswith(".nights/")}
    assert stayed == {path: data for path, data in before.items() if path.partition("/")[0] not in gone}
    assert done.bytes == size_of({path: data for path, data in before.items() if path.partition("/")[0] in gone})
    assert removed(prune(f"{root}/{{date}}", keep="30d", keep_last=None)) == []


def test_the_folder_above_means_every_series_whose_pointer_it_holds(root):
    make_series(root, *map(day, (0, 40)), *(f"b-{day(age)}" for age in (50, 60)), f"eval-{day(70)}", f"eval-{day(80)}")
    for path in ("{date}", "b-{date}"):
        series(root, path).advance()

    assert removed(prune(root, keep="30d", keep_last=None)) == [day(40), f"b-{day(60)}"]


def test_without_a_pointer_the_series_are_those_that_names_with_a_day_make(root):
    compact = [f"{TODAY - dt.timedelta(days=age):%Y%m%d}" for age in (40, 50)]
    make_series(root, *(f"date={day(age)}" for age in (0, 40)), *compact, "first")

    assert removed(prune(root, keep="30d", keep_last=None)) == [compact[1], f"date={day(40)}"]


def test_runs_below_several_folders_are_removed_with_the_folders_that_become_empty(root):
    paths = [f"{TODAY - dt.timedelta(days=age):%Y/%m/%d}/run" for age in (0, 400, 401)]
    make_series(root, *paths)
    done = prune(f"{root}/{{date:%Y/%m/%d}}/run", keep="30d", keep_last=None)

    assert removed(done) == sorted(paths[1:])
    assert folders(root) - {".nights"} == {paths[0][:4]}
    if storage.is_local(root):
        assert sorted(path.name for path in Path(root).iterdir() if path.name != ".nights") == [paths[0][:4]]


def test_a_dry_run_changes_nothing_and_reports_the_same(root):
    make_series(root, *map(day, (0, 40)))
    before = files(root)
    planned = prune(root, keep="30d", keep_last=None, dry_run=True)

    assert files(root) == before
    assert planned.removed == prune(root, keep="30d", keep_last=None).removed


@pytest.mark.parametrize("how", ["disk", "store"])
def test_a_run_in_use_stays(how, root, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    make_series(root, *map(day, (0, 40)))
    with runs.locked_run(f"{root}/{day(40)}", finished=True):
        for dry_run in (True, False):
            done = prune(root, keep="30d", keep_last=None, dry_run=dry_run)
            assert removed(done) == []
            assert f"is in use by process {os.getpid()}" in reasons(done)[day(40)]
    assert removed(prune(root, keep="30d", keep_last=None)) == [day(40)]


def test_a_pinned_run_stays_until_it_is_unpinned(root, capsys):
    make_series(root, *map(day, (0, 40)))
    assert main(["pin", f"{root}/{day(40)}", "--reason", "reference of November"]) == 0
    printed = json.loads(capsys.readouterr().out.strip().rpartition("\n")[2])
    assert printed == {"run": f"{root}/{day(40)}", "pinned": True, "reason": "reference of November"}
    assert json.loads(storage.read_bytes(f"{root}/{day(40)}/pinned.json"))["reason"] == "reference of November"

    assert reasons(prune(root, keep="0d", keep_last=None))[day(40)] == "it is pinned"
    assert runs.verify(f"{root}/{day(40)}") == []
    assert main(["pin", f"{root}/{day(40)}", "--unpin"]) == 0
    assert removed(prune(root, keep="0d", keep_last=None)) == [day(40)]


def test_a_run_that_is_pinned_after_it_was_listed_stays(root, monkeypatch):
    make_series(root, *map(day, (0, 40)))

    withdraw = removal.withdraw

    def pin_first(folder, path, *, state):
        assert main(["pin", f"{folder}/{path}"]) == 0
        return withdraw(folder, path, state=state)

    monkeypatch.setattr(removal, "withdraw", pin_first)
    done = prune(root, keep="30d", keep_last=None)
    assert (removed(done), reasons(done)[day(40)]) == ([], "it is pinned")


def test_a_run_that_an_unfinished_one_reuses_stays_also_of_another_series(root):
    make_series(root, *map(day, (0, 40, 41)))
    for age, path in ((40, day(1)), (41, f"b-{day(1)}")):
        reused = runs.read_document(f"{root}/{day(age)}", "run.json")["run_id"]
        make_run(f"{root}/{path}", finished=False, details={"reuse": {"run": "elsewhere", "run_id": reused}})

    done = prune(f"{root}/{{date}}", keep="30d", keep_last=None)
    assert removed(done) == []
    assert reasons(done)[day(41)] == f"b-{day(1)} has not finished and needs it"


def test_nothing_is_removed_while_the_other_series_of_a_folder_cannot_be_read(root, monkeypatch):
    """Their runs were taken for none, and what they reuse was removed."""
    make_series(root, *map(day, (0, 40)))
    reused = runs.read_document(f"{root}/{day(40)}", "run.json")["run_id"]
    make_run(f"{root}/b-{day(1)}", finished=False, details={"reuse": {"run": "elsewhere", "run_id": reused}})
    failures = iter([StorageError("the store does not respond")])
    list_names = storage.list_names

    def list_with_a_failure(folder, prefix):
        for error in failures:
            raise error
        return list_names(folder, prefix)

    monkeypatch.setattr(storage, "list_names", list_with_a_failure)

    with pytest.raises(StorageError, match="does not respond"):
        prune(f"{root}/{{date}}", keep="30d", keep_last=None)
    assert removed(prune(f"{root}/{{date}}", keep="30d", keep_last=None)) == []


def test_a_run_that_is_reused_since_it_was_withdrawn_is_brought_back(root, monkeypatch):
    """The reader of the states is called once before the runs are withdrawn, and once after."""
    make_series(root, *map(day, (0, 40, 50)))
    before = content(root, day(40))
    reused = runs.read_document(f"{root}/{day(40)}", "run.json")["run_id"]
    read_states, calls = pruning.read_states, []

    def begin_before_the_second_look(nights):
        calls.append(1)
        if len(calls) == 2:
            with pytest.raises(OutputError):
                open_run(f"{root}/{day(40)}")
            make_run(f"{root}/{day(1)}", finished=False, details={"reuse": {"run": "?", "run_id": reused}})
            return read_states(series(root).nights())
        return read_states(nights)

    monkeypatch.setattr(pruning, "read_states", begin_before_the_second_look)
    done = prune(root, keep="30d", keep_last=None)

    assert (removed(done), reasons(done)[day(40)]) == ([day(50)], f"{day(1)} has not finished and needs it")
    assert content(root, day(40)) == before


def test_unfinished_runs_go_when_they_were_not_started_lately_either(root):
    make_series(root, day(0))
    make_run(f"{root}/{day(40)}", finished=False)
    make_run(f"{root}/{day(50)}", finished=False, started_d=49)
    done = prune(root, keep="30d", keep_last=None)

    assert removed(done) == [day(50)]
    assert reasons(done)[day(40)] == "it has not finished, and was started within the limit"


def test_a_run_that_holds_another_one_or_is_a_link_stays(tmp_path):
    root = str(tmp_path / "runs")
    make_series(root, *map(day, (0, 40)), f"{day(40)}/tables/inner")
    make_series(str(tmp_path / "other"), day(50))
    (tmp_path / "runs" / day(50)).symlink_to(tmp_path / "other" / day(50))
    done = prune(root, keep="30d", keep_last=None)

    assert removed(done) == []
    assert reasons(done)[day(40)] == "it holds another run, tables/inner"
    assert reasons(done)[day(50)] == "it is a symbolic link"


def test_a_damaged_or_foreign_run_json_is_not_touched(root):
    make_series(root, *map(day, (0, 40, 50)))
    storage.write_bytes(f"{root}/{day(40)}/run.json", b"{")
    storage.write_bytes(f"{root}/{day(50)}/run.json", b'{"scripts": {}}')
    done = prune(root, keep="30d", keep_last=None)
    assert (removed(done), len([1 for reason in reasons(done).values() if "cannot be read" in reason])) == ([], 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUNS"], "nothing says what is kept; pass --keep 30d, or --keep-last 10"),
        (["RUNS", "--keep", "30"], "expected an age such as 30d, 12w or 48h"),
        (["RUNS", "--keep-last", "0"], "--keep-last is 0, expected at least 1"),
        (["RUNS/empty", "--keep", "1d"], "holds no runs with a date in their names"),
        (["RUNS/nowhere", "--keep", "1d"], "holds no runs with a date in their names"),
        ([f"RUNS/{day(0)}", "--keep", "1d"], "is one run, expected the folder above several"),
        (["RUNS/{date:%d}", "--keep", "1d"], "has folders that do not show their date"),
        (["/", "--keep", "1d"], "is no folder of runs"),
        (["~", "--keep", "1d"], "is no folder of runs"),
        (["s3://", "--keep", "1d"], "is no folder of runs"),
    ],
)
def test_options_that_name_no_series_or_no_limit_are_refused(words, message, root, capsys):
    make_series(root, *map(day, (0, 40)))
    before = files(root)
    assert main(["prune", *(word.replace("RUNS", root) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert files(root) == before


def test_the_last_line_is_one_document(root, capsys):
    make_series(root, *map(day, (0, 40)))
    size = size_of({path: data for path, data in files(root).items() if path.startswith(day(40))})
    assert main(["prune", root, "--keep", "30d", "--keep-last", "1"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()

    assert lines[:2] == [f"kept {day(0)}: it is the newest finished run", f"removed {day(40)}: 0.0 MB"]
    document = json.loads(lines[-1])
    assert document["removed"] == [{"run": day(40), "bytes": size}]
    assert (document["bytes"], document["dry_run"], len(document["kept"])) == (size, False, 1)


def test_two_commands_at_once_do_not_overlap(root, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    make_series(root, *map(day, (0, 40)))
    with lease.lease(f"{root}/.nights/prune"):
        with pytest.raises(OutputError, match=r"the retention of \S+ is in use by process"):
            prune(root, keep="30d", keep_last=None)
        assert removed(prune(root, keep="30d", keep_last=None, dry_run=True)) == [day(40)]


def test_a_run_that_is_being_removed_is_refused_by_every_command(tmp_path):
    root = "memory://bucket/refused"
    make_series(root, *map(day, (0, 40)))
    removal.withdraw(root, day(40), state=f"{root}/.nights")
    uri = f"{root}/{day(40)}"

    for command in (["inspect", uri], ["verify", uri], ["render", uri], ["pin", uri]):
        assert main(command) == 2
    refused = pytest.raises(OutputError, match="is being removed by `fsf prune`; choose another run, or start that")
    with refused:
        open_run(uri)
    with refused, runs.lock_run(uri, fingerprint={}):
        pass
    assert [each["state"] for each in list_runs(root, last=9)] == ["finished", "removing"]
    assert removed(prune(root, keep="9999d", keep_last=None)) == [day(40)], "what was begun is completed"


class StopError(StorageError):
    """Ends a removal."""


@pytest.mark.parametrize("call", ["remove", "remove_files", "rename_folder", "remove_folder"])
def test_a_removal_that_a_store_ends_is_resumable(call, root, monkeypatch):
    make_series(root, *map(day, (0, 40)))
    original = getattr(storage, call)
    stopped = []

    def stop(*arguments, **options):
        if day(40) in str(arguments) + str(options) or "trash" in str(arguments):
            stopped.append(1)
            raise StopError("the disk is gone")
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(storage, call, stop)
        ended = pytest.raises(ResumableError, match="the disk is gone; the same command goes on")
        with ended if (call.endswith("folder")) == storage.is_local(root) else contextlib.nullcontext():
            prune(root, keep="30d", keep_last=None)
    prune(root, keep="30d", keep_last=None)
    assert folders(root) - {".nights"} == {day(0)}


# --- fsf runs ---


def test_runs_lists_the_newest_nights_first(root, capsys, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    make_series(root, *map(day, (2, 3, 4)))
    make_run(f"{root}/{day(1)}", finished=False)
    main(["pin", f"{root}/{day(3)}"])
    with runs.locked_run(f"{root}/{day(1)}", finished=False):
        capsys.readouterr()
        assert main(["runs", root, "--last", "3"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()

    assert [line.split() for line in lines[:4]] == [
        ["run", "state", "items", "failed", "reused", "seconds", "pinned"],
        [day(1), "running"],
        [day(2), "finished", "1", "0", "0", "1.5"],
        [day(3), "finished", "1", "0", "0", "1.5", "yes"],
    ]
    assert [each["run"] for each in json.loads(lines[-1])["runs"]] == [day(1), day(2), day(3)]
    with pytest.raises(ConfigError, match="--last is 0"):
        list_runs(root, last=0)


def test_leases_that_a_removal_left_last_are_removed(root):
    make_series(root, day(0))
    if not storage.is_local(root):
        released = json.dumps({"host": "elsewhere", "pid": 1, "token": "x", "released": True}).encode()
        storage.write_bytes(f"{root}/{day(40)}/.lease-3", released)
    assert removed(prune(root, keep="30d", keep_last=None)) == []
    assert folders(root) - {".nights"} == {day(0)}
