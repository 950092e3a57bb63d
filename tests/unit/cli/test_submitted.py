"""The half that runs on the cluster: it checks its code, marks the result, and runs the command of the client."""

import io
import os
import sys
from pathlib import Path

import pytest

from fsf_core.cli import app, submitted
from fsf_core.cli.output import print_json, show
from fsf_core.submit import handover
from fsf_core.submit.code import code_digest
from fsf_core.submit.handover import Handover


def test_the_document_on_stdout_is_marked_and_other_lines_are_as_they_were(capsys):
    with submitted._result_announced():
        show("a table\n\n| 1 |", lines=True)
        show('{"no": "document"')
        sys.stdout.write("without an end")
        show(" of line")
        print_json({"frames": 3})

    assert capsys.readouterr().out.splitlines() == [
        "a table", "", "| 1 |", '{"no": "document"', "without an end of line", 'fsf-submit event=result {"frames": 3}'
    ]  # fmt: skip


def test_a_process_that_ends_at_once_has_marked_its_document():
    """`fsf doctor` may have to leave a thread behind that is in a call of Ray."""
    stream = io.StringIO()
    marking = submitted._MarkingStream(stream)
    marking.write('{"could_run": false}\n')

    assert stream.getvalue() == 'fsf-submit event=result {"could_run": false}\n'


@pytest.fixture
def commands(monkeypatch):
    """The commands that were run, with the folder and a variable that they had."""
    ran = []
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr("sys.argv", ["fsf"])

    def run(words):
        files = [Path(word).read_text() for word in words if Path(word).exists()]
        ran.append((tuple(words), files, os.environ.get("AWS_SECRET_ACCESS_KEY")))
        return 3

    monkeypatch.setattr(app, "main", run)
    return ran


def test_a_command_without_settings_is_run_as_it_is(commands):
    assert submitted.main(["--code", code_digest(), "--", "verify", "s3://scores/today"]) == 3
    assert commands == [(("verify", "s3://scores/today"), [], None)]


def test_other_code_runs_nothing(commands, capsys):
    assert submitted.main(["--code", "other", "--", "verify", "s3://scores/today"]) == submitted.EXIT_OTHER_CODE
    assert "event=code_differs" in capsys.readouterr().out
    assert commands == []


def test_settings_files_and_secrets_come_from_the_client(commands, monkeypatch):
    received = Handover(
        job_id="night",
        words=("score", "--config", "attached/0/job.yaml", "--manifest", "s3://k:verysecret@data/a"),
        variables={"AWS_SECRET_ACCESS_KEY": "verysecret"},
        attached={"attached/0/job.yaml": b"limit: 3"},
    )
    monkeypatch.setattr(submitted, "receive", {"night": received}.__getitem__)
    before = Path.cwd()

    assert submitted.main(["--sealed", "night", "--", "score", "--manifest", "s3://***@data/a"]) == 3
    assert commands == [(received.words, ["limit: 3"], "verysecret")]
    assert Path.cwd() == before


def test_a_path_that_is_another_one_here_is_refused(commands, monkeypatch, capsys):
    received = Handover(job_id="night", words=("verify", "/gone"), paths={"/gone": {"type": "folder"}})
    monkeypatch.setattr(submitted, "receive", {"night": received}.__getitem__)

    assert submitted.main(["--sealed", "night", "--", "verify", "/gone"]) == 2
    assert "ConfigError: /gone exists where the command was submitted, but not on the head" in capsys.readouterr().err
    assert commands == []


def test_a_python_without_the_libraries_of_fsf_is_named(monkeypatch, capsys):
    """Ray's own Python has none of them but Ray's."""
    monkeypatch.setitem(sys.modules, "fsf_core.cli.app", None)
    monkeypatch.setattr("sys.argv", ["fsf"])

    assert submitted.main(["--", "verify", "s3://scores/today"]) == 2
    assert f"ClusterError: {sys.executable} on the head of the cluster has no module" in capsys.readouterr().err


def test_a_job_without_its_settings_ends_as_resumable(commands, monkeypatch, capsys):
    monkeypatch.setattr(handover, "_take", lambda *_: None)

    assert submitted.main(["--sealed", "night", "--", "verify", "s3://scores/today"]) == 75
    assert "no settings arrived within 300 s" in capsys.readouterr().err
    assert commands == []
