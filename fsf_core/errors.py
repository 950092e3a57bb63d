"""Every way a run or an item can fail, as one tree.

A run error stops the job before the first model call (exit code 2). An item error becomes a row in `failures`, and no
other item is affected. Every message says what was found, what was expected and what to do.
"""

import difflib
import signal
from collections.abc import Iterable
from typing import Self

from fsf_core.safe_text import printable, redact_message


class FSFError(Exception):
    """An error that this project raises on purpose.

    Its message shows no credential and does not act on a terminal, wherever it is raised, kept or printed.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_shown(arg) if isinstance(arg, str) else arg for arg in args))


class RunError(FSFError):
    """The job cannot run as it was asked to; the message says what to change."""


class ConfigError(RunError):
    """An option, or a combination of options, is invalid."""


class ManifestError(RunError):
    """The manifest is unreadable, empty, incomplete or ambiguous."""


class CheckpointError(RunError):
    """The weights do not fit the network, or the file is no checkpoint."""


class BundleError(RunError):
    """The bundle is incomplete, altered, or of a version that this program does not read."""


class ProviderError(RunError):
    """The execution provider that was asked for is not the one that would run."""


class ParityError(RunError):
    """The exported model does not equal the original."""


class OutputError(RunError):
    """The output folder belongs to another run, is in use, or cannot be written."""


class DamagedPartError(OutputError):
    """A committed part is not as its receipt describes it."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickle with both arguments, as errors that workers raise are."""
        return type(self), (self.part, str(self))


class ItemNotFoundError(RunError, LookupError):
    """The run has no such item or frame."""


class ClusterError(RunError):
    """The cluster cannot hold this job."""


class StorageError(RunError):
    """A store refuses every request: wrong credentials, missing bucket, unknown scheme."""


class GateError(FSFError):
    """The job ran, and a gate refuses its result (exit code 3)."""

    exit_code = 3


class ResumableError(FSFError):
    """Work that had begun could not be finished; the same command resumes it."""

    exit_code = 75
    """EX_TEMPFAIL of sysexits.h."""


class LeaseLostError(ResumableError):
    """Another job took the run folder over while this one was paused."""


class InterruptedRunError(FSFError):
    """A signal ended the job; the run can be resumed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}; start the same command again to resume")
        self.number = number
        self.exit_code = 128 + number

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        """Pickle by the number: the message is made of it."""
        return type(self), (self.number,)


class ItemError(FSFError):
    """One item cannot be scored; it becomes a row in `failures`, and the run goes on."""


class FetchError(ItemError):
    """The bytes could not be read."""


class DecodeError(ItemError):
    """The bytes are no image or video that can be decoded."""


class LimitError(ItemError):
    """The item exceeds a limit of size, time or memory."""


class LabelError(ItemError):
    """The ground truth does not fit its image."""


class MaskError(ItemError):
    """The scores could not be made into a class map."""


def _shown(message: str) -> str:
    return printable(redact_message(message), lines=True)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ", did you mean X?" for the closest of the words, or "" if none is close."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f", did you mean {close[0]}?" if close else ""
