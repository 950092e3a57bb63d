"""Keys follow from ids alone, and no id is used as a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core.keys import file_stem, item_key, item_keys, part_name, unit_key

WILD = [
    "",
    "a",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "a/b.jpg",
    "..",
    "ü" * 300,
    "a\x00b",
    "%2e%2e",
    " ",
    "~",
    "a\nb",
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def test_the_key_of_an_id_is_the_same_on_every_machine():
    # By coreutils: printf %s ID | b2sum -l 128; the segment follows the key as 8 bytes, big-endian.
    assert item_key("orchard/img236.jpg").hex() == "6cb0a83358e14cf7c7d1c66c74347c76"
    assert unit_key("orchard/clip.mp4", 3).hex() == "6423602c08419634d535c066ecd10081"


@given(st.lists(texts, max_size=20))
def test_keys_of_many_ids_are_the_keys_of_each_in_order(item_ids):
    keys = item_keys(item_ids)

    assert keys.dtype == "S16"
    assert keys.tobytes() == b"".join(map(item_key, item_ids))


def test_every_segment_of_every_video_has_a_different_key():
    keys = {unit_key(item_id, segment) for item_id in ("a", "b", "") for segment in range(300)}

    assert len(keys) == 900
    assert not keys & set(map(item_key, ("a", "b", "")))


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, unique=True), st.randoms())
def test_the_name_of_a_part_follows_from_its_units_in_any_order(unit_keys, random):
    shuffled = random.sample(unit_keys, len(unit_keys))

    assert part_name(7, shuffled) == part_name(7, unit_keys)
    assert part_name(7, unit_keys[1:]) != part_name(7, unit_keys)
    assert part_name(8, unit_keys) != part_name(7, unit_keys)


@pytest.mark.parametrize("item_id", WILD)
def test_a_file_named_after_any_id_stays_in_its_folder(item_id, tmp_path):
    stem = file_stem(item_id, 7)

    (tmp_path / f"{stem}.jpg").write_bytes(b"x")
    assert [path.parent for path in tmp_path.rglob("*.jpg")] == [tmp_path]
    assert stem.endswith("-00000007")
    assert len(stem) < 100


@given(texts, texts)
def test_different_ids_have_different_file_names(one, other):
    assert (file_stem(one) == file_stem(other)) == (one == other)


def test_the_file_name_shows_the_end_of_the_id():
    assert file_stem("line 7/img 236.jpg").startswith("line_7_img_236_jpg-")
