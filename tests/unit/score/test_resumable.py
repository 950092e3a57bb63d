"""What the environment does to work that had begun is resumable; everything else stays what it was."""

import errno
from pathlib import Path

import pytest
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    UserCodeException,
    WorkerCrashedError,
)

from fsf_core import errors
from fsf_core.score.resumable import resumable

FULL = OSError(errno.ENOSPC, "No space left on device", "/run/masks")


def in_task(cause: Exception) -> RayTaskError:
    """Return the error of a task as the driver gets it, an instance of the cause's class too."""
    error: RayTaskError = RayTaskError("write", "Traceback (most recent call last): …", cause).as_instanceof_cause()
    return error


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    return tmp_path / "run"


def ends_with(error: Exception, run: Path) -> errors.ResumableError:
    with pytest.raises(errors.ResumableError) as caught, resumable(str(run)):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.exit_code == 75
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.StorageError("the bucket is gone"), "the bucket is gone"),
        (errors.OutputError("/run cannot be written"), "/run cannot be written"),
        (errors.ClusterError("no cluster"), "no cluster"),
        (errors.FSFError("2 of 3 items have no result"), "2 of 3 items have no result"),
        (FULL, "No space left on device"),
        (MemoryError(), "ran out of memory"),
        (in_task(errors.StorageError("disk full")), "disk full"),
        (in_task(errors.StorageError("disk full\nTo change retry, set DataContext")), "disk full"),
        (in_task(FULL), "No space left on device"),
        (in_task(in_task(FULL)), "No space left on device"),
        (in_task(WorkerCrashedError()), "workers ended again and again (WorkerCrashedError)"),
        (OutOfMemoryError("Ray's page on memory"), "ran out of memory"),
        (NodeDiedError("Ray's page on nodes"), "lost a node"),
        (WorkerCrashedError(), "(WorkerCrashedError)"),
        (ExecutionTimeoutError("Dataset execution made no progress for 600s. Set DataContext"), "no progress for 600s"),
    ],
)
def test_what_the_environment_does_is_resumable_and_its_reason_is_kept(error: Exception, reason: str, run: Path):
    message = str(ends_with(error, run))
    assert reason in message
    assert message.endswith("; the same command resumes the run")
    assert "\n" not in message
    assert "DataContext" not in message, "no advice of Ray's"
    assert "Ray's page" not in message


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigError("x"),
        errors.ManifestError("x"),
        errors.ProviderError("x"),
        errors.BundleError("x"),
        errors.GateError("x"),
        errors.InterruptedRunError(15),
        errors.LeaseLostError("x"),
        errors.ResumableError("x"),
        KeyError("a bug"),
        in_task(KeyError("a bug")),
        UserCodeException("Failed to process the block"),
        in_task(errors.ConfigError("x")),
    ],
)
def test_other_errors_pass_unchanged(error: Exception, run: Path):
    with pytest.raises(type(error)) as caught, resumable(str(run)):
        raise error
    assert caught.value is error


def test_passwords_of_addresses_are_hidden(run: Path):
    assert "secret" not in str(ends_with(OSError("https://user:secret@host/x failed"), run))


def test_the_way_out_is_what_works_on_what_is_left_of_the_folder(run: Path):
    (run / "masks").mkdir()
    (run / "run.json").unlink()
    assert str(ends_with(RayError("x"), run)).endswith(
        f"run.json of {run} is gone: remove what is left of the folder, then the same command scores all items"
    )
    (run / "masks").rmdir()
    run.rmdir()
    assert str(ends_with(RayError("x"), run)).endswith(f"{run} is gone: the same command scores all items again")
