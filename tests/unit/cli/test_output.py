"""What the command prints: no credentials, nothing that acts on a terminal, on any channel."""

import json
import logging

import pytest

from fsf_core import logs
from fsf_core.cli.app import main
from fsf_core.cli.output import print_json, show, show_error

HOSTILE = "s3://KEY:s3cretWord@bucket/\x1b[2J\x9b31m\u202ea\nb"


def assert_safe(printed, lines=1):
    assert "s3cretWord" not in printed
    assert not {*printed} & {*"\x1b\x9b\u202e"}
    assert printed.count("\n") == lines


def test_every_channel_is_redacted_and_escaped(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logs.configure(logs.LogSettings())
    logger = logging.getLogger("fsf")
    show(HOSTILE)
    assert_safe(capsys.readouterr().out)
    show(HOSTILE, lines=True)
    assert_safe(capsys.readouterr().out, lines=2)
    show_error(HOSTILE)
    assert_safe(capsys.readouterr().err)
    logger.info("event=x out=%s", HOSTILE)
    logger.warning("event=y out=%r", HOSTILE)
    logging.getLogger("library").warning(HOSTILE)
    assert_safe(capsys.readouterr().err, lines=3)
    print_json({"run": HOSTILE})
    printed = capsys.readouterr().out
    assert_safe(printed)
    assert json.loads(printed) == {"run": HOSTILE.replace("KEY:s3cretWord", "***")}


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--bundle", "b", "--manifest", "m", "--out", "o", "--limit", HOSTILE],
        ["score", "--bundle", "b", "--manifest", "m", "--out", "o", "--provider", HOSTILE],
        ["score", "--bundle", "b", "--manifest", "m", "--out", "o", f"--{HOSTILE}"],
        ["score", "--bundle", "b", "--manifest", "m", "--out", "o", "--palette", HOSTILE],
        ["verify", "a", HOSTILE],
        ["verify", HOSTILE.replace("s3", "none")],
        ["score", "--config", HOSTILE],
        [HOSTILE],
    ],
)
def test_what_a_user_typed_is_safe_in_the_message_about_it(words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fsf", *words])
    assert main(words) == 2
    printed = "".join(capsys.readouterr())
    assert_safe(printed)
    assert "Error: " in printed
