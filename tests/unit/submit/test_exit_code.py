"""Every end of a job has one exit code, and only success is 0."""

import pytest
from ray.job_submission import JobDetails, JobErrorType, JobStatus

from fsf_core.submit.exit_code import outcome_of


def _details(status: str, code: int | None = None, **facts: object) -> JobDetails:
    return JobDetails(type="SUBMISSION", entrypoint="", status=JobStatus(status), driver_exit_code=code, **facts)


@pytest.mark.parametrize(
    ("status", "driver_code", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", 75, 75),
        ("FAILED", 143, 143),
        ("FAILED", -9, 137),
        ("FAILED", -15, 143),
        ("FAILED", -64, 192),
        ("FAILED", 127, 2),
        ("FAILED", 126, 2),
        ("FAILED", None, 75),
        ("FAILED", 0, 75),
        ("STOPPED", None, 143),
    ],
)
def test_the_exit_code_of_the_job_is_that_of_the_command(status, driver_code, code):
    assert outcome_of(_details(status, driver_code)).code == code


def test_a_job_that_this_client_stopped_has_the_code_of_its_signal():
    assert outcome_of(_details("STOPPED"), stop_signal=2).code == 130
    assert outcome_of(_details("STOPPED"), stop_signal=15).code == 143
    assert outcome_of(_details("SUCCEEDED", 0), stop_signal=2).code == 0, "it ended before the signal reached it"


def test_a_job_that_somebody_else_stopped_is_no_success_and_its_reason_is_given():
    outcome = outcome_of(_details("STOPPED"))

    assert outcome.code == 143
    assert outcome.reason is not None
    assert "somebody else stopped the job" in outcome.reason


@pytest.mark.parametrize("error", [*JobErrorType])
def test_a_failure_without_a_code_is_resumable_and_has_rays_reason(error):
    outcome = outcome_of(_details("FAILED", None, error_type=error, message="the node\nran out of memory"))

    assert outcome.code == 75
    assert outcome.reason is not None
    assert error.value in outcome.reason
    assert "the node ran out of memory" in outcome.reason


def test_a_job_that_the_cluster_has_forgotten_is_resumable():
    assert outcome_of(None, is_lost=True).code == 75
