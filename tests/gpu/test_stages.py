"""Every form of the model on the card gives the tables that the CPU gives: all columns of all tables, row by row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import runs
from fsf_core.errors import ProviderError, ResumableError
from fsf_core.model.bundle import Bundle
from fsf_core.options import ResolvedProvider
from fsf_core.stages import units
from fsf_core.stages.infer import Infer
from fsf_core.stages.units import Frame, Unit
from tests.gpu.bundles import MODELS
from tests.gpu.conftest import REHEARSAL
from tests.gpu.items import WINDOWS_MAX_PIXELS, write_pages
from tests.gpu.scored import NOISE, differing_pixels, score_here

pytestmark = pytest.mark.gpu

MAX_DIFFERING_SHARE = 1e-4
FP16_DIFFERING_SHARE = 0.01
FP16_NOISE = NOISE | {"confidence": 0.01, "uncertain_share": 0.02, "mean_probability": 0.1}

WINDOWS = {"tile": True, "overlap": 24, "max_pixels": WINDOWS_MAX_PIXELS}

Reference = Callable[..., str]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What returns the run of a model on the CPU, as a machine without a GPU makes it."""
    made: dict[Any, str] = {}

    def run(bundle: Bundle, items: Path, **options: Any) -> str:
        key = (bundle.sha256, items, *options.items())
        if key not in made:
            out = tmp_path_factory.mktemp("cpu") / "run"
            made[key] = score_here(bundle, items, out, runs_on="cpu", planned_for="cpu", **options)
        return made[key]

    return run


def failed_items(run: str) -> set[str]:
    return {*runs.read_table(run, "failures").column("item_id").to_pylist()}


@pytest.mark.parametrize("name", MODELS)
def test_the_tables_are_those_of_the_cpu(
    name: str,
    bundle_of: Callable[..., Bundle],
    items: Path,
    reference: Reference,
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    bundle = bundle_of(name)
    run = score_here(bundle, items, tmp_path / "run", runs_on=provider, planned_for="cuda", batch_frames=8)
    differing, pixels = differing_pixels(run, reference(bundle, items))

    assert differing <= MAX_DIFFERING_SHARE * pixels
    assert failed_items(run) == {"cut.jpg", "empty.png", "missing.jpg"}


@pytest.mark.parametrize("batch_frames", [32] if REHEARSAL else [None, 32])
def test_large_pictures_and_full_batches_give_the_tables_of_the_cpu(
    batch_frames: int | None,
    bundle_of: Callable[..., Bundle],
    all_items: Path,
    reference: Reference,
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    """None is what an actor measures to be fast."""
    bundle = bundle_of("four classes")
    run = score_here(
        bundle, all_items, tmp_path / "run", runs_on=provider, planned_for="cuda", batch_frames=batch_frames
    )
    differing, pixels = differing_pixels(run, reference(bundle, all_items))

    assert differing <= MAX_DIFFERING_SHARE * pixels


@pytest.mark.parametrize("name", ["four classes", "four classes, plain alone", "size of the image"])
def test_float16_keeps_its_gate_and_fills_every_column(
    name: str,
    bundle_of: Callable[..., Bundle],
    items: Path,
    reference: Reference,
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    bundle = bundle_of(name, ("fp16",))
    run = score_here(
        bundle, items, tmp_path / "run", runs_on=provider, planned_for="cuda", precision="fp16", batch_frames=8
    )
    differing, pixels = differing_pixels(run, reference(bundle, items), noise=FP16_NOISE)

    assert differing <= FP16_DIFFERING_SHARE * pixels


def _without_labels(items: Path) -> Path:
    """Return a list of the same items without labels, which masks of the grid cannot be compared with."""
    found = items.parent / "without_labels.csv"
    names = [line.split(",")[0] for line in items.read_text().splitlines()[1:]]
    found.write_text("\n".join(["id,uri", *(f"{name},{name}" for name in names)]) + "\n")
    return found


def test_masks_of_the_grid_are_those_of_the_cpu(
    bundle_of: Callable[..., Bundle], items: Path, reference: Reference, provider: ResolvedProvider, tmp_path: Path
) -> None:
    bundle, pictures = bundle_of("four classes"), _without_labels(items)
    run = score_here(
        bundle, pictures, tmp_path / "run", runs_on=provider, planned_for="cuda", mask_size="model", batch_frames=8
    )
    differing, pixels = differing_pixels(run, reference(bundle, pictures, mask_size="model"))

    assert differing <= MAX_DIFFERING_SHARE * pixels


def test_a_rewritten_graph_has_the_tables_of_the_graph_before(
    bundle_of: Callable[..., Bundle], items: Path, reference: Reference, provider: ResolvedProvider, tmp_path: Path
) -> None:
    """By its plain and its fused model, which the card splits."""
    before, rewritten = bundle_of("before rewriting"), bundle_of("rewritten")
    assert before.variants["plain"].sha256 != rewritten.variants["plain"].sha256
    for size in ("original", "model"):
        pictures = _without_labels(items) if size == "model" else items
        run = score_here(
            rewritten, pictures, tmp_path / size, runs_on=provider, planned_for="cuda", mask_size=size, batch_frames=8
        )
        differing, pixels = differing_pixels(run, reference(before, pictures, mask_size=size))

        assert differing <= MAX_DIFFERING_SHARE * pixels


@pytest.mark.parametrize(
    "name", ["four classes", "four classes, probabilities", "three images per call", "twenty classes", "rewritten"]
)
def test_pictures_in_windows_have_the_tables_of_the_cpu(
    name: str,
    bundle_of: Callable[..., Bundle],
    scenes: Path,
    reference: Reference,
    provider: ResolvedProvider,
    tmp_path: Path,
) -> None:
    bundle = bundle_of(name)
    run = score_here(bundle, scenes, tmp_path / "run", runs_on=provider, planned_for="cuda", **WINDOWS)
    differing, pixels = differing_pixels(run, reference(bundle, scenes, **WINDOWS))

    assert differing <= MAX_DIFFERING_SHARE * pixels
    assert failed_items(run) == {"cut.tif", "clip.mp4"}
    assert {path.suffix for path in (tmp_path / "run" / runs.MASK_FILES).iterdir()} == {".tif"}


def test_a_memory_that_is_full_of_windows_changes_no_mask(
    bundle_of: Callable[..., Bundle],
    scenes: Path,
    reference: Reference,
    little_memory: dict[str, int],
    provider: ResolvedProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = bundle_of("four classes")
    expected = reference(bundle, scenes, **WINDOWS)
    with caplog.at_level("INFO", "fsf"):
        run = score_here(
            bundle, scenes, tmp_path / "run", runs_on=provider, planned_for="cuda", **WINDOWS, **little_memory
        )

    assert "event=batch_halved" in caplog.text
    differing, pixels = differing_pixels(run, expected)
    assert differing <= MAX_DIFFERING_SHARE * pixels


@pytest.mark.parametrize("name", ["four classes", "size of the image"])
def test_all_pages_of_a_tiff_have_the_tables_of_the_cpu(
    name: str, bundle_of: Callable[..., Bundle], reference: Reference, provider: ResolvedProvider, tmp_path: Path
) -> None:
    bundle, pages = bundle_of(name), write_pages(tmp_path)
    run = score_here(bundle, pages, tmp_path / "run", runs_on=provider, planned_for="cuda", pages="all", batch_frames=8)
    differing, pixels = differing_pixels(run, reference(bundle, pages, pages="all"))

    assert differing <= MAX_DIFFERING_SHARE * pixels
    assert runs.read_table(run, "masks").num_rows == 21 + 1 + 1


def noise(count: int) -> pa.Table:
    """Return units of random pictures of three sizes, each a mask of which has any class."""
    rng = np.random.default_rng(0)
    found = [
        Unit(
            item_id=f"{number:03}",
            uri="",
            frames=[Frame(frame_index=0, pts_s=None, height_px=64 + 32 * (number % 3), width_px=96)],
            inputs_HWC=[rng.integers(0, 256, (224, 224, 3), np.uint8)],
        )
        for number in range(count)
    ]
    return units.to_table(found, extra=pa.schema([]))


def actor(bundle: Bundle, variant: str, provider: ResolvedProvider, **options: Any) -> Infer:
    """Load a model as an actor on a card does."""
    return Infer(
        bundle_uri=bundle.uri, bundle_sha256=bundle.sha256, variant=variant, provider=provider, threads=1, planes=True,
        on_device=True, **options,
    )  # fmt: skip


def inferred(infer: Infer, *tables: pa.Table) -> pa.Table:
    """Return the outputs for units, in the order of their ids."""
    return pa.concat_tables(part for table in tables for part in [*infer(table)]).sort_by("item_id")


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_a_picture_has_the_same_bits_in_every_place_of_a_batch(
    variant: str, bundle_of: Callable[..., Bundle], provider: ResolvedProvider
) -> None:
    """By one actor: others may find other algorithms for the convolutions the fastest, with other last bits."""
    infer, found = actor(bundle_of("four classes"), variant, provider, batch_frames=8), noise(21)
    in_order = inferred(infer, found)

    for table in (found.take([*range(20, -1, -1)]), found.take([*range(3, 21), 0, 1, 2])):
        assert inferred(infer, table).equals(in_order)
    assert inferred(infer, *(found.slice(at, 1) for at in range(21))).equals(in_order)


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_a_full_memory_halves_the_batch_and_is_logged(
    variant: str,
    bundle_of: Callable[..., Bundle],
    little_memory: dict[str, int],
    provider: ResolvedProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle, found = bundle_of("four classes"), noise(20 if REHEARSAL else 300)
    expected = inferred(actor(bundle, variant, provider, batch_frames=8), found)
    with caplog.at_level("INFO", "fsf"):
        small = inferred(actor(bundle, variant, provider, **little_memory), found)

    assert "event=batch_halved" in caplog.text
    name, dtype = ("outputs", np.float32) if variant == "plain" else ("class_maps", np.uint8)
    one, other = (units.as_array(table.column(name), dtype, ()).astype(np.float32) for table in (small, expected))
    assert len(one)
    assert (np.abs(one - other) > 1e-3).mean() <= MAX_DIFFERING_SHARE


def test_a_memory_that_is_too_small_for_one_picture_is_refused(bundle_of: Callable[..., Bundle]) -> None:
    with pytest.raises((ProviderError, ResumableError), match=r"memory|allocate") as caught:
        actor(bundle_of("four classes"), "fused", "cuda", batch_frames=8, memory_bytes=1 << 20)

    assert "--gpus-per-actor" in str(caught.value)
