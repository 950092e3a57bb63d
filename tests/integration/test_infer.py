"""The infer stage on a real bundle."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fsf_core.media.images import ImageLimits
from fsf_core.model import device_model
from fsf_core.model.bundle import Bundle
from fsf_core.stages import infer, units
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import MaskSettings, mask
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


SMALL_PX = 70 * 80
"""Class maps of 60×80 are below it, those of 100×80 above."""

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"variant": "plain"},
    "fused": {"variant": "fused"},
    "plain on a device": {"variant": "plain", "on_device": True},
    "fused on a device": {"variant": "fused", "on_device": True},
    "fused on a device, large ones by hand": {"variant": "fused", "on_device": True, "most_px": SMALL_PX},
    "fused on a device, all by hand": {"variant": "fused", "on_device": True, "most_px": 1},
}


def outputs(
    bundle: Bundle,
    table: pa.Table,
    variant: str,
    batch_frames: int,
    *,
    planes: bool = False,
    on_device: bool | None = None,
) -> list[pa.Table]:
    stage = Infer(
        bundle_uri=bundle.uri,
        bundle_sha256=bundle.sha256,
        variant=variant,
        provider="cpu",
        threads=1,
        batch_frames=batch_frames,
        planes=planes,
        on_device=on_device,
    )
    assert stage.batch_frames == batch_frames
    return list(stage(table))


@pytest.mark.parametrize("form", ["plain", "fused", "plain on a device", "fused on a device"])
def test_outputs_do_not_depend_on_batch_or_buffer_size(
    tiny_bundle: Bundle, table: pa.Table, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = outputs(tiny_bundle, table, batch_frames=8, planes=True, **FORMS[form])
    for name in ("MAX_OUTPUT_BYTES", "MAX_DEVICE_OUTPUT_BYTES"):
        monkeypatch.setattr(infer, name, 1)
    cut = outputs(tiny_bundle, table, batch_frames=3, planes=True, **FORMS[form])

    assert [part.num_rows for part in whole] == [7]
    assert max(sum(units.frame_counts(part)) for part in cut) == 5  # a unit stays whole
    assert len(cut) == 6
    assert pa.concat_tables(cut).equals(pa.concat_tables(whole))


@pytest.mark.parametrize("form", list(FORMS)[1:])
def test_every_form_gives_the_masks_and_figures_of_the_plain_one_for_batches_of_mixed_sizes(
    tiny_bundle: Bundle, table: pa.Table, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for name in ("plain", form):
        given = dict(FORMS[name])
        monkeypatch.setattr(device_model, "CARD_MAX_PIXELS", given.pop("most_px", 1 << 20))
        settings = MaskSettings(
            profile=tiny_bundle.profile,
            num_classes=tiny_bundle.num_classes,
            palette_K3=np.asarray(tiny_bundle.palette, np.uint8),
            grid_hw=tiny_bundle.signature.output_shape[2:],
            mask_size="original",
            limits=ImageLimits(max_bytes=1, max_pixels=1, max_side_px=1),
            clear_background=False,
            min_region_px=2,
        )
        inferred = pa.concat_tables(outputs(tiny_bundle, table, batch_frames=3, planes=True, **given))
        found[name] = mask(inferred, settings)
    plain, other = found["plain"], found[form]

    assert plain.schema.equals(other.schema)
    assert plain.drop_columns(["frames", "mean_probability", "regions"]).equals(
        other.drop_columns(["frames", "mean_probability", "regions"])
    )
    for name, field in (("frames", "confidence"), ("frames", "uncertain_share"), ("regions", "mean_probability")):
        ours, theirs = ([row[field] for rows in one[name].to_pylist() for row in rows] for one in (other, plain))
        assert ours == pytest.approx(theirs, abs=1e-5)
    means = [np.concatenate(one["mean_probability"].to_pylist()).astype(float) for one in (other, plain)]
    assert means[0] == pytest.approx(means[1], abs=1e-5, nan_ok=True)
    assert [row["pixels"] for rows in other["regions"].to_pylist() for row in rows] == [
        row["pixels"] for rows in plain["regions"].to_pylist() for row in rows
    ]
