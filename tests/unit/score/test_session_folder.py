"""Ray's folder in the temporary directory: private, removed with its job, swept after a killed one, or refused."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fsf_core.errors import ClusterError
from fsf_core.score.local_ray import session_folder as module
from fsf_core.score.local_ray.agent_stub import FOLDER_PREFIX, LOCK_NAME
from fsf_core.score.local_ray.session_folder import session_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(parent))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    return parent


def test_the_folder_is_private_and_removed_with_the_block(short: Path):
    with session_folder() as folder:
        assert folder.parent.parent == short
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "a.log").write_text("x")
    assert list(short.iterdir()) == []


def test_folders_of_killed_jobs_are_swept_and_no_others(short: Path):
    killed, living, fresh, old, foreign = (short / f"{FOLDER_PREFIX}{name}" for name in ("k", "l", "f", "o", "user"))
    for each in (killed, living, fresh, old, foreign):
        (each / "r").mkdir(parents=True)
    for each in (killed, living, foreign):
        (each / LOCK_NAME).touch()
    (short / "session_of_another_program").mkdir()
    os.utime(old, (1, 1))
    if os.geteuid() == 0:
        os.chown(foreign, 1, 1)
    holder = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, living / LOCK_NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout
        job.stdout.readline()
        with session_folder():
            left = {each.name for each in short.iterdir()}
        job.kill()

    assert living.name in left
    assert fresh.name in left, "its job has not locked it yet"
    assert "session_of_another_program" in left
    assert not {killed.name, old.name} & left
    assert (foreign.name in left) == (os.geteuid() == 0)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("file", "Not a directory")])
def test_a_temporary_directory_that_cannot_be_used_is_the_reason(name, reason, short: Path, monkeypatch):
    (short / "file").touch()
    monkeypatch.setenv("TMPDIR", str(short / name))
    with pytest.raises(ClusterError, match=f"{short / name} cannot be used: {reason}; .* set TMPDIR"), session_folder():
        pass


def test_a_full_temporary_directory_is_the_reason(short: Path):
    """The limit on the size of a file is the part of a full disk that every user can have."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from fsf_core.score.local_ray.session_folder import session_folder\n"
        "with session_folder(): pass"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"ClusterError: the temporary directory {short} cannot be written: File too large; expected 4 MiB" in (
        done.stderr
    )
    assert list(short.iterdir()) == []


def test_a_path_too_long_for_sockets_is_the_reason_and_the_longest_one_works(short: Path, monkeypatch):
    room = module.MAX_SOCKET_PATH - len(f"/{FOLDER_PREFIX}12345678/r/{module.SESSION_NAME}/sockets/plasma_store")
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(tempfile, "tempdir", None)
    for length, works in ((room, True), (room + 1, False)):
        parent = Path(f"{tempfile.gettempdir()}/fsf-test-".ljust(length, "x"))
        parent.mkdir()
        monkeypatch.setenv("TMPDIR", str(parent))
        try:
            if works:
                with session_folder():
                    pass
            else:
                with pytest.raises(ClusterError, match=f"expected at most {room}, .* set RAY_TMPDIR"), session_folder():
                    pass
        finally:
            parent.rmdir()
