"""A stub of the agent that Ray starts on every node for its dashboard.

Ray's node waits for the files with the agent's ports, and ends when the agent ends. The real agent takes 2 s to import,
and collects metrics that nothing reads here. The stub runs as a program, takes the agent's arguments, and imports only
the standard library.
"""

import os
import sys
import time
from pathlib import Path

PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
NO_PORT = "-1"
"""What Ray's agent writes if the service is not installed."""

POLL_S = 2.0


def main() -> None:
    """Write the port files, and run until the node ends."""
    arguments = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
    node = os.getppid()
    for port in PORTS:
        file = Path(arguments["session-dir"]) / f"{port}_{arguments['node-id']}"
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(NO_PORT)
        unfinished.rename(file)
    while os.getppid() == node:
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
