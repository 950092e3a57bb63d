"""Good files among as many bad ones, each bad in a different way: good files get the same results as without them."""

import csv
from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from tests.support import corpus, crashers, ledger
from tests.support.processes import fsf

FUZZED = 40


@pytest.fixture(scope="module")
def scored(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run over the good files alone, and one over good and bad."""
    home = tmp_path_factory.mktemp("corpus")
    outs = (home / "good run", home / "mixed run")
    for manifest, out in zip(corpus.write(home, seed=3, fuzzed=FUZZED), outs, strict=True):
        code, output = fsf(
            "score", "--bundle", tiny_bundle.uri, "--manifest", str(manifest), "--out", str(out), "--provider", "cpu",
            "--segment-frames", "8", "--item-seconds", "10", "--item-memory-mb", "900",
            PYTHONPATH=crashers.POISON,
        )  # fmt: skip
        assert code == 0, output
    return outs


def test_good_items_have_the_same_masks_with_and_without_bad_ones(scored: tuple[Path, Path]) -> None:
    good, mixed = (ledger.sorted_rows(str(out), "masks", but=("run_id",)) for out in scored)
    among_bad = [row for row in mixed if row["item_id"].startswith("good/")]

    assert len(good) >= 100
    assert among_bad == good


def test_every_bad_item_is_a_failure_with_a_reason_or_was_readable(scored: tuple[Path, Path]) -> None:
    failures = runs.read_table(str(scored[1]), "failures").to_pylist()
    failed = {row["item_id"] for row in failures}
    found = {row["item_id"] for row in runs.read_table(str(scored[1]), "masks", columns=["item_id"]).to_pylist()}
    bad = {item for item in failed | found if item.startswith("bad/")}
    with (scored[0].parent / "mixed.csv").open(encoding="utf-8") as file:
        listed = {row["id"] for row in csv.DictReader(file) if row["id"].startswith("bad/")}

    assert not {item for item in failed if item.startswith("good/")}
    assert bad == listed, "none is lost or added"
    assert {item for item in bad if item.startswith(("bad/broken/", "bad/crashers/"))} <= failed
    for row in failures:
        assert len(row["error_message"]) > 20, row
        assert row["error_type"] in {"DecodeError", "LimitError", "FetchError", "BrokenVideoError", "CrashError"}, row


def test_both_runs_pass_verification(scored: tuple[Path, Path]) -> None:
    assert [runs.verify(str(out)) for out in scored] == [[], []]
