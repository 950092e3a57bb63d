"""In place of the agent that Ray starts on every node for a dashboard: says that it offers nothing, and stays.

Ray's node waits for the agent's ports and ends where it ends. Theirs imports 2 s of Python, and gathers figures that
nobody asks for. Runs as a program of its own with the arguments of theirs, and imports nothing but Python's own.
"""

import os
import sys
import time
from pathlib import Path

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
NO_PORT = "-1"
"""As Ray's own agent writes where what it would serve is not installed."""

LOOK_EVERY_S = 2.0


def main() -> None:
    """Write the files that the node waits for, and stay for as long as it lives."""
    given = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
    node = os.getppid()
    for port in PORTS:
        file = Path(given["session-dir"]) / f"{port}_{given['node-id']}"
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(NO_PORT)
        unfinished.rename(file)
    while os.getppid() == node:
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
