"""JPEGs decoded into memory that is used again: the pixels are the same, and only the next image takes them."""

import numpy as np
import pytest

from fsf_core.errors import ItemError
from fsf_core.media import images
from fsf_core.media.images.room import MAX_KEPT_BYTES
from tests.support import assets


def found(data, room=None):
    """Return the shape, the pixels and the notes of an image, or its error."""
    try:
        image_HWC, notes = images.decode_image(data, honour_exif=True, room=room)
    except ItemError as error:
        return type(error), str(error)
    return image_HWC.shape, image_HWC.tobytes(), notes


@pytest.fixture(scope="module")
def room():
    return images.Room()


@pytest.mark.parametrize("name", [name for name, data in assets.good_images().items() if images.sniff(data) == "jpeg"])
def test_a_good_jpeg_is_the_same_in_a_room(name, room):
    data = assets.good_images()[name]
    assert found(data, room) == found(data)


@pytest.mark.parametrize("name", [name for name in assets.broken_files() if "jp" in name])
def test_a_broken_jpeg_has_the_same_error_in_a_room(name, room):
    data = assets.broken_files()[name].data
    assert found(data, room) == found(data)


def test_damaged_files_are_the_same_in_a_room(room):
    for damaged in assets.damaged_files(seed=5, count=60):
        assert found(damaged.data, room) == found(damaged.data), damaged


def test_a_jpeg_that_needs_more_memory_than_it_declares_takes_its_own():
    data = assets.pillow(assets.picture(), "jpeg")
    room = images.Room()
    room.lend = lambda size_bytes: np.empty(size_bytes - 1, np.uint8)
    assert found(data, room) == found(data)


def test_a_room_lends_the_same_memory_again():
    room = images.Room()
    first = room.lend(300)
    assert np.shares_memory(first, room.lend(200))
    assert room.lend(200).size == 200
    assert not np.shares_memory(room.lend(301), first)


def test_a_room_does_not_keep_the_memory_of_a_huge_image():
    room = images.Room()
    assert room.lend(MAX_KEPT_BYTES + 1).size == MAX_KEPT_BYTES + 1
    assert not np.shares_memory(room.lend(MAX_KEPT_BYTES + 1), room.lend(MAX_KEPT_BYTES + 1))
