"""Requests to the kernel for links, in one network namespace after another. A program, because it enters them.

    python links.py '[[PID, "link", {"command": "set", "ifname": "p0", "state": "down"}], …]'

Every request names a process in whose namespace it applies (0: this one's), a method of pyroute2.IPRoute and its
arguments. An argument `ifname` of a request that is not about links becomes the index of that link.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000


def _enter(pid: int) -> None:
    """Move this process into the network namespace of another one."""
    with Path(f"/proc/{pid or 'self'}/ns/net").open("rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _apply(method: str, arguments: dict[str, Any]) -> None:
    with IPRoute() as route:
        if "master" in arguments:
            arguments["master"] = route.link_lookup(ifname=arguments["master"])[0]
        if "ifname" in arguments and (method != "link" or arguments["command"] != "add"):
            arguments["index"] = route.link_lookup(ifname=arguments.pop("ifname"))[0]
        getattr(route, method)(**arguments)


def main() -> None:
    """Apply the requests of the command line, in order."""
    home = os.getpid()
    for pid, method, arguments in json.loads(sys.argv[1]):
        _enter(pid or home)
        _apply(method, arguments)


if __name__ == "__main__":
    main()
