"""Signals that arrive where nothing may be left half done, those that one thread sends to another, and the end."""

import signal
import subprocess
import sys
import threading

import pytest

from fsf_core.errors import InterruptedRunError
from fsf_core.process import interrupt_main_thread, interruptible, uninterrupted

CHANGING = """
import signal, threading
from fsf_core.errors import InterruptedRunError
from fsf_core.process import interrupt_main_thread, interruptible

def send(ended):
    while not ended.is_set():
        if interrupt_main_thread(signal.SIGTERM):
            return

for _ in range(3000):
    ended = threading.Event()
    thread = threading.Thread(target=send, args=(ended,))
    try:
        with interruptible():
            thread.start()
    except InterruptedRunError:
        pass
    ended.set()
    thread.join()
"""

ENDING = """
import atexit, threading, time
from fsf_core.process import end_process, open_standard_streams

class Heavy:
    def __del__(self):
        print("destroyed")

open_standard_streams()
kept = Heavy()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("other thread"))).start()
print("no newline at the end", end="")
end_process(3)
"""


def test_the_end_of_a_process_waits_calls_and_writes_but_destroys_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "no newline at the endother thread\nat exit\n"


INTERRUPTED_AT_THE_END = """
import atexit, os, signal, threading, time
from fsf_core.process import end_process, open_standard_streams

def interrupt():
    while not threading._SHUTTING_DOWN:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)

open_standard_streams()
atexit.register(print, "at exit")
threading.Thread(target=interrupt).start()
end_process(3)
"""


def test_an_interrupt_at_the_end_of_a_process_ends_its_wait_for_threads_and_changes_no_exit_code() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_AT_THE_END], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (3, "at exit\n", "")


def test_a_signal_is_put_off_to_the_end_of_an_uninterrupted_block() -> None:
    done = []

    def work() -> None:
        with interruptible(), uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            done.append(1)

    with pytest.raises(InterruptedRunError):
        work()
    assert done
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_without_our_handler_an_uninterrupted_block_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    with uninterrupted():
        assert signal.getsignal(signal.SIGINT) is before


def test_the_second_signal_of_an_uninterrupted_block_kills() -> None:
    command = (
        "import signal\nfrom fsf_core.process import interruptible, uninterrupted\n"
        "with interruptible(), uninterrupted():\n"
        "    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.raise_signal(number)\n"
        "    print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")


def test_a_thread_wakes_the_main_thread_only_where_it_handles_the_signal() -> None:
    assert not interrupt_main_thread(signal.SIGTERM)
    with interruptible(), uninterrupted():
        assert not interrupt_main_thread(signal.SIGTERM)

    def work() -> None:
        with interruptible():
            threading.Thread(target=interrupt_main_thread, args=(signal.SIGTERM,)).start()
            threading.Event().wait(10)

    with pytest.raises(InterruptedRunError):
        work()


def test_a_signal_of_a_thread_never_meets_the_default_handler() -> None:
    done = subprocess.run([sys.executable, "-c", CHANGING], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
