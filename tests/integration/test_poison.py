"""Items that crash, hang or exhaust memory each cost one failure row, and the other items nothing."""

from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from tests.support import assets, crashers, ledger
from tests.support.processes import fsf

GOOD = 24
ITEM_SECONDS = 5


@pytest.fixture(scope="module")
def scored(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """A run over good images and a video, and one over the same with every kind of crashing item among them."""
    home = tmp_path_factory.mktemp("poison")
    clip = crashers.video("chatter", frames=20, at_frame=40)
    for folder in ("clean", "mixed"):
        for number in range(GOOD):
            data = assets.pillow(assets.picture(40 + number, 60), "JPEG")
            _write(home / folder / f"good/{number:02d}.jpg", data)
        _write(home / folder / "good/clip.mkv", clip)
    for kind in crashers.DEADLY:
        _write(home / "mixed" / f"good/{kind}.png", crashers.picture(kind))
    _write(home / "mixed" / "good/loud.png", crashers.picture("chatter"))
    _write(home / "mixed" / "good/deadly.mkv", crashers.video("segfault", frames=20, at_frame=12))

    summaries = {folder: _score(home / folder, home / f"{folder} run", tiny_bundle) for folder in ("clean", "mixed")}
    return home / "clean run", home / "mixed run", summaries["mixed"]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _score(folder: Path, out: Path, bundle: Bundle) -> dict:
    code, output = fsf(
        "score", "--bundle", bundle.uri, "--manifest", str(folder), "--out", str(out), "--provider", "cpu",
        "--segment-frames", "8", "--item-seconds", str(ITEM_SECONDS), "--item-memory-mb", "768",
        PYTHONPATH=crashers.POISON,
    )  # fmt: skip
    assert code == 0, output
    return runs.read_document(str(out), "summary.json")


def test_every_crashing_item_costs_one_failure_row(scored: tuple[Path, Path, dict]) -> None:
    rows = runs.read_table(str(scored[1]), "failures").to_pylist()
    lost_segments = ["good/deadly.mkv"] * 2

    assert sorted(row["item_id"] for row in rows) == sorted(
        [*lost_segments, *(f"good/{kind}.png" for kind in crashers.DEADLY)]
    )
    assert {row["stage"] for row in rows} == {"decode"}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("good/abort.png", "SIGABRT"),
        ("good/kill.png", "SIGKILL"),
        ("good/segfault.png", "SIGSEGV"),
        ("good/hang.png", "no result after 5 s"),
        ("good/devour.png", "MemoryError"),
        ("good/deadly.mkv", "SIGSEGV"),
    ],
)
def test_the_failure_names_how_the_process_ended(scored: tuple[Path, Path, dict], item: str, reason: str) -> None:
    rows = runs.read_table(str(scored[1]), "failures", item_id=item).to_pylist()

    assert reason in rows[0]["error_message"]


def test_the_other_items_have_the_masks_of_a_run_without_crashing_items(scored: tuple[Path, Path, dict]) -> None:
    clean, mixed, _ = scored
    differ = ("uri", "run_id", "item_version")  # the same bytes in two files
    wanted = ledger.sorted_rows(str(clean), "masks", but=differ)
    bad = {"good/deadly.mkv", "good/loud.png"}
    found = [row for row in ledger.sorted_rows(str(mixed), "masks", but=differ) if row["item_id"] not in bad]

    assert len(wanted) == GOOD + 20
    assert found == wanted


def test_a_crashing_video_keeps_the_segments_before_the_crash(scored: tuple[Path, Path, dict]) -> None:
    frames = runs.read_table(str(scored[1]), "masks", item_id="good/deadly.mkv").column("frame_index").to_pylist()

    assert sorted(frames) == list(range(8))


def test_a_run_with_crashing_items_passes_verification(scored: tuple[Path, Path, dict]) -> None:
    _, mixed, summary = scored

    assert summary["items"]["failed"] == len(crashers.DEADLY) + 1
    assert summary["items"]["total"] == GOOD + 1 + len(crashers.DEADLY) + 2
    assert runs.verify(str(mixed)) == []
