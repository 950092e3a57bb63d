"""A picture whose file has changed since it was scored is not published, however the run recorded that file."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from fsf_core import storage
from fsf_core.errors import DecodeError, LimitError
from fsf_core.media import video
from fsf_core.publish.frames import Frame
from fsf_core.publish.sources import PictureError, Sources
from fsf_core.report.sources import Recorded, Source, read_source

SOURCES = Sources(honour_exif=True, sampling=video.EVERY_FRAME, access=storage.Access(schemes=("file",)))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    return path


def recorded(path):
    """Return digest and version of a file; a file that is read in ranges has no digest."""
    with storage.open_binary(str(path)) as file:
        version = storage.etag_or_mtime(file)
    return hashlib.sha256(path.read_bytes()).hexdigest(), version


def published(path, sha256, version):
    frame = Frame(
        item_id="a", frame_index=0, pts_s=None, uri=str(path), height_px=4, width_px=6, png=b"", item_sha256=sha256,
        item_version=version, path="a", others={}, probabilities={}, of_pages=False,
    )  # fmt: skip
    [(_, source)] = SOURCES.read([frame])
    if isinstance(source, PictureError):
        raise source
    return SOURCES.finish(frame, source)


@pytest.mark.parametrize("has_digest", [True, False])
def test_a_changed_file_is_found_by_its_digest_or_else_by_its_version(path, has_digest):
    sha256, version = recorded(path)
    known = (sha256 if has_digest else None, version)
    facts = {"honour_exif": True, "access": None, "recorded": Recorded(sha256=known[0], version=known[1])}
    source = Source(uri=str(path), frame_index=0, is_video=False)
    assert published(path, *known).data == path.read_bytes()
    assert read_source(source, **facts).shape == (4, 6, 3)

    Image.fromarray(np.ones((4, 6, 3), np.uint8)).save(path)

    with pytest.raises(PictureError, match="has changed since it was scored"):
        published(path, *known)
    with pytest.raises(DecodeError, match="has changed since it was scored"):
        read_source(source, **facts)


def test_a_picture_that_is_too_large_to_be_shown_is_not_even_opened(tmp_path):
    source = Source(uri=str(tmp_path / "gone.tif"), frame_index=0, is_video=False, pixels=900_000_000)
    with pytest.raises(LimitError, match="has 900,000,000 pixels, and is shown up to 105,000,000"):
        read_source(source, honour_exif=True, access=None)
