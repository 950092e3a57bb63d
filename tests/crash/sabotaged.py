"""fsf with a fault on purpose: `_SUCCESS` is never taken away before a published run changes.

For the proof that the crash harness finds what it is there to find: a harness that cannot fail is worth nothing.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from fsf_core.cli.app import main


def keep_the_mark() -> None:
    """Ignore removals of `_SUCCESS`, and renames that take it away, in this process."""

    def sparing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **options: Any) -> None:
            folder, _, name = os.fsdecode(path).rpartition("/")
            if name != "_SUCCESS" or folder.rpartition("/")[2].startswith("."):
                function(path, *rest, **options)

        return call

    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, sparing(getattr(os, name)))


if __name__ == "__main__":
    keep_the_mark()
    sys.exit(main())
