"""What a job shows while it runs: log lines, or one line on a terminal."""

import io
import logging
import re
import sys

import pytest

from fsf_core.score import progress
from fsf_core.score.tracker import Progress

NOW = Progress(items=12, failed_items=1, segments=57, frames=3648, item_shares=12.5)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_line_shows_items_segments_and_frames_as_what_they_are(caplog):
    caplog.set_level("INFO", logger="fsf")
    with progress._log_lines(100) as (show, _):
        show(NOW, 56.0)

    assert caplog.messages == [
        "event=progress items=12 of_items=100 failed_items=1 segments=57 frames=3648 frames_per_s=65.1 seconds=56"
    ]


@pytest.mark.parametrize("columns", [60, 120])
def test_the_progress_line_stays_one_line_and_log_lines_appear_above_it(columns, monkeypatch):
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    for name, value in {"COLUMNS": str(columns), "LINES": "20", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with progress._terminal(100) as (show, _):
        show(NOW, 56.0)
        logging.getLogger("fsf").warning("event=something")

    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").split("\n")
    assert "12 of 100 items · 1 failed" in lines[-2]
    assert "event=something" in lines
    assert all(len(line) <= columns for line in lines)
    assert handler.stream is terminal
