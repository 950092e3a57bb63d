"""Leases in a store: refused while the holder lives, waited for while it is silent, taken over once it is dead."""

import json
import logging
import os
import signal
import socket
import time

import fsspec
import pytest

from fsf_core import storage
from fsf_core.errors import OutputError
from fsf_core.runs import lease

FOLDER = "memory://bucket/leased"


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lease, "LEASE_S", 0.5)
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield
    filesystem.store.clear()


def left_behind(host: str, pid: int) -> None:
    """Write the lease of a job that no longer renews it."""
    storage.write_bytes(f"{FOLDER}/.lease-3", json.dumps({"host": host, "pid": pid, "beat": "x"}).encode())


def dead_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_a_lease_is_held_for_the_block_and_removed_after_it():
    with lease.lease(FOLDER):
        assert storage.list_names(FOLDER, ".lease-") == [".lease-1"]

    assert storage.list_names(FOLDER, ".lease-") == []


def test_a_second_job_is_refused_while_the_first_renews_its_lease():
    refused = pytest.raises(OutputError, match=f"is in use by process {os.getpid()} on {socket.gethostname()}; wait")

    with lease.lease(FOLDER), refused, lease.lease(FOLDER):
        pass


def test_the_lease_of_a_job_on_another_host_is_waited_for_and_then_taken_over(caplog):
    left_behind("elsewhere", 17)
    started = time.monotonic()

    with caplog.at_level(logging.INFO, logger="fsf"), lease.lease(FOLDER):
        assert storage.list_names(FOLDER, ".lease-") == [".lease-4"]

    assert time.monotonic() - started > lease.LEASE_S
    waits = [record.getMessage() for record in caplog.records]
    assert waits
    assert {*waits} == {f"event=waiting_for_lease out={FOLDER} holder='process 17 on elsewhere'"}


def test_the_lease_of_a_job_that_died_on_this_host_is_taken_over_at_once(caplog):
    left_behind(socket.gethostname(), dead_process())

    with caplog.at_level(logging.INFO, logger="fsf"), lease.lease(FOLDER):
        assert storage.list_names(FOLDER, ".lease-") == [".lease-4"]

    assert caplog.records == []


def test_a_damaged_lease_is_taken_over_once_it_expires():
    storage.write_bytes(f"{FOLDER}/.lease-3", b"noise")

    with lease.lease(FOLDER):
        assert storage.list_names(FOLDER, ".lease-") == [".lease-4"]


def test_a_job_whose_lease_was_taken_over_gets_sigterm(caplog):
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with lease.lease(FOLDER):
            storage.write_bytes(f"{FOLDER}/.lease-2", b"another job")
            deadline = time.monotonic() + 10
            while not received and time.monotonic() < deadline:
                time.sleep(0.02)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert received == [signal.SIGTERM]
    assert "event=lease_lost" in caplog.text
