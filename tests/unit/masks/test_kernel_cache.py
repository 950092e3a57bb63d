"""The machine code that was cached beside the kernels is found by users who cannot write there.

numba skips a cache folder that it cannot write: in an image every process of another user than root compiled for 14 s.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMESPACE = ["unshare", "--mount", "--map-root-user"]
NOWHERE = Path("/proc/nowhere")
COMPILED, LOADED = [0, 1], [1, 0]
PROGRAM = """
import json
import numpy as np
from fsf_core import masks
from fsf_core.masks import kernels

masks.softmax(np.zeros((4, 3, 3), np.float32))
stats = kernels.softmax_planes.stats
print(json.dumps([sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="no mount namespaces here",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package whose kernels were compiled for any processor of this architecture."""
    folder = tmp_path_factory.mktemp("image")
    shutil.copytree(ROOT / "fsf_core", folder / "fsf_core", ignore=shutil.ignore_patterns("__pycache__"))
    assert load(folder, home=NOWHERE, writable=True) == COMPILED
    return folder


def load(package: Path, *, home: Path, processor: str | None = "generic", writable: bool = False) -> list[int]:
    """Run one kernel in a new process; return how many were loaded from a cache, and how many compiled."""
    command = [sys.executable, "-B", "-c", PROGRAM]
    if not writable:  # a mount, because root may write whatever the mode
        mount = f"mount --bind {package} {package} && mount -o remount,ro,bind {package}"
        command = [*NAMESPACE, "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package), "HOME": str(home)}
    environment |= {} if processor is None else {"NUMBA_CPU_NAME": processor}
    done = subprocess.run(command, cwd=package, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_user_who_cannot_write_loads_what_was_compiled(package: Path, tmp_path: Path) -> None:
    assert load(package, home=tmp_path) == LOADED
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_user_who_cannot_write_anywhere_does_too(package: Path) -> None:
    assert load(package, home=NOWHERE) == LOADED


def test_code_for_another_processor_is_compiled_once_and_kept_in_the_home(package: Path, tmp_path: Path) -> None:
    assert load(package, home=tmp_path, processor=None) == COMPILED
    assert load(package, home=tmp_path, processor=None) == LOADED


def test_code_for_another_processor_is_compiled_where_nothing_can_be_written(package: Path) -> None:
    assert load(package, home=NOWHERE, processor=None) == COMPILED


def start(package: Path, program: str, cache: Path | None = None) -> "subprocess.Popen[str]":
    """Start a program with the package, and with a cache folder of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(package)}
    environment |= {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-B", "-c", program]
    return subprocess.Popen(command, cwd=package, env=environment, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_that_need_a_function_one_compiles_it(package: Path, tmp_path: Path) -> None:
    both = [start(package, PROGRAM, tmp_path) for _ in range(2)]

    assert sorted(json.loads(process.communicate()[0]) for process in both) == [COMPILED, LOADED]
    assert [*tmp_path.rglob("*.lock")] == []


def test_the_lock_of_a_process_that_was_killed_holds_nobody_up(package: Path, tmp_path: Path) -> None:
    killed = start(package, PROGRAM, tmp_path)
    while not [*tmp_path.rglob("*.lock")]:
        assert killed.poll() is None, "compiled before it could be killed"
        time.sleep(0.005)
    killed.kill()
    killed.communicate()

    assert json.loads(start(package, PROGRAM, tmp_path).communicate()[0]) == COMPILED
    assert [*tmp_path.rglob("*.lock")] == []


def test_an_unreadable_cache_is_not_there(package: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(package, tmp_path / "image")
    for index in copied.rglob("*.nbi"):
        index.unlink()
        index.mkdir()  # opening it fails, for root too

    assert load(copied, home=NOWHERE) == COMPILED
