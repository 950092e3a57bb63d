"""Tables of the infer stage beside a GPU: their frames fill whole calls of the model."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fsf_core.stages import units
from fsf_core.stages.device_units import DeviceUnits
from fsf_core.stages.units import Frame, Unit

SCORE_BYTES = 2 * 3 * 4 * 4
"""Of a frame with 2 classes on a grid of 3×4."""


def table(heights):
    rows = [
        Unit(
            item_id=str(at),
            uri="",
            frames=[Frame(frame_index=0, pts_s=None, height_px=height, width_px=10)],
            inputs_HWC=[np.zeros((2, 2, 3), np.uint8)],
        )
        for at, height in enumerate(heights)
    ]
    return units.to_table(rows, extra=pa.schema([]))


@pytest.mark.parametrize(
    ("max_frames", "max_bytes", "expected"),
    [
        (64, 1 << 20, [9]),
        (5, 1 << 20, [4, 4, 1]),
        (64, 7 * SCORE_BYTES, [6, 3]),
        (64, SCORE_BYTES + 1, [1] * 9),
    ],
)
def test_tables_have_as_many_frames_as_full_calls(max_frames, max_bytes, expected):
    model = SimpleNamespace(
        batch_frames=2, makes_maps=False, makes_map=lambda *_: False, scores_shape=(2, 3, 4), scores=lambda *_: None
    )
    stage = DeviceUnits(
        model=model, input_hw=(2, 2), num_classes=2, max_frames=max_frames, max_bytes=max_bytes, planes=False
    )
    assert [part.num_rows for part in stage(table([5] * 9))] == expected
