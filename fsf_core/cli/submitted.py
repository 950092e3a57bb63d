"""The half of `fsf submit` that runs on the cluster: `python -m fsf_core.cli.submitted --code DIGEST -- score …`.

Checks that the code is that of the client, takes the settings that the client hands over, and runs the command. Talks
to the client by lines of the log; the JSON document that the command prints on stdout is marked as its result.
Exits with the command's own code, or with EXIT_OTHER_CODE if the client has to send its code.
"""

# Nothing here may import fsspec before the settings are applied: it reads its variables when it is imported.
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fsf_core import __version__
from fsf_core.errors import ClusterError, FSFError, ResumableError
from fsf_core.process import open_standard_streams
from fsf_core.store_settings import apply_settings
from fsf_core.submit.code import code_digest
from fsf_core.submit.command import require_shared_paths
from fsf_core.submit.handover import Handover, announce, receive

EXIT_USAGE, EXIT_OTHER_CODE = 2, 87
USAGE = "usage: python -m fsf_core.cli.submitted [--code DIGEST] [--sealed JOB_ID] -- COMMAND …"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the submitted command; returns its exit code."""
    open_standard_streams()
    options, words = _split(sys.argv[1:] if arguments is None else arguments)
    announce("job_started", version=__version__, code=code_digest())
    if options.get("--code", code_digest()) != code_digest():
        announce("code_differs", version=__version__)
        return EXIT_OTHER_CODE
    try:
        handover = receive(options["--sealed"]) if "--sealed" in options else Handover(job_id="", words=words)
    except ResumableError as error:
        _show(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        return _without_library(error)
    apply_settings(handover.variables, handover.files)
    with _folder_of(handover), _result_announced():
        return _run(handover)


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the options of this module, and the command."""
    if "--" not in arguments:
        raise SystemExit(USAGE)
    at = list(arguments).index("--")
    own = arguments[:at]
    return dict(zip(own[::2], own[1::2], strict=True)), tuple(arguments[at + 1 :])


def _run(handover: Handover) -> int:
    """Run the command in this process, whose command line it becomes: credentials in it are hidden in messages."""
    sys.argv = ["fsf", *handover.words]
    try:
        require_shared_paths(handover.paths)
        from fsf_core.cli.app import main as run
    except FSFError as error:
        _show(error)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        return _without_library(error)
    return run(handover.words)


def _show(error: FSFError) -> None:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")


def _without_library(error: ModuleNotFoundError) -> int:
    """Report that the Python of the cluster cannot run fsf; returns the exit code."""
    found = f"{sys.executable} on the head of the cluster has no module {error.name}"
    _show(ClusterError(f"{found}, expected Ray and the libraries of fsf; use its image, or pass --python"))
    return EXIT_USAGE


@contextmanager
def _folder_of(handover: Handover) -> Iterator[None]:
    """Work in a folder with the files that travelled with the command, in memory."""
    if not handover.attached:
        yield
        return
    previous = Path.cwd()
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it has mode 0700
    folder = Path(tempfile.mkdtemp(prefix="fsf-submit-", dir=memory if memory.is_dir() else None))
    try:
        for name, content in handover.attached.items():
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_bytes(content)
        os.chdir(folder)
        yield
    finally:
        os.chdir(previous)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _result_announced() -> Iterator[None]:
    """Announce a JSON document on stdout as the result."""
    stream = sys.stdout
    sys.stdout = _MarkingStream(stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = stream


class _MarkingStream(io.TextIOBase):
    """A text stream that passes lines on to another one, and marks those that are JSON documents."""

    encoding = "utf-8"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""

    def writable(self) -> bool:
        """Return that it is writable."""
        return True

    def write(self, text: str) -> int:
        """Pass on whole lines."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if _is_document(line):
                announce("result", line, to=self._stream)
            else:
                self._stream.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Pass on the beginning of a line, too, unless it may become a document."""
        if not self._line.startswith("{"):
            self._stream.write(self._line)
            self._line = ""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()


def _is_document(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
