"""A refused command changes nothing: every refusal is tried at a finished run, an unfinished one, and none."""

import fcntl
import hashlib
import importlib
import json
import resource
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.cli.app import main
from fsf_core.errors import ProviderError
from fsf_core.model.bundle import Bundle
from fsf_core.model.cuda_driver import cuda_devices
from fsf_core.score import plan
from tests.support import ledger
from tests.support.refusals import REFUSALS, RUNS, SCORE, UNTRIED, Refusal, export_fast, sites, write_inputs


@pytest.fixture(scope="module")
def workspace(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Iterator[Path]:
    """The folder in which the commands run: a finished run with a failure, overlays and a rendered video."""
    folder = tmp_path_factory.mktemp("refusals")
    write_inputs(folder, Path(tiny_bundle.uri))
    (folder / "tmp").mkdir()
    importlib.import_module("onnxruntime.transformers")  # appends its folder to sys.path, which each test here restores
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(plan, "_export", export_fast)
        assert main(shlex.split(SCORE.format(run="runs/finished"))) == 0
        yield from _with_runs(folder)


def _with_runs(folder: Path) -> Iterator[Path]:
    """Make the other runs of the finished one; one of them is in use by this process."""
    runs = folder / "runs"
    for name in ("runs/other", "runs/layout", "runs/damaged", "runs/receipt", "runs/torn", "runs/listless", "in_use"):
        shutil.copytree(runs / "finished", folder / name)
    with ledger.claim_run(str(runs / "failed"), fingerprint={}, details={}):
        ledger.commit(str(runs / "failed"), ledger.broken(ledger.image("a", failed=True)))
    _make_unfinished(runs / "finished", runs / "unfinished")
    (runs / "damaged" / "run.json").write_text("{")
    facts = json.loads((runs / "layout" / "run.json").read_text())
    (runs / "layout" / "run.json").write_text(json.dumps(facts | {"layout": 99}))
    next((runs / "receipt" / "receipts").iterdir()).write_bytes(b"no receipt")
    (runs / "listless" / "manifest.json").unlink()
    shutil.copytree(runs / "unfinished", runs / "short")
    next((runs / "short" / ".attempt-0001" / "masks").iterdir()).write_bytes(b"")
    for table in (runs / "torn" / "masks").iterdir():
        table.write_bytes(b"no table")
    shutil.copytree(runs, folder.with_name("backup"))
    with (folder / "in_use" / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _make_unfinished(finished: Path, folder: Path) -> None:
    """Make a run that was killed before its first publication: all that it has is in the folder of its attempt."""
    shutil.copytree(finished, folder / ".attempt-0001")
    shutil.rmtree(folder / ".attempt-0001" / "video_stats")
    for name in ("_SUCCESS", "manifest.json", "summary.json"):
        (folder / ".attempt-0001" / name).unlink()
    (folder / ".attempt-0001" / "run.json").rename(folder / "run.json")
    for receipt in runs.receipts(str(finished)):
        for table in receipt.files:
            published, staged = receipt.published_path(table), receipt.staged_path(table)
            (folder / ".attempt-0001" / published).rename(folder / ".attempt-0001" / staged)


def _content(folder: Path) -> dict[str, tuple[int, str]]:
    """Return time and digest of every file below a folder, and its folders; without locks."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != ".lock" and path.suffix != ".pyc":
            found[str(path)] = (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        elif path.is_dir() and path.name != "__pycache__":
            found[str(path)] = (0, "folder")
    return found


def _restore(workspace: Path) -> None:
    """Give the next test the runs that this one began with."""
    shutil.rmtree(workspace / "runs")
    shutil.copytree(workspace.with_name("backup"), workspace / "runs")


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.error.__name__}: {refusal.message}")
def test_a_refused_command_changes_nothing(
    refusal: Refusal, workspace: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusal.error is ProviderError and cuda_devices()[0]:
        pytest.skip("this machine has a GPU")
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(str(workspace))
    monkeypatch.setattr(tempfile, "tempdir", str(workspace / "tmp"))
    for run in refusal.at:
        words = shlex.split(refusal.words.format(run=run))
        while words[0].startswith("FSF_"):
            monkeypatch.setenv(*words.pop(0).split("=", 1))
        before = _content(workspace)
        code = main(words)
        last = capfd.readouterr().err.strip().rpartition("\n")[2]
        changed = sorted({path for path, _ in before.items() ^ _content(workspace).items()})
        if changed:
            _restore(workspace)
        assert changed == [], run
        assert (code, last.partition(": ")[0]) == (2, refusal.error.__name__), (run, last)
        assert refusal.message in last, run


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("free_bytes", [0, 300])
def test_a_job_on_a_full_disk_changes_no_published_file(
    free_bytes: int, run: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock needs less than 300 bytes and run.json more."""
    monkeypatch.chdir(workspace)
    before = _content(workspace)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, limits[1]))
    try:
        code = main(shlex.split(SCORE.format(run=run)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    last = capsys.readouterr().err.strip().rpartition("\n")[2]
    changed = {path for path, _ in before.items() ^ _content(workspace).items()}
    _restore(workspace)
    assert "File too large" in last
    if free_bytes:
        assert code == 75, last
        assert [
            path for path in changed if ".attempt-" not in path and not path.startswith(f"{workspace}/runs/new")
        ] == []
    else:
        assert (code, changed) == (2, set()), last


def test_every_refusal_of_the_sources_is_in_the_table_and_the_table_has_no_other() -> None:
    """Whoever adds a RunError adds the command that causes it, or the reason why none does."""
    found = list(sites())
    tried = {site.place for site in found for row in REFUSALS if row.error is site.error and row.source in site.text}
    untried = {site.place for site in found if any(part in site.text for part in UNTRIED)}

    assert [(site.place, site.text) for site in found if site.place not in tried | untried] == []
    assert tried & untried == set()
    assert [row for row in REFUSALS if not any(row.error is s.error and row.source in s.text for s in found)] == []
    assert [part for part in UNTRIED if not any(part in site.text for site in found)] == []
