"""Every form of the model on the card gives the tables that the CPU gives: all columns of all tables, row by row."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fsf_core import runs
from fsf_core.model.bundle import Bundle
from fsf_core.options import ResolvedProvider
from tests.gpu.bundles import MODELS
from tests.gpu.scored import NOISE, differing_pixels, score_here

pytestmark = pytest.mark.gpu

MAX_DIFFERING_SHARE = 1e-4
FP16_DIFFERING_SHARE = 0.01
FP16_NOISE = NOISE | {"confidence": 0.01, "uncertain_share": 0.02, "mean_probability": 0.1}


@pytest.fixture(scope="module")
def reference(
    bundle_of: Callable[..., Bundle], items: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """What returns the run of a model on the CPU, as a machine without a GPU makes it."""
    made: dict[str, str] = {}

    def run(name: str) -> str:
        if name not in made:
            out = tmp_path_factory.mktemp("cpu") / "run"
            made[name] = score_here(bundle_of(name), items, out, runs_on="cpu", planned_for="cpu")
        return made[name]

    return run


@pytest.mark.parametrize("name", MODELS)
def test_the_tables_are_those_of_the_cpu(
    name: str,
    bundle_of: Callable[..., Bundle],
    items: Path,
    reference: Callable[[str], str],
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    run = score_here(bundle_of(name), items, tmp_path / "run", runs_on=provider, planned_for="cuda", batch_frames=8)
    differing, pixels = differing_pixels(run, reference(name))

    assert differing <= MAX_DIFFERING_SHARE * pixels
    assert {row["item_id"] for row in runs.read_table(run, "failures").to_pylist()} == {
        "cut.jpg",
        "empty.png",
        "missing.jpg",
    }
