"""Run drills, one after another, and print a table of how they ended.

    python -m tests.drills                          all of them, some minutes each
    python -m tests.drills worker-cut head-killed   these

Needs root, for hosts as namespaces. Exits with 1 if a drill ended wrongly.
"""

import argparse
import sys
import time

from tests.drills.catalogue import DRILLS
from tests.drills.workload import make_workload, scratch
from tests.support.namespaces import why_no_hosts


def main() -> int:
    """Run the drills of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DRILLS))
    names = parser.parse_args().names or [*DRILLS]
    if unknown := {*names} - {*DRILLS}:
        parser.error(f"no drill {', '.join(sorted(unknown))}; there are {', '.join(DRILLS)}")
    if reason := why_no_hosts():
        sys.exit(reason)
    wrong = 0
    with scratch() as folder:
        work = make_workload(folder)
        print(f"{'drill':26}{'exit codes':>12}{'end s':>8}{'pause s':>9}{'all s':>8}  note", flush=True)
        for name in names:
            began = time.monotonic()
            try:
                found = DRILLS[name](work, folder / name)
            except AssertionError as error:
                wrong += 1
                print(f"{name:26}{'WRONG':>12}{'':17}{time.monotonic() - began:8.0f}  {error}", flush=True)
            else:
                codes = ", ".join(map(str, found.codes))
                pause = "" if found.standstill_s is None else f"{found.standstill_s:.0f}"
                times = f"{found.ended_s:8.0f}{pause:>9}{time.monotonic() - began:8.0f}"
                print(f"{name:26}{codes:>12}{times}  {found.note}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
