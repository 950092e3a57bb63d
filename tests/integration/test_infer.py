"""The infer stage on a real bundle."""

import numpy as np
import pyarrow as pa
import pytest

from fsf_core.model.bundle import Bundle
from fsf_core.stages import infer, units
from fsf_core.stages.infer import Infer
from fsf_core.stages.units import Frame, Unit


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """An image, a segment of five frames, a failure, four images."""
    rng = np.random.default_rng(0)

    def unit(name: str, frames: int) -> Unit:
        return Unit(
            item_id=name,
            uri=name,
            frames=[Frame(frame_index=i, pts_s=None, height_px=60 + 40 * (i % 2), width_px=80) for i in range(frames)],
            inputs_HWC=[rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(frames)],
        )

    failed = Unit(item_id="c", uri="c").failed(units.failure("decode", ValueError("broken")))
    rows = [unit("a", 1), unit("b", 5), failed, *(unit(name, 1) for name in "defg")]
    return units.to_table(rows, extra=pa.schema([]))


def outputs(bundle: Bundle, table: pa.Table, variant: str, batch_frames: int) -> list[pa.Table]:
    stage = Infer(
        bundle_uri=bundle.uri,
        bundle_sha256=bundle.sha256,
        variant=variant,
        provider="cpu",
        threads=1,
        batch_frames=batch_frames,
    )
    return list(stage(table))


@pytest.mark.parametrize("variant", ["plain", "fused"])
def test_logits_do_not_depend_on_batch_or_buffer_size(
    tiny_bundle: Bundle, table: pa.Table, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outputs(tiny_bundle, table, variant, 8)
    monkeypatch.setattr(infer, "MAX_OUTPUT_BYTES", 1)
    cut = outputs(tiny_bundle, table, variant, 3)

    assert [part.num_rows for part in whole] == [7]
    assert max(sum(units.frame_counts(part)) for part in cut) == 5  # a unit stays whole
    assert len(cut) == 6
    assert pa.concat_tables(cut).equals(pa.concat_tables(whole))
