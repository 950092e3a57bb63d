"""Exit codes tell a scheduler what to do, the reason comes last, and standard streams never get in the way."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fsf_core import errors
from fsf_core.cli import app, score
from fsf_core.process import SIGNALS, interruptible

JOB = ["score", "--bundle", "b", "--manifest", "photos", "--out", "runs/today"]
ROOT = Path(__file__).parents[3]


def ends_with(monkeypatch, error):
    def run(_):
        raise error

    monkeypatch.setattr(score, "run", run)
    return app.main(JOB)


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (errors.ConfigError("wrong"), 2, "ConfigError: wrong"),
        (errors.StorageError("refused"), 2, "StorageError: refused"),
        (errors.GateError("too many failures"), 3, "GateError: too many failures"),
        (errors.ResumableError("disk full"), 75, "ResumableError: disk full"),
        (errors.LeaseLostError("taken over"), 75, "LeaseLostError: taken over"),
        (errors.FSFError("a bug"), 1, "FSFError: a bug"),
        (
            PermissionError(13, "Permission denied", "/x"),
            2,
            "PermissionError: [Errno 13] Permission denied: '/x'; check",
        ),
        (MemoryError(), 2, "MemoryError: this machine has too little memory; free some"),
        (RecursionError("maximum"), 2, "RecursionError: an option or a file is nested too deeply; simplify it"),
        (KeyError("a"), 1, "unexpected KeyError: 'a'; this is a bug, report it with the lines above"),
    ],
)
def test_every_error_has_its_code_and_its_reason_comes_last(error, code, last, monkeypatch, capsys):
    assert ends_with(monkeypatch, error) == code
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith(last)
    assert ("Traceback" in "\n".join(printed)) == last.startswith("unexpected"), "tracebacks are for bugs alone"


def test_the_place_in_an_expression_is_shown_above_the_reason(monkeypatch, capsys):
    error = errors.ConfigError("--where has '<'")
    error.add_note("  a < < 3\n      ^")
    assert ends_with(monkeypatch, error) == 2

    assert capsys.readouterr().err == "  a < < 3\n      ^\nConfigError: --where has '<'\n"


def test_passwords_are_hidden_in_unexpected_errors_too(monkeypatch, capsys):
    ends_with(monkeypatch, ValueError("https://user:secret@host/x"))
    assert "secret" not in capsys.readouterr().err


@pytest.fixture
def heard_signals():
    """Let no signal be ignored: a shell's background job, and what nohup starts, inherit that."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_that_ends_a_job_has_its_code(number, monkeypatch, capsys):
    before = [signal.getsignal(each) for each in SIGNALS]
    handlers = {}

    def run(_):
        try:
            signal.raise_signal(number)
        finally:
            handlers.update({each: signal.getsignal(each) for each in SIGNALS})

    monkeypatch.setattr(score, "run", run)
    assert app.main(JOB) == 128 + number
    assert handlers[signal.SIGTERM] is signal.SIG_DFL, "a second one kills"
    assert handlers[signal.SIGHUP] is signal.SIG_IGN, "a closing terminal sends it again"
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert f"interrupted by {number.name}; start the same command again" in capsys.readouterr().err


def test_a_signal_that_a_library_swallows_ends_the_job_at_the_next_step(monkeypatch):
    def run(_):
        with contextlib.suppress(Exception):  # as Ray does while it starts
            signal.raise_signal(signal.SIGTERM)
        with interruptible():
            pytest.fail("the job went on")

    monkeypatch.setattr(score, "run", run)
    assert app.main(JOB) == 143


def test_a_signal_that_the_parent_ignores_stays_ignored(monkeypatch):
    monkeypatch.setattr(score, "run", lambda _: signal.raise_signal(signal.SIGHUP) or 0)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert app.main(JOB) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


FSF = f"{sys.executable} -m fsf_core.cli"
GOOD, WRONG = f"{FSF} export --help", f"{FSF} verify nowhere"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{GOOD} | head -0", 0),
        (f"{GOOD} | head -1", 0),
        (f"{GOOD} > /dev/full", 0),
        (f"{GOOD} >&-", 0),
        (f"{GOOD} <&- >&- 2>&-", 0),
        (f"{WRONG} 2>&-", 2),
        (f"{WRONG} 2> /dev/full", 2),
        (f"{WRONG} 2>&1 >&- | head -0", 2),
        (f"{WRONG} <&- >&- 2>&-", 2),
    ],
)
def test_what_cannot_be_printed_changes_nothing(line, code, tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr == ""


def test_a_file_that_the_job_opens_does_not_become_its_stdout(tmp_path):
    """With stdout closed, the first file gets descriptor 1."""
    code = (
        "import os, sys; from fsf_core.process import open_standard_streams; open_standard_streams(); "
        "file = open(sys.argv[1], 'w'); print('printed'); os.write(1, b'printed')"
    )
    words = [sys.executable, "-c", code, tmp_path / "data"]
    subprocess.run(["bash", "-c", '"$@" >&-', "bash", *words], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "data").read_text() == ""


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fsf_core.cli", "verify", os.fsencode(tmp_path) + b"/\xff"],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr


def test_a_removed_current_folder_is_named_as_the_reason(tmp_path):
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["bash", "-c", f"cd gone; rmdir ../gone; {WRONG}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("ConfigError: the current folder cannot be used: No such file")
    assert "Traceback" not in done.stderr
