"""Machine code that other processes, other sources and other file systems leave behind is never run or waited for."""

import errno
import fcntl
import importlib.util
import sys
import time
from pathlib import Path

import pytest

from fsf_core.machine_code.compiling import compiled, is_compiled


class KilledError(BaseException):
    """Ends a process at any place."""


def raising(error):
    def call(*_, **__):
        raise error

    return call


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """Return a compiled function of a file, as a new process has it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(number: int):
        path = tmp_path / "loops.py"
        path.write_text(f"def loop():\n    return {number}\n")
        spec = importlib.util.spec_from_file_location("loops", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "loops", module)
        spec.loader.exec_module(module)
        return compiled(module.loop)

    return make


def hits(function) -> int:
    return sum(function.stats.cache_hits.values())


def test_machine_code_of_an_earlier_source_is_not_run_where_a_process_was_killed_as_it_saved_the_new_one(loop):
    assert loop(1)() == 1
    killed = loop(2)
    killed._cache._cache_file._save_data = raising(KilledError)
    with pytest.raises(KilledError):
        killed()

    after, later = loop(2), loop(2)
    assert (after(), hits(after)) == (2, 0)
    assert (later(), hits(later)) == (2, 1)


def test_a_file_system_without_locks_holds_nobody_up(loop, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", raising(OSError(errno.ENOSYS, "Function not implemented")))
    monkeypatch.setattr(time, "sleep", raising(KilledError))
    first, second = loop(1), loop(1)

    assert (first(), hits(first)) == (1, 0)
    assert (second(), hits(second)) == (1, 1)


def test_a_lock_that_is_held_is_waited_for(loop, monkeypatch):
    waited = []

    def release(seconds: float) -> None:
        waited.append(seconds)
        holder._cache._unlock()

    holder, other = loop(1), loop(1)
    holder._cache._lock()
    monkeypatch.setattr(time, "sleep", release)

    assert other() == 1
    assert len(waited) == 1


def test_a_full_disk_costs_the_next_process_its_time_and_this_one_nothing(loop, tmp_path):
    first = loop(1)
    first._cache._cache_file.save = raising(OSError(errno.ENOSPC, "No space left on device"))
    assert first() == 1
    assert [*tmp_path.rglob("*.lock")] == []

    second = loop(1)
    assert (second(), hits(second)) == (1, 0)


@pytest.mark.parametrize("content", [b"", bytes(64), None], ids=["empty", "zeros", "half"])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_files_that_a_power_cut_left_in_pieces_are_written_again(suffix, content, loop, tmp_path):
    loop(1)()
    [path] = tmp_path.rglob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)

    after, later = loop(1), loop(1)
    assert is_compiled(after) == (suffix == "nbc")
    assert (after(), hits(after)) == (1, 0)
    assert (later(), hits(later)) == (1, 1)


def test_the_next_process_that_compiles_removes_the_locks_of_killed_ones_and_no_other(loop):
    function = loop(1)
    folder = Path(function._cache.cache_path)
    folder.mkdir(exist_ok=True)
    abandoned, held = folder / "other.killed-1.lock", folder / "other.compiling-1.lock"
    for path in (abandoned, held):
        path.touch()
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        function()

    assert [path.name for path in folder.glob("*.lock")] == [held.name]
