"""Leases: one holder per folder, numbers that are never used twice, and holders that notice that they were replaced.

The store is fsspec's memory, the machine's clock is replaced where a pause is simulated.
"""

import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsf_core import storage
from fsf_core.errors import InterruptedRunError, LeaseLostError, OutputError, StorageError
from fsf_core.runs import lease

FOLDER = "memory://bucket/leased"


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lease, "WATCH_S", 0.05)
    monkeypatch.setattr(lease, "HOLD_S", 2.0)
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield
    filesystem.store.clear()


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that a test can set forward, for this process alone."""
    ahead = [0.0]
    monkeypatch.setattr(lease, "_now", lambda: time.monotonic() + ahead[0])
    return ahead


@pytest.fixture
def sigterm():
    """Raise InterruptedRunError at SIGTERM, as a job does."""

    def interrupt(number: int, _: object) -> None:
        raise InterruptedRunError(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


def write(number: int, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    storage.write_bytes(f"{FOLDER}/.lease-{number}", data)


def read(number: int) -> dict[str, Any]:
    return dict(json.loads(storage.read_bytes(f"{FOLDER}/.lease-{number}")))


def names() -> list[str]:
    return storage.list_names(FOLDER, ".lease-")


def contents() -> dict[str, bytes]:
    """Return all objects, past the guard of a lost lease."""
    return {name: file.getvalue() for name, file in fsspec.filesystem("memory").store.items()}


def other_job(host: str = "elsewhere", pid: int = 17) -> bytes:
    """Return the lease of a job on another machine."""
    return json.dumps({"host": host, "pid": pid, "token": "x", "beat": "y", "released": False}).encode()


def lease_of_a_child(*, reap: bool = True) -> tuple[dict[str, Any], int]:
    """Return the lease of a process of this machine that has ended, and its id."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(theirs, lease._payload("child"))
        os._exit(0)
    content = json.loads(os.read(ours, 10_000))
    os.close(ours)
    os.close(theirs)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if reap:
        os.waitpid(pid, 0)
    return dict(content), pid


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- acquiring ---


def test_two_leases_of_a_dead_job_are_waited_for_at_once():
    other = "memory://bucket/other"
    for uri in (FOLDER, other):
        storage.write_bytes(f"{uri}/.lease-4", other_job())
    began = time.monotonic()
    lease.look_at(other)
    with lease.lease(FOLDER), lease.lease(other) as held:
        assert held.number == 5
    assert lease.LEASE_S < time.monotonic() - began < 1.6 * lease.LEASE_S


def test_a_lease_that_was_renewed_since_it_was_looked_at_is_that_of_a_live_job():
    storage.write_bytes(f"{FOLDER}/.lease-4", other_job())
    lease.look_at(FOLDER)
    storage.write_bytes(f"{FOLDER}/.lease-4", other_job(pid=18))
    with pytest.raises(OutputError, match="is in use by process 18 on elsewhere; wait for it"), lease.lease(FOLDER):
        pass


def test_a_released_lease_keeps_its_number_until_a_greater_one_exists():
    for number in (1, 2, 3):
        with lease.lease(FOLDER) as held:
            assert held.number == number
            assert names() == [f".lease-{number}"]
            assert read(number)["released"] is False
        assert names() == [f".lease-{number}"]
        assert read(number)["released"] is True


def test_a_second_job_is_refused_while_the_first_renews_its_lease():
    refused = pytest.raises(
        OutputError, match=f"is in use by process {os.getpid()} on {socket.gethostname()} since 20.*; wait"
    )

    with lease.lease(FOLDER) as held, refused, lease.lease(FOLDER):
        pass

    held.check()
    assert names() == [".lease-1"]


def test_of_many_jobs_that_start_at_once_one_wins_and_the_others_are_refused():
    barrier = threading.Barrier(8)
    done = threading.Event()

    def job(_: int) -> str:
        barrier.wait()
        try:
            with lease.lease(FOLDER):
                done.wait(3)
                return "won"
        except OutputError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = pool.map(job, range(8))
        time.sleep(1)
        done.set()

    ends = sorted(results)
    assert ends.count("won") == 1
    assert all("is in use by process" in end for end in ends if end != "won")


def test_the_lease_of_a_job_on_another_host_is_waited_for_and_then_taken_over(caplog):
    write(3, other_job())
    started = time.monotonic()

    with caplog.at_level(logging.INFO, logger="fsf"), lease.lease(FOLDER) as held:
        assert names() == [".lease-4"]
        assert held.number == 4

    assert time.monotonic() - started > lease.LEASE_S
    waits = [record.getMessage() for record in caplog.records]
    assert waits
    assert {*waits} == {f"event=waiting_for_lease out={FOLDER} holder='process 17 on elsewhere'"}


@pytest.mark.parametrize("reap", [True, False], ids=["gone", "zombie"])
def test_the_lease_of_a_job_that_died_on_this_host_is_taken_over_at_once(reap, caplog):
    content, pid = lease_of_a_child(reap=reap)
    write(3, content)

    with caplog.at_level(logging.INFO, logger="fsf"), lease.lease(FOLDER):
        assert names() == [".lease-4"]

    assert caplog.records == []
    if not reap:
        os.waitpid(pid, 0)


def test_a_process_that_got_the_id_of_the_dead_holder_is_not_the_holder():
    assert not lease._died_on_this_host(json.loads(lease._payload("ours")))
    assert lease._died_on_this_host(json.loads(lease._payload("ours")) | {"started": "1"})


@pytest.mark.parametrize("key", ["boot", "pids", "started", "pid"])
def test_a_holder_of_another_kernel_or_container_is_never_considered_dead_by_its_process_id(key):
    content, _ = lease_of_a_child()
    assert lease._died_on_this_host(content)

    assert not lease._died_on_this_host(content | {key: None})
    assert not lease._died_on_this_host({name: value for name, value in content.items() if name != key})
    if key in {"boot", "pids"}:
        assert not lease._died_on_this_host(content | {key: "another"})


@pytest.mark.parametrize(
    "content",
    [
        b"noise",
        b"",
        b"[1]",
        b"7",
        b"null",
        b"\xff\xfe",
        {"host": ["a"], "pid": {}, "released": "yes"},
        {"pid": 1 << 99},
    ],
    ids=str,
)
def test_a_damaged_or_foreign_lease_is_taken_over_once_it_expires(content, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 0.3)
    write(3, content)

    with lease.lease(FOLDER):
        assert names() == [".lease-4"]


def test_the_lease_of_the_older_version_is_taken_over_once_it_expires():
    write(3, {"host": socket.gethostname(), "pid": lease_of_a_child()[1], "beat": "x"})
    started = time.monotonic()

    with lease.lease(FOLDER):
        assert names() == [".lease-4"]

    assert time.monotonic() - started > lease.LEASE_S


def test_names_that_are_no_leases_are_left_alone():
    for name in (".lease-x", ".lease-07", ".lease-", ".lease-2.tmp"):
        storage.write_bytes(f"{FOLDER}/{name}", b"")

    with lease.lease(FOLDER) as held:
        assert held.number == 1

    assert len(names()) == 5


def test_a_lease_that_is_released_while_a_job_waits_is_taken_over_at_once(caplog):
    write(3, other_job())

    def release() -> None:
        wait_for(lambda: "event=waiting_for_lease" in caplog.text)
        write(3, json.loads(other_job()) | {"released": True})

    thread = threading.Thread(target=release)
    with caplog.at_level(logging.INFO, logger="fsf"):
        thread.start()
        with lease.lease(FOLDER) as held:
            assert held.number == 4
    thread.join()


def test_a_create_whose_response_was_lost_is_recognised_by_its_content(monkeypatch):
    real = storage.create

    def lose_response(uri: str, data: bytes) -> bool:
        assert real(uri, data)
        return False

    monkeypatch.setattr(storage, "create", lose_response)
    with lease.lease(FOLDER) as held:
        assert held.number == 1


def test_a_lease_created_below_a_greater_one_is_withdrawn(monkeypatch):
    """A job that slept between its look and its create gets a number that another job gave away in the meantime."""
    write(3, json.loads(other_job()) | {"released": True})
    real = storage.create

    def sleep(uri: str, data: bytes) -> bool:
        if uri.endswith("-4"):
            storage.remove(f"{FOLDER}/.lease-3")
            write(5, json.loads(other_job()) | {"released": True})
        return real(uri, data)

    monkeypatch.setattr(storage, "create", sleep)
    with lease.lease(FOLDER) as held:
        assert held.number == 6
        assert names() == [".lease-6"]


def test_a_create_that_took_long_is_followed_by_a_heartbeat(monkeypatch, clock):
    real = storage.create

    def slow(uri: str, data: bytes) -> bool:
        created = real(uri, data)
        clock[0] += 100
        return created

    monkeypatch.setattr(storage, "create", slow)
    with lease.lease(FOLDER) as held:
        held.check()


def test_wall_clocks_of_machines_do_not_matter(monkeypatch):
    write(3, other_job())
    wall = iter(range(0, 10**12, 10**9))
    monkeypatch.setattr(time, "time", lambda: next(wall))
    started = time.monotonic()

    with lease.lease(FOLDER) as held:
        assert time.monotonic() - started > lease.LEASE_S
        time.sleep(lease.LEASE_S)
        held.confirm()


# --- holding and losing ---


def test_a_holder_keeps_its_lease_for_longer_than_it_lasts():
    with lease.lease(FOLDER) as held:
        beats = set()
        end = time.monotonic() + 1.5 * lease.HOLD_S
        while time.monotonic() < end:
            held.check()
            held.confirm()
            beats.add(read(1)["beat"])
            time.sleep(0.02)

    assert len(beats) > 10


def test_a_holder_that_was_away_for_longer_than_its_lease_stops_before_it_asks(clock, monkeypatch):
    lost = pytest.raises(LeaseLostError, match=r"could not renew its lease on memory://bucket/leased for \d+ s")
    ended = pytest.raises(LeaseLostError, match=r"was paused, .*; start the same command again")
    with ended, lease.lease(FOLDER) as held:
        clock[0] += lease.HOLD_S
        for name in ("read_bytes", "list_names", "write_bytes", "create", "remove", "exists"):
            monkeypatch.setattr(storage, name, lambda *_, **__: pytest.fail("asked"))
        with lost:
            held.check()
        with lost:
            held.confirm()
        clock[0] -= lease.HOLD_S
        with lost:  # for ever
            held.check()
        monkeypatch.undo()

    assert read(1)["released"] is False


def test_a_request_that_is_due_after_the_lease_is_not_sent(clock):
    """Also not as a retry, and not in another thread of the driver."""

    def write_late() -> None:
        with pytest.raises(LeaseLostError):
            storage.write_bytes(f"{FOLDER}/run.json", b"late")
        with pytest.raises(LeaseLostError):
            storage.read_bytes(f"{FOLDER}/run.json")

    ended = pytest.raises(LeaseLostError)
    with ended, lease.lease(FOLDER):
        storage.write_bytes(f"{FOLDER}/run.json", b"in time")
        clock[0] += lease.HOLD_S
        write_late()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_late).result()
        storage.write_bytes("memory://bucket/leased-not/x", b"")

    assert storage.read_bytes(f"{FOLDER}/run.json") == b"in time"
    storage.write_bytes(f"{FOLDER}/run.json", b"after the block")


def successor(**more: Any) -> dict[str, Any]:
    return json.loads(other_job()) | more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: write(2, successor()), "another job took .* over .*; process 17 on elsewhere took it over; once"),
        (
            lambda: write(2, successor(released=True)),
            "another job took .* over .*; process 17 on elsewhere took it over",
        ),
        (lambda: (storage.remove(f"{FOLDER}/.lease-1"), write(9, successor())), "process 17 on elsewhere took it over"),
        (lambda: storage.remove(f"{FOLDER}/.lease-1"), "was deleted; start the same command again"),
        (lambda: write(1, successor()), "was replaced; process 17 on elsewhere took it over"),
        (lambda: write(1, b""), "was replaced; start the same command again"),
    ],
    ids=["taken over", "taken over and released", "removed", "deleted", "replaced", "emptied"],
)
@pytest.mark.parametrize("how", ["confirm", "heartbeat"])
def test_a_holder_must_find_its_own_token_under_its_own_number_and_nothing_above(how, change, message, sigterm, caplog):
    ended = pytest.raises(LeaseLostError, match=message)
    with ended as caught, lease.lease(FOLDER) as held:
        change()
        before = contents()
        if how == "confirm":
            held.confirm()
        time.sleep(10)

    assert isinstance(caught.value.__cause__, LeaseLostError if how == "confirm" else InterruptedRunError)
    assert caught.value.exit_code == 75
    assert "event=lease_lost" in caplog.text
    # Nothing is rewritten, resurrected or released.
    assert contents() == before


def test_an_error_that_the_loss_caused_becomes_the_loss():
    ended = pytest.raises(LeaseLostError, match="another job took")
    with ended as caught, lease.lease(FOLDER):
        write(2, other_job())
        raise StorageError("a file is gone")

    assert isinstance(caught.value.__cause__, StorageError)


@pytest.mark.parametrize(
    "error", [StorageError("refused"), InterruptedRunError(15), ValueError("bug"), LeaseLostError("x")]
)
def test_other_errors_pass_and_the_lease_is_released(error):
    with pytest.raises(type(error), match=str(error)), lease.lease(FOLDER):
        raise error

    assert read(1)["released"] is True


def test_a_store_that_fails_for_less_than_the_lease_ends_no_job(monkeypatch, caplog):
    real = storage.list_names
    failing = threading.Event()

    def list_names(*given: Any) -> list[str]:
        if failing.is_set():
            raise StorageError("the store is away")
        return real(*given)

    monkeypatch.setattr(storage, "list_names", list_names)
    with lease.lease(FOLDER) as held:
        failing.set()
        wait_for(lambda: "event=heartbeat_failed" in caplog.text)
        held.check()
        failing.clear()
        beat = read(1)["beat"]
        wait_for(lambda: read(1)["beat"] != beat)
        held.check()
        # For longer: the holder stops before a successor may start.
        failing.set()
        with pytest.raises(LeaseLostError, match="cut off from the store"):
            wait_for(held.check)
        failing.clear()
        held._lost = ""  # ends the test without the loss
        held._confirmed = lease._now()


def test_no_signal_is_sent_where_nothing_handles_it(clock):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ended = pytest.raises(LeaseLostError)
    with ended, lease.lease(FOLDER):
        clock[0] += lease.HOLD_S
        time.sleep(5 * lease.WATCH_S)


# --- disks ---


def replaced(folder: Path) -> None:
    shutil.copy(folder / ".lock", folder / "copy")
    (folder / "copy").replace(folder / ".lock")


LOSSES = {
    "deleted": (lambda folder: (folder / ".lock").unlink(), "cannot be read .*; start the same command again"),
    "replaced": (replaced, "is not the file that this job locked.*; start"),
    "folder deleted": (shutil.rmtree, "cannot be read"),
    "folder moved": (lambda folder: folder.rename(folder.with_name("moved")), "cannot be read"),
    "locked by another machine": (lambda folder: (folder / ".lock").write_text("7 far x"), "process 7 on far took it"),
}


@pytest.mark.parametrize(("change", "message"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("how", ["check", "confirm", "watch", "end"])
def test_on_a_disk_the_locked_file_must_be_the_one_in_the_folder(how, change, message, tmp_path, sigterm, caplog):
    ended = pytest.raises(LeaseLostError, match=message)
    with ended, lease.lease(str(tmp_path / "run")) as held:
        assert held.number == 0
        held.check()
        held.confirm()
        change(tmp_path / "run")
        if how in {"check", "confirm"}:
            getattr(held, how)()
        if how == "watch":
            time.sleep(10)

    assert "event=lease_lost" in caplog.text


def test_on_a_disk_a_lost_lease_leaves_the_lock_of_the_successor(tmp_path):
    uri = str(tmp_path / "run")
    ended = pytest.raises(
        LeaseLostError, match=f"process {os.getpid()} on {socket.gethostname()} since .* took it over"
    )
    with contextlib.ExitStack() as stack:
        with ended, lease.lease(uri):
            (tmp_path / "run" / ".lock").unlink()
            stack.enter_context(lease.lease(uri))

        with pytest.raises(OutputError, match=f"is in use by process {os.getpid()} on"), lease.lease(uri):
            pass


def test_on_a_disk_a_pause_is_no_loss(tmp_path, clock):
    with lease.lease(str(tmp_path / "run")) as held:
        clock[0] += 100 * lease.LEASE_S
        held.check()
        held.confirm()


def test_a_binary_lock_file_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").write_bytes(b"\xff\x00\xfe")
    with lease.lease(str(tmp_path)):
        pass


@pytest.mark.parametrize("there", ["", "new", "new/run"])
def test_a_folder_that_stays_empty_is_left_as_it_was(there, tmp_path):
    """The folders above it stayed behind, and one that had been there before was gone."""
    (tmp_path / there).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    with lease.lease(str(tmp_path / "new" / "run")):
        assert (tmp_path / "new" / "run" / ".lock").exists()

    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OutputError, match="run cannot be written: "), lease.lease(str(tmp_path / "new" / "run")):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert sorted(tmp_path.rglob("*")) == []
