"""A job that is killed at random points and started again ends with the tables of an undisturbed run.

FSF_CHAOS_KILLS=20 FSF_CHAOS_SEED=1 python -m pytest tests/e2e/test_chaos.py
    the long form: 20 kills of each kind; by default 2 kills and seed 0
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from fsf_core.score.actor import MAX_HELD_FRAMES
from tests.support import assets, clips, labelled
from tests.support.processes import Job, fsf, receipts, rows_of, wait_for

KILLS = int(os.environ.get("FSF_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("FSF_CHAOS_SEED", "0"))
IMAGES, VIDEOS, VIDEO_FRAMES = 1000, 4, 60
SEPARATE_PARTS = 7
"""Parts that a run with separate stages has at least."""

LABELLED = 4
"""Of 20 images."""


@pytest.fixture(scope="module")
def command(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a job of images and videos in many parts, some of them labelled, without its --out."""
    home = tmp_path_factory.mktemp("media")
    for number in range(20):
        (home / f"{number}.jpg").write_bytes(assets.pillow(assets.picture(200 + number, 300), "JPEG"))
    for number in range(LABELLED):
        (home / f"{number}.png").write_bytes(labelled.encode(labelled.label(200 + number, 300, seed=number)))
    rows = [(number, number % 20) for number in range(IMAGES)]
    lines = [f"image {number},{name}.jpg,{f'{name}.png' if name < LABELLED else ''}" for number, name in rows]
    for number in range(VIDEOS):
        (home / f"{number}.mp4").write_bytes(clips.clip(frames=VIDEO_FRAMES, gop=5 + number))
        lines.append(f"video {number},{number}.mp4,{f'frames {number}' if number else ''}")
        (home / f"frames {number}").mkdir()
        for frame in range(0, VIDEO_FRAMES, 1 + number):
            label = labelled.encode(labelled.label(64, 96, seed=frame))
            (home / f"frames {number}" / f"{frame:03d}.png").write_bytes(label)
    (home / "items.csv").write_text("\n".join(["id,uri,label_uri", *lines, ""]))
    return [
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(home / "items.csv"), "--provider", "cpu",
        "--part-units", "4", "--segment-frames", "8", "--actors", "1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the same job in which nothing was killed."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    code, output = fsf(*command, "--out", str(out))
    assert code == 0, output
    assert runs.read_table(str(out), "masks", columns=["item_id"]).num_rows == IMAGES + VIDEOS * VIDEO_FRAMES
    counted = {*runs.open_run(str(out)).confusion(columns=["item_id"]).column("item_id").to_pylist()}
    assert len(counted) == IMAGES * LABELLED // 20 + VIDEOS - 1
    return out


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - reproducible, not secret


def _assert_same_run(undisturbed: Path, out: Path) -> None:
    assert rows_of(out) == rows_of(undisturbed)
    assert runs.verify(str(out)) == []


def _damage(out: Path) -> list[str]:
    """Return the problems of an unfinished run that must not exist: committed files that differ from their receipts."""
    lines = runs.verify(str(out)) if (out / "run.json").exists() else []
    return [
        line
        for line in lines
        if line.startswith(("torn", "missing: masks", "missing: class_stats", "missing: confusion"))
    ]


def test_kill_9_of_the_driver_at_random_points_changes_no_table(
    command: list[str], undisturbed: Path, tmp_path: Path, rng: random.Random
) -> None:
    out, parts, left = tmp_path / "run", receipts(undisturbed), []
    for share in sorted(rng.random() for _ in range(KILLS)):
        job = Job(*command, "--out", str(out))
        wait_for(lambda: receipts(out) >= share * parts or job.process.poll() is not None)  # noqa: B023 - called at once
        time.sleep(rng.random() / 4)
        left += job.kill_group()
        assert _damage(out) == []
    _, alive = psutil.wait_procs(left, timeout=60)
    code, output = fsf(*command, "--out", str(out))

    assert code == 0, output
    _assert_same_run(undisturbed, out)
    assert not alive, f"Ray outlived its driver: {alive}"


@pytest.mark.parametrize(
    ("module", "victims", "parts"),
    [
        ("fsf_core.cli", ("ScoringActor", "JobTracker"), IMAGES // MAX_HELD_FRAMES),
        ("tests.support.separate_stages", ("MapBatches(decode)", "Write"), SEPARATE_PARTS),
        ("tests.support.separate_stages", ("Infer", "JobTracker"), SEPARATE_PARTS),
    ],
    ids=["whole", "tasks", "actors"],
)
def test_kill_9_of_ray_workers_changes_no_table(
    module: str,
    victims: tuple[str, ...],
    parts: int,
    command: list[str],
    undisturbed: Path,
    tmp_path: Path,
    rng: random.Random,
) -> None:
    out = tmp_path / "run"
    job, killed = Job(*command, "--out", str(out), module=module), []
    # The first kill comes at once: decoding may be over before the first part is written.
    for share in [0.0, *sorted(0.7 * rng.random() for _ in range(max(KILLS, len(victims)) - 1))]:
        wait_for(lambda: receipts(out) >= share * parts or job.process.poll() is not None)  # noqa: B023 - called at once
        spared = [victim for victim in victims if victim not in killed]
        killed.append(job.kill_worker(spared[:1] or victims, rng, timeout_s=60))
    code, output = job.wait()

    assert code == 0, output
    assert {*killed} == {*victims}, "a kind of worker was never killed"
    _assert_same_run(undisturbed, out)


def test_a_second_job_in_the_same_folder_is_refused_and_changes_nothing(
    command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = Job(*command, "--out", str(out))
    wait_for((out / "run.json").exists)
    code, output = fsf(*command, "--out", str(out))

    assert code == 2
    assert f"in use by process {first.process.pid}" in output
    code, output = first.wait()
    assert code == 0, output
    _assert_same_run(undisturbed, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full after a few parts."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_job_on_a_full_disk_ends_with_a_message_and_is_resumed(
    command: list[str], undisturbed: Path, small_disk: Path
) -> None:
    out = small_disk / "run"
    code, output = fsf(*command, "--out", str(out))

    assert code == 75, output
    assert "No space left on device" in output
    assert "free space" in output
    assert 0 < receipts(out) < receipts(undisturbed)
    assert _damage(out) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    code, output = fsf(*command, "--out", str(out))
    assert code == 0, output
    _assert_same_run(undisturbed, out)


def test_kill_9_of_a_node_changes_no_table(
    command: list[str], undisturbed: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    out, parts = tmp_path / "run", receipts(undisturbed)
    memory = {"object_store_memory": 200_000_000}
    # A short name: it is part of the paths of Ray's sockets, which may have 107 characters.
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": str(tmp_path_factory.mktemp("r")), **memory}
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - where Ray's Cluster writes its address, whatever its folder
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=3, **memory) for _ in range(2)]
        job = Job(*command, "--out", str(out), RAY_ADDRESS=cluster.address)
        wait_for(lambda: receipts(out) >= 0.5 * rng.random() * parts or job.process.poll() is not None)
        assert job.process.poll() is None, job.wait()[1]
        cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        code, output = job.wait()
    finally:
        cluster.shutdown()

    assert code == 0, output
    _assert_same_run(undisturbed, out)
