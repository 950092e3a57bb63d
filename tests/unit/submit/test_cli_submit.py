"""The command as a whole: what it prints where, and the second job of a cluster that lacks the code."""

import json
import os

import pytest

from fsf_core.cli.app import main
from fsf_core.store_settings import STORE_VARIABLES
from fsf_core.submit import follow, jobs_client, submission
from tests.support.dashboard import Dashboard, Job, announcement, result

STARTED = announcement("job_started", version="0.1.0")
SCORE = ("--bundle", "s3://models/oranges", "--manifest", "s3://photos/", "--out", "s3://scores/today")
GOOD = Job(log=STARTED + "a table\n" + result({"problems": 0}), status="SUCCEEDED", driver_exit_code=0)


@pytest.fixture(autouse=True)
def _no_store_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(STORE_VARIABLES):
            monkeypatch.delenv(name)


def _job(job: Job) -> Job:
    return Job(log=job.log, status=job.status, driver_exit_code=job.driver_exit_code)


OTHER_CODE = Job(log=STARTED + announcement("code_differs", version="0.0.9"), status="FAILED", driver_exit_code=87)
NO_CODE = Job(log="No module named fsf_core.cli.submitted\n", status="FAILED", driver_exit_code=1)


def test_the_result_is_the_only_line_on_stdout(served: Dashboard, capsys: pytest.CaptureFixture[str]) -> None:
    served.next_jobs = [_job(GOOD)]
    code = main(["submit", "--address", served.address, "--", "verify", "s3://scores/today"])
    printed = capsys.readouterr()

    assert code == 0
    assert printed.out == '{"problems": 0}\n'
    assert "a table" in printed.err
    assert "fsf-submit" not in printed.err
    assert [*served.submissions[0]["runtime_env"]] == ["env_vars"], "no code is sent"
    assert "verify s3://scores/today" in served.submissions[0]["entrypoint"]


@pytest.mark.parametrize("first", [OTHER_CODE, NO_CODE], ids=["other code", "no code"])
def test_a_cluster_without_this_code_gets_it_in_a_second_job(
    served: Dashboard, capsys: pytest.CaptureFixture[str], first: Job
) -> None:
    served.next_jobs = [_job(first), _job(GOOD)]
    code = main(["submit", "--address", served.address, "--", "verify", "s3://scores/today"])

    assert (code, capsys.readouterr().out) == (0, '{"problems": 0}\n')
    plain, shipped = served.submissions
    assert "py_modules" not in plain["runtime_env"]
    assert "py_modules" in shipped["runtime_env"]
    assert shipped["submission_id"] == f"{plain['submission_id']}-shipped"


@pytest.mark.parametrize("ship", ["never", "always"])
def test_a_cluster_that_cannot_run_fsf_is_refused(
    served: Dashboard, capsys: pytest.CaptureFixture[str], ship: str
) -> None:
    served.next_jobs = [_job(NO_CODE)]
    code = main(["submit", "--address", served.address, "--ship", ship, "--", "verify", "s3://scores/today"])

    assert code == 2
    assert "fsf did not start there" in capsys.readouterr().err
    assert len(served.submissions) == 1


@pytest.mark.parametrize("ship", ["auto", "always"])
def test_a_head_that_runs_other_code_than_it_was_sent_is_refused(
    served: Dashboard, capsys: pytest.CaptureFixture[str], ship: str
) -> None:
    """A folder with fsf_core in which Ray was started is found first: the job ended with its internal code 87."""
    served.next_jobs = [_job(OTHER_CODE) for _ in range(2)]
    code = main(["submit", "--address", served.address, "--ship", ship, "--", "verify", "s3://scores/today"])

    assert code == 2
    assert "fsf 0.0.9, whose code is not that of the client; nothing ran" in capsys.readouterr().err


def test_a_result_that_was_cut_off_with_the_log_changes_no_exit_code(
    served: Dashboard, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was parsed as JSON: a traceback, and exit code 1."""
    served.next_jobs = [Job(log=STARTED + result({"problems": 0})[:-5], status="SUCCEEDED", driver_exit_code=0)]

    assert main(["submit", "--address", served.address, "--", "verify", "s3://scores/today"]) == 0
    assert capsys.readouterr().out == ""


def test_a_connection_that_drops_before_the_job_is_found_is_made_again(
    served: Dashboard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code was 1, as of a bug."""
    monkeypatch.setattr(submission, "RETRY_S", 0.0)
    served.jobs["night"] = _job(GOOD)
    cuts, find = iter([True, True]), jobs_client.JobsClient.get_job_info

    def find_over_a_bad_line(client: jobs_client.JobsClient, job_id: str) -> object:
        served.is_cut = next(cuts, False)
        return find(client, job_id)

    monkeypatch.setattr(jobs_client.JobsClient, "get_job_info", find_over_a_bad_line)

    assert main(["submit", "--address", served.address, "--attach", "night"]) == 0
    assert capsys.readouterr().out == '{"problems": 0}\n'


@pytest.mark.parametrize(("words", "code"), [(["select", "s3://scores/today"], 2), (["score", *SCORE], 0)])
def test_lists_that_select_leaves_out_are_paths_and_patterns_of_score_are_not(
    served: Dashboard, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    """The list would be looked for in a folder of the head."""
    served.next_jobs = [_job(GOOD)]

    assert main(["submit", "--address", served.address, "--", *words, "--exclude", "earlier.csv"]) == code
    assert ("--exclude is 'earlier.csv', a path of this machine" in capsys.readouterr().err) == (code == 2)
    assert len(served.submissions) == (code == 0)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["diff", "runs/a", "s3://scores/b"], "RUN_A"),
        (["evaluate", "s3://scores/a", "labels"], "LABELS"),
        (["report", "runs/a"], "the run folder"),
    ],
)
def test_a_path_of_this_machine_is_refused_by_the_name_that_the_help_has(
    served: Dashboard, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    """An argument was called --run-a."""
    assert main(["submit", "--address", served.address, "--", *words]) == 2
    assert capsys.readouterr().err.startswith(f"ConfigError: {name} is ")


def test_a_failure_of_the_command_is_not_tried_again(served: Dashboard) -> None:
    served.next_jobs = [Job(log=STARTED, status="FAILED", driver_exit_code=1)]

    assert main(["submit", "--address", served.address, "--", "verify", "s3://scores/today"]) == 1
    assert len(served.submissions) == 1


def test_options_and_files_of_the_command_make_another_job(
    served: Dashboard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that runs is followed by the same command only, and its options may come from the environment."""
    monkeypatch.setattr(follow, "POLL_S", 0.05)
    words = ["submit", "--address", served.address, "--no-wait", "--", "render", "s3://scores/today"]
    started = Job(log=STARTED + announcement("settings_received"))
    served.next_jobs = [_job(started), _job(started)]
    ids = []
    for legend in ("true", "false", "true"):
        monkeypatch.setenv("FSF_RENDER_LEGEND", legend)
        assert main(words) == 0
        ids.append(json.loads(capsys.readouterr().out)["job"])

    assert len({*ids}) == 2
    assert ids[0] == ids[2]
    assert len(served.submissions) == 2
