"""A file that is filled piece by piece replaces one of the run as a whole, or not at all."""

import contextlib
import os
import uuid
from pathlib import Path

import pytest

from fsf_core import runs, storage
from fsf_core.errors import StorageError

PATH = "masks_tiff/a.tif"


@pytest.fixture(params=["disk", "store"])
def staging(request, tmp_path):
    uri = str(tmp_path / "run") if request.param == "disk" else f"memory://bucket-{uuid.uuid4().hex}/run"
    staging = runs.Staging(run_uri=uri, number=1)
    if request.param == "disk":
        storage.create_folder(uri)
        storage.create_folder(staging.folder)
    return staging


def content(staging):
    return storage.read_bytes(storage.join(staging.run_uri, PATH))


def files(staging):
    return [entry.relative for entry in storage.list_files(staging.run_uri, hidden=True)]


def test_the_file_is_there_once_the_block_has_ended(staging):
    for data in (b"first", b"second"):
        with staging.replacing(PATH) as local, local.open("wb") as file:
            file.write(data)
        assert content(staging) == data
    assert files(staging) == [PATH]


def test_a_file_of_a_disk_survives_a_power_cut(tmp_path, monkeypatch):
    """The receipt that names it is durable, and a mask that is not there any more would be found by nobody."""
    staging = runs.Staging(run_uri=str(tmp_path), number=1)
    storage.create_folder(staging.folder)
    synced, really = [], os.fsync

    def note(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        really(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with staging.replacing(PATH) as local:
        local.write_bytes(b"mask")

    assert synced == [local, (tmp_path / PATH).parent]


def test_an_error_leaves_the_old_file_and_nothing_else(staging):
    staging.replace(PATH, b"old")
    with contextlib.suppress(ZeroDivisionError), staging.replacing(PATH) as local:
        local.write_bytes(b"half")
        raise ZeroDivisionError
    assert content(staging) == b"old"
    assert files(staging) == [PATH]


def test_two_tries_of_one_item_do_not_share_a_draft(staging):
    with staging.replacing(PATH) as one:
        one.write_bytes(b"one")
        with staging.replacing(PATH) as two:
            two.write_bytes(b"two")
        assert content(staging) == b"two"
    assert content(staging) == b"one"


def test_nothing_is_written_below_a_folder_that_another_attempt_has_taken(tmp_path):
    staging = runs.Staging(run_uri=str(tmp_path), number=1)
    with pytest.raises(StorageError), staging.replacing(PATH):
        pass
    assert not [*tmp_path.iterdir()]
