"""Starts a job once: under an id that is chosen beforehand, so that a lost response starts no second one."""

import datetime as dt
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fsf_core.errors import ConfigError, ResumableError
from fsf_core.submit.code import EXCLUDED, HOME
from fsf_core.submit.jobs_client import JobsClient, RequestFailedError, UnreachableError

COMMAND_KEY, REQUEST_KEY = "fsf_command", "fsf_request"
"""Metadata of a job: the digest of its command, and a random number of the request that started it."""

RETRY_S = 2.0
NOT_FOUND = 404

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job to be started."""

    base_id: str
    """Id of the job; a number is appended if a job of that id has ended."""
    is_exact: bool
    """Whether the id must be this one."""
    digest: str
    """Digest of the command."""
    entrypoint: Callable[[str], str]
    """Job id to command line."""
    metadata: Mapping[str, str]
    stop_wait_s: int
    """Seconds between SIGTERM and SIGKILL when the job is stopped."""
    driver_cpus: float
    ships_code: bool


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A job that runs."""

    job_id: str
    is_new: bool
    """Whether this request has started it; else it ran already."""


def default_id(
    command: Sequence[str], target: str | None, digest: str, now: dt.datetime, *, dates: str | None = None
) -> str:
    """Return a readable id: day, command, the end of the folder that it writes, and the digest of the command.

    Args:
        command: the command line.
        target: the folder that it writes.
        digest: of the command.
        now: the day, where the command does not name its own.
        dates: the option --date. After midnight, the same command with a fixed date must find its job.
    """
    fixed = re.fullmatch(r"(\d{4}-\d\d-\d\d)(T[\d:]+|\.\.\d{4}-\d\d-\d\d)?", dates or "")
    day = fixed[1] if fixed else f"{now:%Y-%m-%d}"
    folder = re.sub(r"\{[^{}]*\}", "", target or "")
    parts = [part for part in PurePosixPath(re.sub(r"^[a-z0-9+.-]+://|[?#].*$", "", folder)).parts if part != "/"]
    words = [command[0], *(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-._") for part in parts[-2:])]
    return "-".join([day, *(word for word in words if word)])[:80] + f"-{digest}"


def require_valid_id(job_id: str) -> None:
    """Refuse an id that is no part of a URL or a file name.

    Raises:
        ConfigError: it is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}", job_id):
        raise ConfigError(f"the job id is {job_id!r}, expected up to 128 letters, digits and . _ = -; correct it")


def submit(client: JobsClient, request: Request, *, limit_s: float) -> Submitted:
    """Start a job, or find the one that runs the same command under the same id.

    Raises:
        ConfigError: the id belongs to a job of another command, or to one that has ended.
        ResumableError: the cluster cannot be reached, or does not start the job.
    """
    nonce = secrets.token_hex(8)
    deadline = time.monotonic() + limit_s
    number = 1
    while True:
        job_id = request.base_id if number == 1 else f"{request.base_id}-{number}"
        details = retried(lambda job_id=job_id: find_job(client, job_id), deadline)  # type: ignore[misc] # a default
        if details is None:
            retried(lambda job_id=job_id: _start(client, request, job_id, nonce), deadline)  # type: ignore[misc]
            details = retried(lambda job_id=job_id: find_job(client, job_id), deadline)  # type: ignore[misc]
            if details is None:
                raise ResumableError(f"the cluster does not know job {job_id} after it was submitted; try again")
        metadata = details.metadata or {}
        if metadata.get(REQUEST_KEY) == nonce:
            return Submitted(job_id=job_id, is_new=True)
        if metadata.get(COMMAND_KEY) == request.digest and not details.status.is_terminal():
            return Submitted(job_id=job_id, is_new=False)
        if request.is_exact:
            ended = f"has ended ({details.status})" if details.status.is_terminal() else "runs another command"
            raise ConfigError(
                f"job {job_id} {ended}, expected an id that no job of this cluster had; pass another "
                f"--submission-id, or --attach {job_id} to read its log"
            )
        number += 1


def find_job(client: JobsClient, job_id: str) -> Any | None:
    """Return Ray's JobDetails, or None if the cluster knows no such job."""
    try:
        return client.get_job_info(job_id)
    except RequestFailedError as error:
        if error.status == NOT_FOUND:
            return None
        raise


def _start(client: JobsClient, request: Request, job_id: str, nonce: str) -> None:
    """Send the request; whether it was accepted, `find_job` knows.

    Raises:
        UnreachableError: the connection failed.
        ResumableError: the cluster refuses the job.
    """
    runtime_env: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(request.stop_wait_s)}}
    if request.ships_code:
        runtime_env |= {"py_modules": [str(HOME)], "excludes": EXCLUDED}
    try:
        client.submit_job(
            entrypoint=request.entrypoint(job_id),
            submission_id=job_id,
            runtime_env=runtime_env,
            metadata={**request.metadata, COMMAND_KEY: request.digest, REQUEST_KEY: nonce},
            entrypoint_num_cpus=request.driver_cpus or None,
        )
    except RequestFailedError as error:
        if "already exists" not in error.text:
            raise ResumableError(f"the cluster did not start the job: {error}; try again") from error


def retried(call: Callable[[], Any], deadline: float) -> Any:
    """Return what a call returns, once the dashboard can be reached.

    Raises:
        ResumableError: it cannot until the deadline.
    """
    while True:
        try:
            return call()
        except (UnreachableError, RequestFailedError) as error:
            if time.monotonic() > deadline:
                raise ResumableError(f"the cluster cannot be reached: {error}; start the same command again") from error
            log.warning("event=cluster_unreachable reason=%r", str(error))
            time.sleep(RETRY_S)
