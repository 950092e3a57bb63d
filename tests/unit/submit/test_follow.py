"""A job is followed to its end, whatever the connection does: every line once, and the job's own exit code."""

import base64
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from nacl.public import PrivateKey, SealedBox

from fsf_core.submit import follow
from fsf_core.submit.exit_code import outcome_of
from fsf_core.submit.follow import Ended, Follower, View
from fsf_core.submit.handover import Handover, package_name
from fsf_core.submit.jobs_client import connect
from tests.support.dashboard import Dashboard, Job, announcement, result

LINES = [f"line {number}, später" for number in range(40)]
LOG = "".join(f"{line}\n" for line in LINES)


class _Followed:
    """A job that is followed in a thread."""

    def __init__(self, served: Dashboard, **options: Any) -> None:
        client = connect(served.address, headers=None, verify="true")
        self.lines: list[str] = []
        self.notes: list[str] = []
        defaults = {"handover": None, "stop_wait_s": 1, "reconnect_s": 60.0}
        follower = Follower(
            client, "night", View(line=self.lines.append, note=self.notes.append), **{**defaults, **options}
        )
        self._ended: list[Ended] = []
        self._thread = threading.Thread(target=lambda: self._ended.append(follower.run()), daemon=True)
        self._thread.start()

    def wait(self) -> Ended:
        self._thread.join(30)
        assert self._ended, (self.lines, self.notes)
        return self._ended[0]

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, (self.lines, self.notes)
            time.sleep(0.01)


@pytest.mark.parametrize("drops", [[], [0], [1], [len(LOG) - 1], [100, 3, 200, 200, 201]])
def test_every_line_arrives_once_whatever_the_connection_does(served: Dashboard, drops: list[int]) -> None:
    served.jobs["night"] = Job(log=LOG)
    served.drops = [*drops]
    followed = _Followed(served)
    followed.until(lambda: followed.lines == LINES)
    served.jobs["night"].log += "and the last one"
    served.jobs["night"].driver_exit_code = 3
    served.jobs["night"].status = "FAILED"

    assert followed.wait().outcome.code == 3
    assert followed.lines == [*LINES, "and the last one"]
    assert served.tails > len(drops)


def test_a_log_that_is_cut_while_the_job_ends_is_read_to_its_end(served: Dashboard) -> None:
    served.jobs["night"] = Job(log=LOG, status="SUCCEEDED", driver_exit_code=0)
    served.drops = [50, 60, *[70] * 100]
    followed = _Followed(served)

    assert followed.wait().outcome.code == 0
    assert followed.lines == LINES
    assert followed.notes == []


def test_a_log_that_cannot_be_read_does_not_change_the_exit_code(served: Dashboard) -> None:
    served.jobs["night"] = Job(log=LOG, status="FAILED", driver_exit_code=75)
    served.drops, served.is_log_lost = [0] * 100, True
    followed = _Followed(served)

    assert followed.wait().outcome.code == 75
    assert any("could not be read to its end" in note for note in followed.notes)


def test_a_cut_of_the_whole_connection_is_noted_once_and_survived(served: Dashboard) -> None:
    served.jobs["night"] = Job(log=LOG)
    followed = _Followed(served)
    followed.until(lambda: followed.lines == LINES)
    served.is_cut = True
    followed.until(lambda: followed.notes)
    time.sleep(0.5)
    served.jobs["night"].log += "meanwhile\n"
    served.is_cut = False
    followed.until(lambda: "meanwhile" in followed.lines)
    served.jobs["night"].status, served.jobs["night"].driver_exit_code = "SUCCEEDED", 0

    assert followed.wait().outcome.code == 0
    assert followed.lines == [*LINES, "meanwhile"]
    lost, back = followed.notes
    assert lost.startswith("the connection to the cluster is lost: ")
    assert back.startswith("connected again after ")


def test_a_cluster_that_stays_away_is_given_up_and_the_command_to_follow_again_is_named(served: Dashboard) -> None:
    served.jobs["night"] = Job()
    followed = _Followed(served, reconnect_s=0.5)
    time.sleep(0.3)
    served.is_cut = True
    ended = followed.wait()

    assert ended.outcome.code == 75
    assert "fsf submit --attach night" in str(ended.outcome.reason)


def test_a_job_that_the_cluster_has_forgotten_ends(served: Dashboard) -> None:
    served.jobs["night"] = Job()
    followed = _Followed(served)
    time.sleep(0.3)
    del served.jobs["night"]

    assert followed.wait().outcome == outcome_of(None, is_lost=True)


def test_a_refused_request_meanwhile_is_no_end(served: Dashboard) -> None:
    served.jobs["night"] = Job()
    followed = _Followed(served)
    served.refusal = (401, "Unauthorized")
    followed.until(lambda: followed.notes)
    served.refusal = (502, "Bad Gateway")
    time.sleep(0.3)
    served.refusal = None
    served.jobs["night"].status, served.jobs["night"].driver_exit_code = "SUCCEEDED", 0

    assert followed.wait().outcome.code == 0


def test_settings_are_handed_over_to_the_key_in_the_log_and_no_line_of_it_is_printed(served: Dashboard) -> None:
    key = PrivateKey.generate()
    public = bytes(key.public_key)
    awaited = announcement("settings_awaited", key=base64.urlsafe_b64encode(public).decode())
    served.jobs["night"] = Job(log=f"before\n{announcement('job_started', version='0.1.0')}{awaited}")
    variables = {"AWS_SECRET_ACCESS_KEY": "verysecret"}
    followed = _Followed(served, handover=Handover(job_id="night", words=("score",), variables=variables))
    followed.until(lambda: served.uploads)
    served.jobs["night"].log += announcement("settings_received") + "after\n" + result({"frames": 3})
    served.jobs["night"].status, served.jobs["night"].driver_exit_code = "SUCCEEDED", 0

    assert followed.wait().result == '{"frames": 3}'
    assert followed.lines == ["before", "after"]
    [(name, sealed)] = served.uploads.items()
    assert name == package_name(public)
    assert b"verysecret" in SealedBox(key).decrypt(sealed)


def test_settings_are_not_sent_again_to_a_job_that_has_them(served: Dashboard) -> None:
    key = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    log = announcement("settings_awaited", key=key) + announcement("settings_received")
    served.jobs["night"] = Job(log=log, status="SUCCEEDED", driver_exit_code=0)

    assert _Followed(served, handover=Handover(job_id="night", words=())).wait().outcome.code == 0
    assert served.uploads == {}


def test_a_client_without_the_settings_says_what_the_job_waits_for(served: Dashboard) -> None:
    key = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    served.jobs["night"] = Job(log=announcement("settings_awaited", key=key))
    followed = _Followed(served)
    followed.until(lambda: followed.notes)
    served.jobs["night"].status = "STOPPED"

    assert followed.wait().outcome.code == 143
    assert "waits for its settings, which the client that submitted it has" in followed.notes[0]


def test_without_waiting_a_job_is_left_once_it_has_its_settings(served: Dashboard) -> None:
    key = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    served.jobs["night"] = Job(status="PENDING")
    followed = _Followed(served, handover=Handover(job_id="night", words=()), waits=False)
    time.sleep(0.2)
    served.jobs["night"].log = announcement("job_started") + announcement("settings_awaited", key=key)
    served.jobs["night"].status = "RUNNING"
    ended = followed.wait()

    assert (ended.is_left, ended.outcome.code, len(served.uploads)) == (True, 0, 1)


def test_why_a_job_does_not_start_is_printed(served: Dashboard) -> None:
    served.jobs["night"] = Job(status="PENDING", message="It may be waiting for resources")
    followed = _Followed(served)
    followed.until(lambda: followed.notes)
    served.jobs["night"].status, served.jobs["night"].driver_exit_code = "FAILED", None

    assert followed.notes[0] == "job night has not started: It may be waiting for resources"
    assert followed.wait().outcome.code == 75


def test_only_the_last_document_is_the_result(served: Dashboard) -> None:
    log = result({"a": 1}) + result({"b": 2})
    served.jobs["night"] = Job(log=log, status="SUCCEEDED", driver_exit_code=0)
    followed = _Followed(served)

    assert followed.wait().result == '{"b": 2}'
    assert followed.lines == ['{"a": 1}']


def test_code_that_the_cluster_lacks_is_recognised(served: Dashboard) -> None:
    served.jobs["night"] = Job(log="No module named fsf_core\n", status="FAILED", driver_exit_code=1)
    assert _Followed(served).wait().found_no_code

    served.jobs["night"].log = announcement("job_started", version="0.0.9")
    assert not _Followed(served).wait().found_no_code, "a bug of a job that has started"

    served.jobs["night"].log += announcement("code_differs", version="0.0.9")
    assert _Followed(served).wait().differs == "0.0.9"


@pytest.mark.parametrize(
    ("signals", "code", "state"),
    [
        ((signal.SIGINT, signal.SIGINT), 130, "it is being stopped"),
        ((signal.SIGTERM, signal.SIGINT), 130, "it is being stopped"),
        ((signal.SIGHUP,), 129, "it goes on"),
        ((signal.SIGQUIT,), 131, "it goes on"),
    ],
)
def test_a_second_signal_or_a_closed_terminal_leaves_the_job_at_once(
    served: Dashboard, signals: tuple[signal.Signals, ...], code: int, state: str
) -> None:
    """Even while the dashboard does not respond."""
    for number in signals:  # nohup, which may have started the tests, ignores SIGHUP, and what is ignored stays so
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    served.jobs["night"] = Job()
    client = connect(served.address, headers=None, verify="true")
    notes: list[str] = []
    follower = Follower(
        client, "night", View(line=notes.append, note=notes.append), handover=None, stop_wait_s=1, reconnect_s=60.0
    )

    def send() -> None:
        time.sleep(0.5)
        served.hangs_s = 6.0
        time.sleep(0.5)
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    threading.Thread(target=send, daemon=True).start()
    since = time.monotonic()
    ended = follower.run()
    time.sleep(0.5)

    assert time.monotonic() - since < 5
    assert (ended.outcome.code, ended.is_left) == (code, True)
    assert str(ended.outcome.reason).startswith(f"{state}; `fsf submit --attach night` follows it")


def test_two_signals_at_once_stop_the_job_and_leave_it(served: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job ran on: no request to stop it was sent."""
    monkeypatch.setattr(follow, "LEAVE_S", 20.0)
    served.jobs["night"] = Job()
    client = connect(served.address, headers=None, verify="true")
    follower = Follower(client, "night", View(line=print, note=print), handover=None, stop_wait_s=1, reconnect_s=60.0)

    def send() -> None:
        while not served.tails:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=send, daemon=True).start()
    ended = follower.run()

    assert (ended.outcome.code, served.stopped) == (143, ["night"])
    assert str(ended.outcome.reason).startswith("it is being stopped; ")
