"""Runs of versions that inferred the types of CSV and JSON: resumed with these types, or refused with advice."""

import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.config import ScoreConfig
from fsf_core.errors import OutputError
from fsf_core.score.job import score
from tests.support import ledger

HOME = Path("/tmp/fsf-layout-1-typed")  # noqa: S108 - its tables hold absolute addresses
GOLDEN = Path(__file__).parents[1] / "golden"

TYPES = {
    "list.csv": "plot=int64,share=double,day=date32[day],taken=timestamp[s],good=bool,clock=time32[s]",
    "list.jsonl": "n=int64,w=double",
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Lists and their runs as version bc0c48c wrote them, with the bundle of version b57449c; see tests/golden."""
    shutil.rmtree(HOME, ignore_errors=True)
    for name, folder in (("inferred_types", HOME.parent), ("layout_1", tmp_path)):
        with tarfile.open(GOLDEN / f"{name}.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    for name in ("bundle", "sources"):
        shutil.copytree(tmp_path / "fsf-layout-1" / name, HOME / name)
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)


def _config(home: Path, name: str, out: str, **options) -> ScoreConfig:
    return ScoreConfig(
        bundle=str(home / "bundle"), manifest=str(home / name), out=str(home / out), provider="cpu", segment_frames=8,
        part_units=2, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_a_run_of_inferred_types_is_refused_with_the_types_that_resume_it(name: str, home: Path) -> None:
    """An upgrade must neither score every item again nor mix two types in one table."""
    out = f"{name}.run"
    before = ledger.snapshot(str(home / out))
    with pytest.raises(OutputError, match="is a run of an earlier version, or of other --column-types") as caught:
        score(_config(home, name, out))
    assert ledger.snapshot(str(home / out)) == before
    advice = re.search(r"pass --column-types (.+?) to resume it", str(caught.value))
    assert advice
    assert shlex.split(advice[1]) == [TYPES[name]]
    masks = runs.read_table(str(home / out), "masks")
    summary = score(_config(home, name, out, column_types=tuple(TYPES[name].split(","))))

    assert (summary["resumed_items"], summary["changed_items"]) == (masks.num_rows, 0)
    assert runs.read_table(str(home / out), "masks").equals(masks)


def test_a_run_with_nulls_for_empty_cells_is_refused_and_its_masks_are_copied(home: Path, ray_here: None) -> None:
    """Cells of an empty column were null, and are empty text now: every row would count as changed."""
    with pytest.raises(
        OutputError, match=r"has nulls where .* read as text; give a new --out, with --reuse .+empty\.csv"
    ):
        score(_config(home, "empty.csv", "empty.csv.run"))
    summary = score(_config(home, "empty.csv", "next", reuse=str(home / "empty.csv.run")))

    assert summary["reused_items"] == 2
    assert runs.read_table(str(home / "next"), "masks").column("note").to_pylist() == ["", ""]


def test_another_list_is_refused_as_another_list(home: Path) -> None:
    (home / "list.csv").write_text("id,uri,other\n0,sources/picture_0.jpg,1\n")
    with pytest.raises(OutputError, match=r"is another run \(columns: "):
        score(_config(home, "list.csv", "list.csv.run"))
