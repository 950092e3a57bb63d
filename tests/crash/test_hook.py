"""The crash hook reports every way in which Python changes a file, and stops where it is asked to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.crash.hooked import HOOK, Point, anonymous, points_of

CHANGES = """
import os, shutil, sys, tempfile
from pathlib import Path
root, other = Path(sys.argv[1]), Path(sys.argv[2])
(root / "a" / "b").mkdir(parents=True)
(root / "a" / "b" / "x").write_bytes(b"0123456789")
(root / "a" / "t").write_text("t")
with open(root / "a" / "t", "a") as file:
    file.write("appended to an existing file: no change of a name")
with tempfile.NamedTemporaryFile(dir=root, prefix="n", suffix="n", delete=False) as file:
    os.replace(file.name, root / "n")
os.close(os.open(root / "o", os.O_CREAT | os.O_WRONLY))
os.rename(root / "o", root / "p")
os.link(root / "p", root / "q")
(root / "s").symlink_to(root / "p")
(root / "q").unlink()
(root / "q").unlink(missing_ok=True)
os.remove(root / "s")
(root / "a").mkdir(exist_ok=True)
shutil.copyfile(root / "p", root / "copied")
shutil.move(root / "p", other / "moved")
os.replace(other / "moved", root / "back")
open(os.open(other / "x", os.O_CREAT | os.O_WRONLY), "w").close()
(other / "outside").write_bytes(b"not reported")
shutil.rmtree(root / "a")
"""

EXPECTED = [
    "mkdir a", "mkdir a/b", "create a/b/x", "write a/b/x", "create a/t",
    "create n*n", "rename n*n -> n", "create o", "rename o -> p", "link p -> q", "link p -> s", "remove q", "remove s",
    "create copied", "rename p -> outside", "rename outside -> back",
    "remove a/b/x", "rmdir a/b", "remove a/t", "rmdir a",
]  # fmt: skip


def start(code, notes: Path, root: Path, *arguments, **settings):
    notes.mkdir()
    (notes / "settings.json").write_text(json.dumps({"roots": [str(root)], **settings}))
    environment = {**os.environ, "PYTHONPATH": str(HOOK), "CRASH_DIR": str(notes)}
    return subprocess.Popen([sys.executable, "-c", code, root, *arguments], env=environment)


def lines(notes: Path):
    return [line.partition(" ")[2] for line in (notes / "changes").read_text().splitlines()]


def wait_for(path: Path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    return tmp_path / "root"


def test_every_change_is_reported_once_and_nothing_else(root: Path, tmp_path: Path) -> None:
    assert start(CHANGES, tmp_path / "notes", root, tmp_path / "other").wait(30) == 0
    found = lines(tmp_path / "notes")
    name = found[5].removeprefix("create ")

    in_order = len(EXPECTED) - 4  # rmtree lists a folder in any order
    assert [each.replace(name, "n*n") for each in found[:in_order]] == EXPECTED[:in_order]
    assert sorted(found[in_order:]) == sorted(EXPECTED[in_order:])


@pytest.mark.parametrize(
    ("pattern", "when", "content"),
    [
        ("^create x", "before", None),
        ("^create x", "after", b""),
        ("^write x", "half", b"01234"),
        ("^rename x -> y", "before", b"0123456789"),
        ("^rename x -> y", "after", None),
    ],
)
def test_a_process_waits_at_its_point(pattern: str, when: str, content: bytes | None, root: Path) -> None:
    code = "import os, sys; os.chdir(sys.argv[1]); open('x', 'wb').write(b'0123456789'); os.rename('x', 'y')"
    notes = root.parent / "notes"
    process = start(code, notes, root, pattern=pattern, when=when)
    wait_for(notes / "reached")

    assert ((root / "x").read_bytes() if (root / "x").exists() else None) == content
    (notes / "go").touch()
    assert process.wait(20) == 0
    assert (root / "y").read_bytes() == b"0123456789"


def test_matches_are_counted_over_all_processes(root: Path) -> None:
    code = """
import subprocess, sys
if sys.argv[2] != "0":
    open(f"{sys.argv[1]}/{sys.argv[2]}", "w").close()
    subprocess.run([sys.executable, "-c", sys.argv[3], sys.argv[1], str(int(sys.argv[2]) - 1), sys.argv[3]], check=True)
"""
    notes = root.parent / "notes"
    process = start(code, notes, root, "5", code, pattern="^create", number=3)
    wait_for(notes / "reached")

    assert sorted(path.name for path in root.iterdir()) == ["4", "5"]
    (notes / "go").touch()
    assert process.wait(20) == 0
    assert len(lines(notes)) == 5


def test_a_frozen_process_goes_on_when_it_is_continued(root: Path) -> None:
    notes = root.parent / "notes"
    process = start(
        "import sys; open(sys.argv[1] + '/x', 'w')", notes, root, pattern="create", when="after", freeze=True
    )
    wait_for(notes / "reached")
    stat = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + 20
    while stat.read_text().split()[2] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGCONT)

    assert process.wait(20) == 0


def test_points_of_a_recorded_job_match_any_run_of_it() -> None:
    changes = ["create .a.0123abcd.tmp", "write .a.0123abcd.tmp", "create .a.89abcdef.tmp"]
    points = points_of(changes)

    assert [(point.number, point.when) for point in points] == [
        (1, "before"), (1, "after"), (1, "half"), (2, "before"), (2, "after"),
    ]  # fmt: skip
    assert points[0].pattern == anonymous("create .a.ffffffff.tmp").join("^$")
    assert isinstance(points[0], Point)
