"""What ends work that had begun, and can be tried again, as ResumableError: exit code 75 instead of 2."""

import contextlib
from collections.abc import Iterator

from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayError, RayTaskError, UserCodeException

from fsf_core import storage
from fsf_core.errors import ClusterError, FetchError, FSFError, OutputError, ResumableError, StorageError
from fsf_core.score.cluster import find_fsf_error

ENVIRONMENT = (StorageError, OutputError, ClusterError, FetchError)
"""Errors of stores, disks and clusters. Other errors come from the command or its input, and stay as they are."""

RAY_MESSAGES: tuple[tuple[type[BaseException], str], ...] = (
    (OutOfMemoryError, "Ray ended a worker because its node ran out of memory: use fewer --actors, or add memory"),
    (NodeDiedError, "the cluster lost a node"),
    (ObjectLostError, "the cluster lost a node with intermediate results"),
    (RayError, "the cluster failed, or its workers ended again and again"),
)
"""Ray's own messages describe its Python API; most of them advise what users of a command cannot do."""


@contextlib.contextmanager
def resumable(run_uri: str) -> Iterator[None]:
    """Raise what the environment does to work in the block as ResumableError.

    Errors of the options or the input, failed gates, signals and bugs pass unchanged.

    Args:
        run_uri: the run that the block changes.

    Raises:
        ResumableError: a store, a disk or the cluster failed.
    """
    try:
        yield
    except ResumableError:
        raise
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise ResumableError(f"{reason}; {_way_out(run_uri)}") from error


def _reason(error: Exception) -> str | None:
    """Return what the environment did as text, or None if it did nothing."""
    from ray.data.exceptions import ExecutionTimeoutError  # takes 0.5 s, which the start of Ray would wait for

    found = find_fsf_error(error)
    if found is not None:
        # FSFError itself marks an incomplete result, which a second start completes.
        return str(found) if isinstance(found, ENVIRONMENT) or type(found) is FSFError else None
    while isinstance(error, RayTaskError | UserCodeException):
        cause = getattr(error, "cause", None) or error.__cause__
        if not isinstance(cause, Exception):
            return None
        error = cause
    if isinstance(error, ExecutionTimeoutError):
        return f"the cluster finished nothing for too long: {str(error).partition('. ')[0]}"
    for kind, message in RAY_MESSAGES:
        if isinstance(error, kind):
            return f"{message} ({type(error).__name__})"
    if isinstance(error, MemoryError):
        return "the job ran out of memory: use fewer --actors, or add memory"
    return storage.redact(f"{type(error).__name__}: {error}") if isinstance(error, OSError) else None


def _way_out(run_uri: str) -> str:
    """Return what the user can do, from what is left of the run."""
    try:
        if storage.exists(storage.join(run_uri, "run.json")):
            return "the same command resumes the run"
        left = storage.exists(run_uri)
    except FSFError:
        return "once the folder of the run can be reached again, the same command resumes the run"
    where = storage.redact(run_uri)
    if left:
        return f"run.json of {where} is gone: remove what is left of the folder, then the same command scores all items"
    return f"{where} is gone: the same command scores all items again"
