"""A video that was not rendered has its true reason: what a task raised, or that its process ended."""

import pytest
import ray

from fsf_core.errors import DecodeError
from fsf_core.score.render import describe_failure


def raised(cause):
    return ray.exceptions.RayTaskError("render", "a traceback of many lines", cause)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (raised(ValueError("odd times")), "ValueError: odd times"),
        (raised(raised(DecodeError("found no frame"))), "DecodeError: found no frame"),
        (raised(ValueError("odd times")).as_instanceof_cause(), "ValueError: odd times"),
        (raised(OSError("https://user:secret@host/a.mp4 is gone")), "OSError: https://***@host/a.mp4 is gone"),
        (ray.exceptions.TaskCancelledError(), "TaskCancelledError: "),
    ],
)
def test_an_error_of_a_task_is_named_as_what_it_is(error, reason):
    found = describe_failure(error)

    assert found.startswith(reason)
    assert "ended its process" not in found


@pytest.mark.parametrize(
    "error", [ray.exceptions.WorkerCrashedError(), raised(ray.exceptions.OutOfMemoryError("the node is out of memory"))]
)
def test_only_a_process_that_ended_is_reported_as_ended(error):
    assert "a task of this video ended its process 3 times" in describe_failure(error)
