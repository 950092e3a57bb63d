"""Killed at any moment and started again: the tables must be those of a run that nobody disturbed.

FSF_CHAOS_KILLS=20 FSF_CHAOS_SEED=1 python -m pytest tests/e2e/test_chaos.py
    the long form, with so many kills of each sort; three and a fixed seed without it
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
from fsf_core.score.spec import BLOCK_ITEMS
from tests.support import assets, clips
from tests.support.processes import Job, fsf, receipts, rows_of, wait_for

KILLS = int(os.environ.get("FSF_CHAOS_KILLS", "2"))
SEED = int(os.environ.get("FSF_CHAOS_SEED", "0"))
PICTURES, VIDEOS, VIDEO_FRAMES = 1000, 4, 60


@pytest.fixture(scope="module")
def words(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A job of pictures and videos in many parts, all but its --out."""
    home = tmp_path_factory.mktemp("media")
    sources = []
    for number in range(20):
        path = home / f"{number}.jpg"
        path.write_bytes(assets.pillow(assets.picture(200 + number, 300), "JPEG"))
        sources.append(path)
    films = []
    for number in range(VIDEOS):
        films.append(home / f"{number}.mp4")
        films[-1].write_bytes(clips.clip(frames=VIDEO_FRAMES, gop=5 + number))
    rows = [f"picture {number},{sources[number % len(sources)]}" for number in range(PICTURES)]
    rows += [f"film {number},{path}" for number, path in enumerate(films)]
    (home / "items.csv").write_text("id,uri\n" + "\n".join(rows) + "\n")
    return [
        "score", "--bundle", tiny_bundle.uri, "--manifest", str(home / "items.csv"), "--provider", "cpu",
        "--part-units", "4", "--segment-frames", "8", "--actors", "1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    code, said = fsf(*words, "--out", str(out))
    assert code == 0, said
    assert runs.read_table(str(out), "masks", columns=["item_id"]).num_rows == PICTURES + VIDEOS * VIDEO_FRAMES
    return out


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - chance that can be repeated


def _same_as(unbroken: Path, out: Path) -> None:
    assert rows_of(out) == rows_of(unbroken)
    assert runs.verify(str(out)) == []


def _damage(out: Path) -> list[str]:
    """What is wrong with a run, beside that it has not finished: committed files that differ from their receipts."""
    lines = runs.verify(str(out)) if (out / "run.json").exists() else []
    return [line for line in lines if line.startswith(("torn", "missing: masks", "missing: class_stats"))]


def test_kill_9_of_the_driver_at_random_points_changes_nothing(
    words: list[str], unbroken: Path, tmp_path: Path, rng: random.Random
) -> None:
    out, parts, left = tmp_path / "run", receipts(unbroken), []
    for share in sorted(rng.random() for _ in range(KILLS)):
        job = Job(*words, "--out", str(out))
        wait_for(lambda: receipts(out) >= share * parts or job.process.poll() is not None)  # noqa: B023 - at once
        time.sleep(rng.random() / 4)
        left += job.kill_group()
        assert _damage(out) == []
    _, alive = psutil.wait_procs(left, timeout=60)
    code, said = fsf(*words, "--out", str(out))

    assert code == 0, said
    _same_as(unbroken, out)
    assert not alive, f"Ray outlived its driver: {alive}"


@pytest.mark.parametrize(
    ("module", "victims", "parts"),
    [
        ("fsf_core.cli", ("ScoringActor", "Watch"), PICTURES // MAX_HELD_FRAMES),
        ("tests.apart", ("recovering_decode", "Write"), PICTURES // BLOCK_ITEMS),
        ("tests.apart", ("Infer", "Watch"), PICTURES // BLOCK_ITEMS),
    ],
    ids=["whole", "tasks", "actors"],
)
def test_kill_9_of_processes_of_ray_is_not_noticed(
    module: str,
    victims: tuple[str, ...],
    parts: int,
    words: list[str],
    unbroken: Path,
    tmp_path: Path,
    rng: random.Random,
) -> None:
    out = tmp_path / "run"
    job, killed = Job(*words, "--out", str(out), module=module), []
    # The first while there is work for every sort: all that is to be decoded may be before the first part is written.
    for share in [0.0, *sorted(0.7 * rng.random() for _ in range(max(KILLS, len(victims)) - 1))]:
        wait_for(lambda: receipts(out) >= share * parts or job.process.poll() is not None)  # noqa: B023 - at once
        left = [victim for victim in victims if victim not in killed]
        killed.append(job.kill_worker(left[:1] or victims, rng, seconds=60))
    code, said = job.wait()

    assert code == 0, said
    assert {*killed} == {*victims}, "the test met its victims"
    _same_as(unbroken, out)


def test_a_second_start_in_the_same_folder_is_refused_and_harms_nothing(
    words: list[str], unbroken: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = Job(*words, "--out", str(out))
    wait_for((out / "run.json").exists)
    code, said = fsf(*words, "--out", str(out))

    assert code == 2
    assert f"in use by process {first.process.pid}" in said
    code, said = first.wait()
    assert code == 0, said
    _same_as(unbroken, out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that fills up after some parts."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_ends_the_job_with_words_and_can_be_resumed(
    words: list[str], unbroken: Path, small_disk: Path
) -> None:
    out = small_disk / "run"
    code, said = fsf(*words, "--out", str(out))

    assert code == 2, said
    assert "No space left on device" in said
    assert "free space" in said
    assert 0 < receipts(out) < receipts(unbroken)
    assert _damage(out) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    code, said = fsf(*words, "--out", str(out))
    assert code == 0, said
    _same_as(unbroken, out)


def test_kill_9_of_a_node_changes_nothing(
    words: list[str], unbroken: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    out, parts = tmp_path / "run", receipts(unbroken)
    memory = {"object_store_memory": 200_000_000}
    # A short name: Ray's sockets lie below it, and their paths may have 107 characters.
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": str(tmp_path_factory.mktemp("r")), **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=3, **memory) for _ in range(2)]
        job = Job(*words, "--out", str(out), RAY_ADDRESS=cluster.address)
        wait_for(lambda: receipts(out) >= 0.5 * rng.random() * parts or job.process.poll() is not None)
        assert job.process.poll() is None, job.wait()[1]
        cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        code, said = job.wait()
    finally:
        cluster.shutdown()

    assert code == 0, said
    _same_as(unbroken, out)
