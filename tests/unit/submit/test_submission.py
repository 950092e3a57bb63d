"""A command becomes one job, whatever happens to the request, and a cluster that does not fit is refused before."""

import datetime as dt
import io
import zipfile
from pathlib import PurePosixPath
from typing import Any

import pytest
import ray

from fsf_core.errors import ClusterError, ConfigError, ResumableError
from fsf_core.submit.jobs_client import connect, dashboard_url
from fsf_core.submit.submission import COMMAND_KEY, Request, Submitted, default_id, require_valid_id, submit
from tests.support.dashboard import Dashboard, Job

REQUEST: dict[str, Any] = {
    "base_id": "night", "is_exact": False, "digest": "abc", "entrypoint": "exec python --for {}".format, "metadata": {},
    "stop_wait_s": 300, "driver_cpus": 0.0, "ships_code": False,
}  # fmt: skip


def _submit(served: Dashboard, *, limit_s: float = 20.0, **changes: Any) -> Submitted:
    client = connect(served.address, headers=None, verify="true")
    return submit(client, Request(**{**REQUEST, **changes}), limit_s=limit_s)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_response_starts_no_second_job(served: Dashboard, lost: int) -> None:
    served.lost_responses = lost

    assert _submit(served) == Submitted(job_id="night", is_new=True)
    assert [*served.jobs] == ["night"]
    assert served.submissions[0]["entrypoint"] == "exec python --for night"
    assert served.submissions[0]["runtime_env"] == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}}


def test_a_job_that_runs_the_same_command_is_followed(served: Dashboard) -> None:
    served.jobs["night"] = Job(metadata={COMMAND_KEY: "abc"})

    assert _submit(served) == Submitted(job_id="night", is_new=False)
    assert served.submissions == []


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_has_ended_is_started_again_under_the_next_id(served: Dashboard, status: str) -> None:
    served.jobs["night"] = Job(metadata={COMMAND_KEY: "abc"}, status=status)

    assert _submit(served) == Submitted(job_id="night-2", is_new=True)
    served.jobs["night-2"].status = status
    assert _submit(served) == Submitted(job_id="night-3", is_new=True)


def test_an_id_that_was_asked_for_is_used_once(served: Dashboard) -> None:
    served.jobs["night"] = Job(metadata={COMMAND_KEY: "abc"}, status="SUCCEEDED")
    with pytest.raises(ConfigError, match=r"job night has ended \(SUCCEEDED\), .* or --attach night"):
        _submit(served, is_exact=True)

    served.jobs["night"] = Job(metadata={COMMAND_KEY: "of another command"})
    with pytest.raises(ConfigError, match="job night runs another command"):
        _submit(served, is_exact=True)

    served.jobs["night"] = Job(metadata={COMMAND_KEY: "abc"})
    assert _submit(served, is_exact=True) == Submitted(job_id="night", is_new=False)
    assert served.submissions == []


def test_two_clients_that_start_the_same_command_at_once_follow_one_job(served: Dashboard) -> None:
    """Both see no job, and the cluster accepts one of the two requests."""
    client = connect(served.address, headers=None, verify="true")
    asked = client.get_job_info
    client.get_job_info = lambda _: (setattr(client, "get_job_info", asked), asked("gone"))[1]  # type: ignore[method-assign]
    served.jobs["night"] = Job(metadata={COMMAND_KEY: "abc"})

    assert submit(client, Request(**REQUEST), limit_s=20) == Submitted(job_id="night", is_new=False)


def test_a_cluster_that_does_not_start_the_job_is_reported(served: Dashboard) -> None:
    served.starts_jobs = False
    with pytest.raises(ResumableError, match="does not know job night after it was submitted"):
        _submit(served)


def test_the_code_is_sent_without_what_was_compiled_for_this_machine(served: Dashboard) -> None:
    _submit(served, ships_code=True)

    [uri] = served.submissions[0]["runtime_env"]["py_modules"]
    [(name, content)] = served.uploads.items()
    assert uri == f"gcs://{name}"
    names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert "fsf_core/submit/code.py" in names
    assert {PurePosixPath(name).suffix for name in names} <= {".py", ".typed", ".j2", ".css", ".js", ""}
    assert len(content) < 4 << 20


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((401, "Unauthorized"), "the cluster refuses this client: .*; set RAY_AUTH_MODE=token"),
        ((403, "Forbidden: Invalid authentication token"), "the cluster refuses this client: .*Invalid auth"),
        ((200, "<html>Welcome to nginx</html>"), "is no dashboard of Ray"),
        ((200, '{"version": "4"}'), "is no dashboard of Ray"),
        ((404, "not found"), "is no dashboard of Ray"),
        ((500, "oops"), "is no dashboard of Ray"),
        ((503, "busy"), "no dashboard responds at .*: a proxy responded with status 503"),
    ],
)
def test_what_is_no_dashboard_for_this_client_is_refused(
    served: Dashboard, refusal: tuple[int, str], message: str
) -> None:
    served.refusal = refusal
    with pytest.raises(ClusterError, match=message):
        connect(served.address, headers=None, verify="true")


def test_another_ray_is_refused_with_the_version_to_install(served: Dashboard) -> None:
    served.version = "2.9.3"
    with pytest.raises(ClusterError, match=rf"runs Ray 2.9.3, this machine has {ray.__version__}.*ray==2.9.3"):
        connect(served.address, headers=None, verify="true")


def test_an_address_at_which_nothing_listens_is_refused(served: Dashboard) -> None:
    with pytest.raises(ClusterError, match=r"no dashboard responds at http://127.0.0.1:9: Connection refused"):
        connect("http://127.0.0.1:9", headers=None, verify="true")


def test_the_flag_comes_before_the_variables_and_they_in_rays_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own client prefers the variables to what was asked for."""
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "http://c:8265")
    assert dashboard_url(None) == "http://c:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:8265/")
    assert dashboard_url(None) == "http://b:8265"
    assert dashboard_url("https://a/ray/") == "https://a/ray"


def test_the_client_connects_to_the_flag_whatever_the_variables(
    served: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert connect(served.address, headers=None, verify="true").get_address() == served.address


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001", "http://", "ftp://a", "http://a b"])
def test_an_address_of_another_service_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    for given in (address, None):
        with pytest.raises(ConfigError, match="expected the address of the cluster's dashboard"):
            dashboard_url(given)


def test_a_default_id_is_readable_and_has_no_secret() -> None:
    now = dt.datetime(2026, 11, 22, 23, tzinfo=dt.UTC)

    assert default_id(["score"], "s3://scores/apples/date={date}", "1a2b", now) == "2026-11-22-score-apples-date-1a2b"
    assert default_id(["render"], "https://k:secret@h/runs/today?sig=secret", "1a2b", now) == (
        "2026-11-22-render-runs-today-1a2b"
    )
    assert default_id(["doctor"], None, "1a2b", now) == "2026-11-22-doctor-1a2b"
    for dates in ("2026-11-20", "2026-11-20T03", "2026-11-20..2026-11-21"):
        assert default_id(["score"], None, "1a2b", now, dates=dates) == "2026-11-20-score-1a2b", "on every day"
    for dates in ("yesterday", "2026-11-20..", "yesterday..today"):
        assert default_id(["score"], None, "1a2b", now, dates=dates) == "2026-11-22-score-1a2b", "another job every day"
    for target in ("s3://scores/ä/☃", "/a" * 200, "...", "//"):
        require_valid_id(default_id(["score"], target, "1a2b", now))


@pytest.mark.parametrize("job_id", ["", "a/b", "../x", "a b", "-x", "a?b", "x" * 129, "é"])
def test_an_id_that_is_no_name_is_refused(job_id: str) -> None:
    with pytest.raises(ConfigError, match="the job id is"):
        require_valid_id(job_id)
