"""CI runs what it promises: a skipped test fails there, unless a GPU is the reason."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

def test_that_needs_a_program():
    pytest.skip("chromium is not installed")

def test_that_needs_a_gpu():
    pytest.skip("no GPU: no driver")

@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False

@pytest.mark.photos
def test_that_needs_photographs():
    assert False
"""


def outcome(folder: Path, **environment: str) -> tuple[int, str]:
    """Run TESTS with the conftest of this project; returns the exit code and the last line."""
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, folder / "test_it.py"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("ci", "code", "counts"),
    [("true", 1, "1 failed, 1 skipped, 1 deselected, 1 xfailed"), ("", 0, "2 skipped, 1 deselected, 1 xfailed")],
)
def test_a_skip_fails_in_ci_unless_a_gpu_is_the_reason(ci: str, code: int, counts: str, tmp_path: Path) -> None:
    returned, summary = outcome(tmp_path, CI=ci)

    assert returned == code
    assert summary.startswith(counts)
