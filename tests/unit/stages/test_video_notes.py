"""What concerns one video reaches the rows of its masks: the stream that was taken, times that were counted."""

import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.options import SCHEMES
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.decode_video import decode_video
from fsf_core.stages.units import Unit
from tests.support.clips import clip

SETTINGS = DecodeSettings(
    extra=pa.schema([]),
    profile=preprocess.PROFILES["fastsegformer"],
    limits=images.ImageLimits(),
    segment_frames=8,
    overlays=False,
    access=storage.Access(schemes=SCHEMES),
)


@pytest.mark.parametrize(
    ("container", "notes"),
    [("mp4", None), ("h264", "the file holds no times, pts_s counts its frames at 25 per second")],
)
def test_every_segment_of_a_video_carries_its_notes(container, notes, tmp_path):
    path = tmp_path / "clip"
    path.write_bytes(clip(container=container, frames=20))
    blank = Unit(item_id="clip", uri=str(path), attempt=1, row_digest=b"")
    with path.open("rb") as file:
        units = list(decode_video(file, blank, {"done_segments": None}, SETTINGS))

    assert [len(unit.frames) for unit in units] == [8, 8, 4]
    assert {unit.notes for unit in units} == {notes}
    assert {unit.failure for unit in units} == {None}
