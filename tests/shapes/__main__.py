"""Draw shapes from a seed, compare the product with an independent reference, and print every mismatch.

    python -m tests.shapes images --seed 0 --cases 300 [--keep FOLDER]

The exit code is 1 if anything was found. The same seed gives the same cases; --keep leaves their files in a folder.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from pathlib import Path

SUBJECTS = ("images", "videos", "lists")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.shapes", description="Draw shapes and compare.")
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="folder for the files; without it they are removed")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fsf-shapes-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = 0
        for finding in importlib.import_module(f"tests.shapes.{options.subject}").check(
            options.seed, options.cases, folder
        ):
            found += 1
            print(f"{finding.case}\n    expected {finding.expected}\n    found    {finding.found}", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.subject}: seed {options.seed}, {options.cases} cases, {found} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
