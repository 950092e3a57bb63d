"""Long videos are partitioned among tasks, on one machine or several nodes, and the tables are those of one task."""

from pathlib import Path
from typing import Any

import pytest

from fsf_core import runs
from fsf_core.config import ScoreConfig
from fsf_core.model.bundle import Bundle
from fsf_core.score.job import score
from tests.support import clips, ledger
from tests.support.processes import fsf

pytestmark = pytest.mark.usefixtures("ray_here")

FRAMES = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long videos, two of them broken, under names with and without a video suffix."""
    home = tmp_path_factory.mktemp("videos")
    whole = clips.clip(frames=FRAMES, container="matroska", options={"x264-params": "open-gop=1"})
    videos = {"whole": whole, "cut": whole[: len(whole) * 3 // 5], "hole": clips.overwritten(whole, 95, b"\xff")}
    for name, data in videos.items():
        (home / f"{name}.mkv").write_bytes(data)
        (home / f"{name}.bin").hardlink_to(home / f"{name}.mkv")  # without a video suffix it is not partitioned
    for kind in ("mkv", "bin"):
        lines = [f"{name},{name}.{kind}" for name in videos]
        (home / f"{kind}.csv").write_text("\n".join(["id,uri", *lines]) + "\n")
    return home


def _config(folder: Path, kind: str, out: Path, bundle: Bundle, **more: Any) -> ScoreConfig:
    return ScoreConfig(
        bundle=bundle.uri, manifest=str(folder / f"{kind}.csv"), out=str(out), provider="cpu", segment_frames=4, **more
    )


def _tables(out: Path) -> dict[str, list[dict]]:
    return {
        "masks": ledger.sorted_rows(str(out), "masks", but=("run_id", "uri")),
        "class_stats": ledger.sorted_rows(str(out), "class_stats"),
        "failures": sorted(
            runs.read_table(str(out), "failures").drop_columns(["uri"]).to_pylist(),
            key=lambda row: str(sorted(row.items(), key=str)),
        ),
    }


@pytest.fixture(scope="module")
def one_task(folder: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    score(_config(folder, "bin", out, tiny_bundle))
    return out


@pytest.fixture(scope="module")
def many_tasks(folder: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "many"
    score(_config(folder, "mkv", out, tiny_bundle))
    return out


def test_tasks_of_a_video_give_the_tables_of_one_task(one_task: Path, many_tasks: Path) -> None:
    assert _tables(many_tasks) == _tables(one_task)
    assert runs.verify(str(many_tasks)) == []
    frames = runs.read_table(str(many_tasks), "masks", item_id="whole").sort_by("frame_index")
    assert frames.column("frame_index").to_pylist() == list(range(FRAMES))


def test_a_broken_video_keeps_its_good_frames_and_lists_the_lost_ones(many_tasks: Path) -> None:
    scored = {row["item_id"]: 0 for row in _tables(many_tasks)["masks"]}
    for row in _tables(many_tasks)["masks"]:
        scored[row["item_id"]] += 1
    reasons = [row for row in _tables(many_tasks)["failures"] if row["error_type"] == "BrokenVideoError"]

    assert 50 < scored["cut"] < FRAMES * 3 // 5 + 20
    assert FRAMES - 20 < scored["hole"] < FRAMES
    assert {row["item_id"] for row in reasons} == {"cut", "hole"}
    assert all(f"frame {row['frame_index']}" in row["error_message"] for row in reasons if row["item_id"] == "hole")


def test_a_partly_scored_video_is_finished_by_the_same_command(
    folder: Path, many_tasks: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    score(_config(folder, "mkv", tmp_path / "run", tiny_bundle, part_units=4))
    for receipt in sorted((tmp_path / "run" / "receipts").iterdir())[::2]:
        receipt.unlink()
    score(_config(folder, "mkv", tmp_path / "run", tiny_bundle, part_units=4))

    found, expected = _tables(tmp_path / "run"), _tables(many_tasks)
    assert [found["masks"], found["class_stats"]] == [expected["masks"], expected["class_stats"]]
    assert runs.verify(str(tmp_path / "run")) == []


def test_sampled_frames_have_the_same_numbers_times_and_masks_as_without_sampling(
    folder: Path, many_tasks: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    score(_config(folder, "mkv", tmp_path / "run", tiny_bundle, fps=5.0, start_s=2.0, end_s=4.0))
    unsampled = {(row["item_id"], row["frame_index"]): row for row in _tables(many_tasks)["masks"]}
    found = _tables(tmp_path / "run")["masks"]

    assert [row["frame_index"] for row in found if row["item_id"] == "whole"] == list(range(50, 100, 5))
    assert found == [unsampled[row["item_id"], row["frame_index"]] for row in found]


def test_three_nodes_write_the_tables_of_one_task(
    folder: Path, one_task: Path, tiny_bundle: Bundle, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 150_000_000}
    head = {"num_cpus": 2, "include_dashboard": False, "temp_dir": str(tmp_path_factory.mktemp("r")), **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, **memory)
        code, output = fsf(
            "score", "--bundle", tiny_bundle.uri, "--manifest", str(folder / "mkv.csv"), "--out", str(tmp_path / "run"),
            "--provider", "cpu", "--segment-frames", "4", "--actors", "2", RAY_ADDRESS=cluster.address,
        )  # fmt: skip
    finally:
        cluster.shutdown()

    assert code == 0, output
    assert _tables(tmp_path / "run") == _tables(one_task)
