"""The exit code of a submitted job, from what the cluster knows about its end."""

import signal
from dataclasses import dataclass
from typing import Any

from fsf_core.errors import ResumableError

RESUMABLE = ResumableError.exit_code
NOTHING_RAN = 2
SHELL_FOUND_NO_PROGRAM = (126, 127)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job ended."""

    code: int
    """What the command exits with: 0 if and only if the job did."""
    reason: str | None
    """What the job's own log does not say."""


def outcome_of(details: Any, *, stop_signal: int | None = None, is_lost: bool = False) -> Outcome:
    """Return how a job ended.

    Args:
        details: Ray's JobDetails of a job in a terminal state.
        stop_signal: the signal at which this client stopped the job.
        is_lost: whether the cluster does not know the job any more.
    """
    if is_lost:
        reason = "the cluster does not know the job any more: its head was started again; the same command resumes"
        return Outcome(code=RESUMABLE, reason=reason)
    status = str(details.status)
    if status == "STOPPED":
        return _stopped(stop_signal)
    return Outcome(code=0, reason=None) if status == "SUCCEEDED" else _failed(details)


def _failed(details: Any) -> Outcome:
    code = details.driver_exit_code
    if code is None:
        return Outcome(code=RESUMABLE, reason=_why_without_code(details))
    if code < 0:
        return Outcome(code=128 - code, reason=_killed(-code))
    if code in SHELL_FOUND_NO_PROGRAM:
        reason = "the head of the cluster has no such Python on its PATH; pass --python with its whole path"
        return Outcome(code=NOTHING_RAN, reason=reason)
    return Outcome(code=code or RESUMABLE, reason=None if code else "Ray reports a failure with exit code 0")


def _stopped(stop_signal: int | None) -> Outcome:
    if stop_signal is not None:
        return Outcome(code=128 + stop_signal, reason="the job was stopped; the same command resumes")
    reason = "somebody else stopped the job (`ray job stop`, or the dashboard); the same command resumes"
    return Outcome(code=128 + signal.SIGTERM, reason=reason)  # which is what a stopped job gets


def _killed(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (is the head short of memory?)" if number == signal.SIGKILL else ""
    return f"the job's driver was killed by {name}{hint}; the same command resumes"


def _why_without_code(details: Any) -> str:
    """Return why Ray knows no exit code: the driver did not start, or its supervisor ended."""
    error = getattr(details.error_type, "value", details.error_type)
    message = " ".join(str(details.message or "").split())[:600]
    return f"the job ended without an exit code ({error or 'no reason is known'}): {message}; the same command resumes"
