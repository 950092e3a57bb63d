"""Log lines as JSON: every event of the program as typed fields, one object per line, and no credential in it."""

import ast
import contextlib
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fsf_core import logs
from fsf_core.cli.app import main
from fsf_core.score import work_log
from fsf_core.score.work_log import FailureBudget, log_commit
from fsf_core.storage import redact

ROOT = Path(__file__).parents[2]
HOSTILE = "s3://KEY:s3cretWord@bucket/\x1b[2J\u202ea\nb 'c' \"d\" =e"
SHOWN = "s3://***@bucket/\x1b[2J\u202ea\nb 'c' \"d\" =e"


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of this process, and the handlers that a test adds, as they were."""
    monkeypatch.setattr(logs._Current, "settings", logs.LogSettings())
    logger, root = logging.getLogger("fsf"), logging.getLogger()
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(root, "handlers", [])
    level, propagate = logger.level, logger.propagate
    yield
    logger.setLevel(level)
    logger.propagate = propagate
    logging.captureWarnings(capture=False)


@contextlib.contextmanager
def json_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Yield a list that holds the JSON lines of the block at its end."""
    stream, lines = io.StringIO(), []
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    logs.configure(logs.LogSettings(format="json"))
    yield lines
    assert not {*stream.getvalue()} & {*"\x1b\u202e"}
    assert "s3cretWord" not in stream.getvalue()
    lines += map(json.loads, stream.getvalue().splitlines())


def test_fields_are_typed(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("fsf")
    with json_lines(monkeypatch) as lines:
        log.info("event=progress items=%d frames_per_s=%.1f seconds=%.0f out=%s", 3, 2.04, 7.9, "a b=c")
        logs.set_fields(run_id="r1")
        log.warning("event=item_failed item=%r names=%r error=%r do='wait a bit'", HOSTILE, ["a", "b"], HOSTILE)

    first, second = lines
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "INFO", "event": "progress", "items": 3, "frames_per_s": 2.0, "seconds": 8, "out": "a b=c",
    }  # fmt: skip
    assert second.pop("time")
    assert second == {
        "level": "WARNING", "event": "item_failed", "run_id": "r1", "item": SHOWN, "names": ["a", "b"],
        "error": SHOWN, "do": "wait a bit",
    }  # fmt: skip


def test_what_others_log_and_warn_of_is_one_object_too(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with json_lines(monkeypatch) as lines:
        logging.getLogger("library").warning("%d things\nat %s", 2, HOSTILE)
        try:
            int(HOSTILE)
        except ValueError:
            logging.getLogger("fsf").exception("event=broken")
        logging.getLogger("fsf").info("%s", f"event=ray_patch_off patch=a.b reason={HOSTILE!r}")
        logging.getLogger("fsf").info("event=twice event=twice")

    assert [line["event"] for line in lines] == ["log", "broken", "ray_patch_off", "log"]
    assert lines[0]["message"] == f"2 things\nat {SHOWN}"
    assert lines[1]["traceback"].startswith("Traceback")
    assert lines[2]["reason"] == SHOWN


def _logged_templates() -> list[tuple[str, int, str]]:
    """Return the template of every call of a logger in the program, with its place."""
    found = []
    for path in sorted((ROOT / "fsf_core").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.func.attr in {"debug", "info", "warning", "error", "exception"}
            ):
                template = node.args[0]
                assert isinstance(template, ast.Constant), f"{path.name}:{node.lineno}: the template is no literal"
                found.append((path.name, node.lineno, str(template.value)))
    return found


def test_every_event_of_the_program_has_fields() -> None:
    templates = _logged_templates()
    assert len(templates) > 20
    for name, number, template in templates:
        if template != "%s":
            fields = logs.event_fields(re.sub(r"%(\.\d+)?[a-z]", "1", template), ())
            assert fields, f"{name}:{number}: {template!r} is not event=… key=%s …"
            assert not {*fields} & {"time", "level", "run_id"}, f"{name}:{number}"


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--bundle", "b", "--manifest", "m", "--out", HOSTILE, "--log-format", "json"],
        ["--log-format=json", "verify", HOSTILE],
        ["score", "--log-format", "json", f"--{HOSTILE}"],
        [HOSTILE, "--log-format", "json"],
    ],
)
def test_the_reason_is_the_last_line_and_an_object(
    words: list[str], restored: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["fsf", *words])
    assert main(words) == 2
    printed = capsys.readouterr()
    reason = json.loads(printed.err.splitlines()[-1])

    assert not printed.out
    assert "s3cretWord" not in printed.err
    assert {*reason} == {"time", "level", "event", "error_type", "message", "exit_code"}
    assert (reason["level"], reason["event"], reason["exit_code"]) == ("ERROR", "error", 2)
    assert reason["error_type"].endswith("Error")


def test_a_bug_is_an_object_after_that_of_its_traceback(
    restored: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsf_core.cli.app._run", lambda _: 1 // 0)
    monkeypatch.setenv("FSF_LOG_FORMAT", "json")
    assert main([]) == 1
    trace, reason = map(json.loads, capsys.readouterr().err.splitlines())

    assert trace["message"].startswith("Traceback")
    assert (reason["error_type"], reason["exit_code"]) == ("ZeroDivisionError", 1)


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        ([], "", "text"),
        ([], "json", "json"),
        (["--log-format", "text"], "json", "text"),
        (["score", "--log_format=json"], "", "json"),
        (["submit", "--", "score", "--log-format", "json"], "", "text"),
    ],
)
def test_the_flag_comes_before_the_variable_and_ends_at_another_command(
    words: list[str], variable: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsf_core.cli.sources import log_format

    monkeypatch.setenv("FSF_LOG_FORMAT", variable)
    assert log_format(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "--log-format", "yaml"], "--log-format is 'yaml', expected text or json"),
        (["score", "--log-format"], "--log-format is '', expected text or json"),
        (["--log-format", "json", "score", "--log-format", "json"], "--log-format is given 2 times"),
    ],
)
def test_another_format_is_refused(
    words: list[str], message: str, restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


_WORKER = """
import logging
from fsf_core import logs

log = logging.getLogger("fsf")
log.info("event=before")
logs.follow(logs.LogSettings(format=FORMAT, fields={"run_id": "r1"}))
logs.follow(logs.LogSettings(format=FORMAT, fields={"run_id": "r1"}))
log.info("event=part_committed part=%s units=%d", "part-a", 3)
logs.follow(logs.LogSettings(format=FORMAT, fields={"run_id": "r2"}))
log.info("event=part_committed part=%s units=%d", "part-b", 4)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_worker_logs_as_the_driver_of_its_job_does(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER.replace("FORMAT", repr(form))],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    if form == "json":
        assert [(line["run_id"], line["part"], line["units"]) for line in map(json.loads, lines)] == [
            ("r1", "part-a", 3), ("r2", "part-b", 4),
        ]  # fmt: skip
    else:
        assert lines[0].endswith("level=INFO event=part_committed part=part-a units=3 run_id=r1")
        assert lines[1].endswith("run_id=r2")


def _failed_units(count: int) -> pa.Table:
    rows = [
        {"item_id": f"i{number}", "segment": 0, "failed_stage": "decode", "error_type": "FetchError",
         "error_message": f"{redact(HOSTILE)} is gone"}
        for number in range(count)
    ]  # fmt: skip
    whole = {"item_id": "ok", "segment": 0, "failed_stage": None, "error_type": None, "error_message": None}
    return pa.Table.from_pylist([whole, *rows])


def test_failed_items_are_logged_at_a_bounded_rate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="fsf")
    now = [0.0]
    monkeypatch.setattr(work_log.time, "monotonic", lambda: now[0])
    budget = FailureBudget()
    log_commit([], _failed_units(work_log.MAX_FAILURES + 5), budget=budget)
    assert len(caplog.messages) == work_log.MAX_FAILURES
    assert caplog.messages[0].startswith("event=item_failed item='i0' segment=0 stage=decode error_type=FetchError")
    now[0] += work_log.PER_S
    caplog.clear()
    log_commit([], _failed_units(1), budget=budget)

    assert [message.split()[:2] for message in caplog.messages] == [
        ["event=failures_not_logged", "units=5"], ["event=item_failed", "item='i0'"],
    ]  # fmt: skip
