"""Decoding in child processes: an item that ends its child is one failure. Real processes, no Ray."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.stages import isolated_decode
from fsf_core.stages.decode import decode
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import ChildLimits, decode_isolated
from tests.support import assets, crashers

LIMITS = ChildLimits(item_s=20.0, memory_bytes=3 << 30)
SETTINGS = DecodeSettings(
    profile=preprocess.PROFILES["fastsegformer"],
    limits=images.ImageLimits(),
    extra=pa.schema([]),
    segment_frames=8,
    overlays=False,
    access=storage.Access(schemes=SCHEMES),
)


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", crashers.POISON)


def _rows(files: dict[str, bytes], folder: Path, *, done: dict[str, list[int]] | None = None) -> pa.Table:
    """Manifest rows of these files, as the decode stage gets them."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return pa.table(
        {
            "item_id": list(files),
            "uri": [str(folder / name) for name in files],
            "kind": pa.nulls(len(files), pa.string()),
            "row_digest": pa.nulls(len(files), pa.binary(8)),
            "attempt": pa.array([1] * len(files), pa.int32()),
            "done_segments": pa.array([(done or {}).get(name) for name in files], pa.list_(pa.int32())),
        }
    )


def _isolated(rows: pa.Table, limits: ChildLimits = LIMITS) -> pa.Table:
    return pa.concat_tables(decode_isolated(rows, SETTINGS, limits)).sort_by(
        [("item_id", "ascending"), ("segment", "ascending")]
    )


def _good(count: int) -> dict[str, bytes]:
    return {f"good {number}.jpg": assets.pillow(assets.picture(50 + number, 70), "JPEG") for number in range(count)}


@pytest.mark.parametrize(
    ("deed", "reason"),
    [("abort", "SIGABRT"), ("kill", "SIGKILL"), ("segfault", "SIGSEGV"), ("hang", "no result after 3 s")],
)
def test_an_item_that_ends_its_child_is_one_failure_and_its_neighbours_succeed(
    deed: str, reason: str, tmp_path: Path
) -> None:
    good = _good(3)
    first, *others = good
    files = {first: good[first], "bad.png": crashers.picture(deed), **{name: good[name] for name in others}}
    rows = _rows(files, tmp_path)
    limits = ChildLimits(item_s=3.0, memory_bytes=3 << 30) if deed == "hang" else LIMITS
    found = _isolated(rows, limits)
    plain = pa.concat_tables(decode(rows.filter(pa.compute.not_equal(rows["item_id"], "bad.png")), SETTINGS))

    (bad,) = found.filter(pa.compute.equal(found["item_id"], "bad.png")).to_pylist()
    assert bad["failed_stage"] == "decode"
    assert reason in bad["error_message"]
    assert bad["frames"] == []
    neighbours = found.filter(pa.compute.not_equal(found["item_id"], "bad.png"))
    assert neighbours.to_pylist() == plain.sort_by("item_id").to_pylist()


def test_an_item_beyond_the_memory_limit_fails_with_the_limit(tmp_path: Path) -> None:
    rows = _rows({"bad.png": crashers.picture("devour"), **_good(1)}, tmp_path)
    bad, good = _isolated(rows, ChildLimits(item_s=20.0, memory_bytes=768 << 20)).to_pylist()

    assert "MemoryError" in bad["error_message"], "it wants a gigabyte"
    assert "within its 768 MiB" in bad["error_message"]
    assert len(good["frames"]) == 1


def test_what_a_decoder_prints_does_not_reach_the_responses(tmp_path: Path) -> None:
    found = _isolated(_rows({"loud.png": crashers.picture("chatter"), **_good(1)}, tmp_path)).to_pylist()

    assert [len(row["frames"]) for row in found] == [1, 1]
    assert {row["error_type"] for row in found} == {None}


@pytest.mark.parametrize("name", ["pickle", "random", "cv2"])
def test_modules_of_the_folder_that_the_job_was_started_in_shadow_none_of_the_program(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # as Ray gives it to workers by default
    [row] = _isolated(_rows(_good(1), tmp_path)).to_pylist()

    assert (row["error_message"], len(row["frames"])) == (None, 1)


def test_a_failure_quotes_nothing_that_a_decoder_prints(tmp_path: Path) -> None:
    files = {
        "1.png": crashers.picture("devour"),
        "2.png": crashers.picture("chatter"),
        "3.png": crashers.picture("kill"),
    }
    hungry, _, killed = _isolated(_rows(files, tmp_path), ChildLimits(item_s=20.0, memory_bytes=768 << 20)).to_pylist()

    assert "decoding this item raised MemoryError" in hungry["error_message"]
    assert "ended with signal SIGKILL within its 768 MiB; repair" in killed["error_message"]


def test_a_video_that_crashes_its_child_keeps_the_segments_before(tmp_path: Path) -> None:
    rows = _rows({"clip.mkv": crashers.video("abort", frames=30, at_frame=18), **_good(1)}, tmp_path)
    *segments, good = _isolated(rows).to_pylist()

    assert [row["segment"] for row in segments] == [0, 1, 2, 3]
    assert {row["segments"] for row in segments} == {4}
    assert [len(row["frames"]) for row in segments] == [8, 8, 0, 0]
    assert [row["error_type"] for row in segments] == [None, None, "CrashError", "CrashError"]
    assert "see the first failure" in segments[3]["error_message"]
    assert good["error_type"] is None


def test_a_video_done_in_part_fails_for_the_remaining_segments_only(tmp_path: Path) -> None:
    files = {"clip.mkv": crashers.video("abort", frames=30, at_frame=18)}
    found = _isolated(_rows(files, tmp_path, done={"clip.mkv": [0, 3]})).to_pylist()

    assert [row["segment"] for row in found] == [1, 2]
    assert [row["error_type"] for row in found] == [None, "CrashError"]


def test_every_item_of_a_block_with_crashing_items_has_one_row(tmp_path: Path) -> None:
    files = {f"{number} {deed}.png": crashers.picture(deed) for number, deed in enumerate(("abort", "kill"))}
    found = _isolated(_rows({**files, **_good(2)}, tmp_path)).to_pylist()

    assert [row["item_id"] for row in found] == sorted([*files, *_good(2)])
    assert [row["error_type"] for row in found] == ["CrashError"] * 2 + [None] * 2


def test_the_time_limit_starts_when_the_child_is_ready(tmp_path: Path) -> None:
    """A limit shorter than the start of a child must not fail good items."""
    found = _isolated(_rows(_good(2), tmp_path), ChildLimits(item_s=0.5, memory_bytes=3 << 30)).to_pylist()

    assert {row["error_type"] for row in found} == {None}


def test_an_image_larger_than_the_memory_limit_is_a_failure(tmp_path: Path) -> None:
    large = assets.pillow(assets.picture(2000, 3000), "PNG")
    large, good = _isolated(
        _rows({"a large one.png": large, **_good(1)}, tmp_path), ChildLimits(item_s=20.0, memory_bytes=8 << 20)
    ).to_pylist()

    assert large["error_type"] in {"CrashError", "LimitError"}
    assert "memory" in large["error_message"].lower()
    assert good["error_type"] is None


def test_tables_are_in_the_order_of_decode(tmp_path: Path) -> None:
    """Of a retried task, Ray drops by position the outputs that it has already."""
    files = {"a.jpg": _good(1)["good 0.jpg"], "b.mkv": crashers.video("chatter", frames=20, at_frame=3), **_good(1)}
    rows = _rows(files, tmp_path)
    names = [table.column("item_id").to_pylist() for table in decode_isolated(rows, SETTINGS, LIMITS)]

    assert names == [table.column("item_id").to_pylist() for table in decode(rows, SETTINGS)]


def test_a_hanging_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "hang.png").write_bytes(crashers.picture("hang"))
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        try:
            child = _first_child(parent.pid)
            time.sleep(1)
        finally:
            os.kill(parent.pid, signal.SIGKILL)

    child.wait(timeout=20)


_PARENT = """
import sys
from pathlib import Path
from tests.integration.test_isolated_decode import SETTINGS, _rows
from fsf_core.stages.isolated_decode import ChildLimits, decode_isolated
folder = Path(sys.argv[1])
rows = _rows({"hang.png": (folder / "hang.png").read_bytes()}, folder)
list(decode_isolated(rows, SETTINGS, ChildLimits(item_s=5.0, memory_bytes=3 << 30)))
"""


def _first_child(pid: int) -> psutil.Process:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children()
        if children:
            return children[0]
        time.sleep(0.1)
    raise AssertionError("no child was started")


def test_a_child_has_the_store_settings_and_proc_does_not_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    child = isolated_decode._Child(SETTINGS, LIMITS)
    child._pipes()
    shown = Path(f"/proc/{child._process.pid}/environ").read_bytes()
    child._stop()
    (tmp_path / "shows_variable.py").write_text("import os, sys\nprint(os.environ['AWS_SECRET_ACCESS_KEY'], sys.argv)")
    program = isolated_decode._START.replace(isolated_decode.__name__, "shows_variable")
    sent = ({"AWS_SECRET_ACCESS_KEY": "verysecret"}, isolated_decode._HOME, [str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env={}, capture_output=True, check=True, input=pickle.dumps(sent)
    )

    assert b"PATH=" in shown
    assert b"verysecret" not in shown
    assert done.stdout.startswith(b"verysecret")
