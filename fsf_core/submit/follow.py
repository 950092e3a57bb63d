"""Follows a job to its end: prints its log, hands over its settings, stops it on a signal, reconnects."""

import contextlib
import json
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fsf_core.errors import ClusterError
from fsf_core.submit.exit_code import RESUMABLE, Outcome, outcome_of
from fsf_core.submit.handover import PREFIX, Announcement, Handover, parse_announcement, seal
from fsf_core.submit.jobs_client import JobsClient, RequestFailedError, UnreachableError
from fsf_core.submit.log_stream import LogStream
from fsf_core.submit.submission import find_job

POLL_S = 2.0
LONGEST_POLL_S = 15.0
END_OF_LOG_S = 60.0
"""How long the rest of the log may take once the job has ended, since its last piece."""

LEAVE_S = 1.0
"""How long leaving a job waits for the response to a request to stop it that no earlier signal has led to."""

AGAIN_S = 3.0
"""Interval of requests to stop the job, and of those to hand over its settings."""

TIMES_UNKNOWN = 3
"""Responses in a row that the cluster knows no such job; a head that is just starting may not know it yet."""

PENDING_NOTE_S = 30.0
PROGRESS_S = 0.2

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The first of them stops the job; any later signal, and any other one, leaves it running."""

LEAVING = (signal.SIGHUP, signal.SIGQUIT)


@dataclass(kw_only=True)
class View:
    """Where the parts of a job's output go."""

    line: Callable[[str], None]
    """A line of the job's log."""
    note: Callable[[str], None]
    """A sentence about the job or the connection."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What following a job has led to."""

    outcome: Outcome
    result: str | None = None
    """The last line that the job's command printed on stdout, a JSON document."""
    found_no_code: bool = False
    """Whether Python started on the cluster, but not the job's half of this program."""
    differs: str | None = None
    """Version of this program on the cluster, if the job needs another one."""
    is_left: bool = False
    """Whether the job still runs."""


class _LeftError(BaseException):
    """A signal means that this process is to end at once; no library handles it."""


class Follower:
    """One job, followed by one client."""

    def __init__(
        self,
        client: JobsClient,
        job_id: str,
        view: View,
        *,
        handover: Handover | None,
        stop_wait_s: int,
        reconnect_s: float,
        waits: bool = True,
    ) -> None:
        self._client, self._job_id, self._view = client, job_id, view
        self._handover, self._stop_wait_s, self._reconnect_s, self._waits = handover, stop_wait_s, reconnect_s, waits
        self._log = LogStream(client, job_id)
        self._line = ""
        self._log_ended = False
        self._key: str | None = None
        self._is_handed_over = False
        self._has_started = False
        self._result: str | None = None
        self._differs: str | None = None
        self._is_lost = False
        self._lost_at = 0.0
        self._stop_signal: int | None = None
        self._is_stop_sent = False
        self._stop_at = self._hand_over_at = self._poll_at = 0.0
        self._times_unknown = 0
        self._poll_s, self._note_at = POLL_S, time.monotonic() + PENDING_NOTE_S
        self._details: Any = None

    def run(self) -> Ended:
        """Follow the job until it has ended, or a signal says to leave it."""
        self._log.start()
        with _signals() as received:
            try:
                return self._run(received)
            except _LeftError:
                return self._left(received)
            finally:
                self._log.close()

    def _run(self, received: list[int]) -> Ended:
        while True:
            is_log_quiet = not self._print_log(PROGRESS_S)
            if _leaves(received):
                return self._left(received)
            if received and self._stop_signal is None:
                self._begin_to_stop(received[0])
            if self._stop_signal is not None and time.monotonic() >= self._stop_at:
                self._try(self._stop)
                self._stop_at = time.monotonic() + AGAIN_S
            if self._awaits_settings and is_log_quiet and time.monotonic() >= self._hand_over_at:
                self._try(self._hand_over)  # while lines arrive, the next may be that the job has them
                self._hand_over_at = time.monotonic() + AGAIN_S
            if time.monotonic() >= self._poll_at and (ended := self._polled()):
                return ended

    @property
    def _awaits_settings(self) -> bool:
        return self._key is not None and not self._is_handed_over

    def _begin_to_stop(self, number: int) -> None:
        self._stop_signal = number
        self._poll_at = 0.0
        self._view.note(
            f"stopping job {self._job_id}; it commits what it has, within {self._stop_wait_s} s; a second signal "
            "leaves it to the cluster"
        )

    def _polled(self) -> Ended | None:
        """Ask how the job is; returns how it ended, if it has, or if there is nothing to wait for."""
        is_reached = self._try(self._poll)
        self._poll_s = POLL_S if is_reached else min(2 * self._poll_s, LONGEST_POLL_S)
        self._poll_at = time.monotonic() + self._poll_s
        if not is_reached:
            return self._given_up() if time.monotonic() - self._lost_at > self._reconnect_s else None
        if self._details is None:
            self._times_unknown += 1
            is_lost = self._times_unknown == TIMES_UNKNOWN
            return Ended(outcome=outcome_of(None, is_lost=True)) if is_lost else None
        self._times_unknown = 0
        if self._details.status.is_terminal():
            return self._ended()
        if not self._waits and self._has_started and (self._is_handed_over or self._handover is None):
            return Ended(outcome=Outcome(code=0, reason=None), is_left=True)
        if str(self._details.status) == "PENDING" and time.monotonic() > self._note_at:
            self._view.note(f"job {self._job_id} has not started: {self._details.message}")
            self._note_at = time.monotonic() + PENDING_NOTE_S
        return None

    def _left(self, received: list[int]) -> Ended:
        if received[0] in STOPPING and not self._is_stop_sent:  # the second signal came before the first was seen
            thread = threading.Thread(target=self._try, args=(self._stop,), daemon=True)
            thread.start()
            thread.join(LEAVE_S)
        state = "is being stopped" if received[0] in STOPPING else "goes on"
        reason = f"it {state}; `fsf submit --attach {self._job_id}` follows it, `ray job stop {self._job_id}` stops it"
        return Ended(outcome=Outcome(code=128 + received[-1], reason=reason), is_left=True)

    def _given_up(self) -> Ended:
        reason = (
            f"the cluster has not been reached for {self._reconnect_s:g} s; the job may go on: "
            f"`fsf submit --attach {self._job_id}` follows it"
        )
        return Ended(outcome=Outcome(code=RESUMABLE, reason=reason), is_left=True)

    def _ended(self) -> Ended:
        """Print the rest of the log, and return how the job ended."""
        self._log.job_has_ended.set()
        deadline = time.monotonic() + END_OF_LOG_S
        while not self._log_ended and time.monotonic() < deadline:
            if self._print_log(PROGRESS_S):
                deadline = time.monotonic() + END_OF_LOG_S
        self._print_line(self._line)
        if not self._log_is_whole():
            self._view.note(
                f"the log of job {self._job_id} could not be read to its end: {self._log.problem or 'no response'}"
            )
        return Ended(
            outcome=outcome_of(self._details, stop_signal=self._stop_signal),
            result=self._result,
            found_no_code=not self._has_started and self._details.driver_exit_code == 1 and self._log_is_whole(),
            differs=self._differs,
        )

    def _log_is_whole(self) -> bool:
        return self._log_ended and self._log.problem is None

    def _try(self, call: Callable[[], None]) -> bool:
        """Return whether a request reached the cluster; note when the connection is lost, and when it is back."""
        now = time.monotonic()
        try:
            call()
        except (UnreachableError, RequestFailedError, ClusterError) as error:
            if not self._is_lost:
                self._is_lost, self._lost_at = True, now
                self._view.note(f"the connection to the cluster is lost: {error}; the job goes on, trying again")
            return False
        if self._is_lost:
            self._view.note(f"connected again after {now - self._lost_at:.0f} s")
            self._is_lost = False
        return True

    def _poll(self) -> None:
        self._details = find_job(self._client, self._job_id)

    def _stop(self) -> None:
        self._is_stop_sent = True
        self._client.stop_job(self._job_id)

    def _hand_over(self) -> None:
        assert self._key is not None
        if self._handover is None:
            self._view.note(f"job {self._job_id} waits for its settings, which the client that submitted it has")
        else:
            try:
                self._client.upload(*seal(self._handover, self._key))
            except RequestFailedError as error:
                self._view.note(f"the cluster refuses the settings of job {self._job_id}: {error}")
        self._is_handed_over = True

    def _print_log(self, wait_s: float) -> bool:
        """Print what of the log has arrived; returns whether something has."""
        has_printed = False
        while not self._log_ended:
            try:
                chunk = self._log.chunks.get(timeout=0 if has_printed else wait_s)
            except queue.Empty:
                return has_printed
            if chunk is None:
                self._log_ended = True
                break
            *lines, self._line = (self._line + chunk).split("\n")
            for line in lines:
                self._print_line(line)
            has_printed = True
        if not has_printed:
            time.sleep(wait_s)
        return has_printed

    def _print_line(self, line: str) -> None:
        """Print a line of the log, or act on it if it is an announcement."""
        before, prefix, rest = line.partition(PREFIX)
        announcement = parse_announcement(prefix + rest) if prefix else None
        if announcement is None:
            before = line
        else:
            self._act_on(announcement)
        if before.strip("\r"):
            self._view.line(before)

    def _act_on(self, announcement: Announcement) -> None:
        self._has_started = True
        if announcement.event == "settings_awaited":
            self._key = announcement.facts.get("key")
        elif announcement.event == "settings_received":
            self._is_handed_over = True
        elif announcement.event == "code_differs":
            self._differs = announcement.facts.get("version", "unknown")
        elif announcement.event == "result":
            if not _is_document(announcement.text):  # the log was cut off
                return
            if self._result is not None:  # it was not the last document
                self._view.line(self._result)
            self._result = announcement.text


def _is_document(text: str) -> bool:
    """Return whether a text is a whole JSON document."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _leaves(received: Sequence[int]) -> bool:
    """Return whether signals leave the job to the cluster."""
    return len(received) > 1 or any(number in LEAVING for number in received)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect signals; those that the parent ignores stay ignored.

    Raises:
        _LeftError: at the second one, or at one that does not stop the job, whatever is being waited for.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        is_leaving = _leaves(received)
        received.append(number)
        if _leaves(received) and not is_leaving:
            raise _LeftError

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.getsignal(number) for number in (*STOPPING, *LEAVING)}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
