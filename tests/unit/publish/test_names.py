"""Paths by ids: kept where they are safe, and never the same for two items on any disk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsf_core.keys import file_stem
from fsf_core.publish.names import Names


@pytest.mark.parametrize(
    ("item_id", "path"),
    [
        ("orchard/img236.jpg", "orchard/img236"),
        ("orange_005", "orange_005"),
        ("v1.2/scan", "v1.2/scan"),
        ("ünï/çø dé.JPEG", "ünï/çø dé"),
        ("部屋/畳.png", "部屋/畳"),
    ],
)
def test_a_safe_id_is_its_own_path(item_id, path):
    assert Names([item_id, "another"]).frame(item_id, None) == path


def test_frames_of_a_video_are_in_a_folder_of_its_id():
    names = Names(["belt/clip.mp4"])

    assert names.frame("belt/clip.mp4", 7) == "belt/clip.mp4/000007"
    assert names.frame("belt/clip.mp4", 12_345_678) == "belt/clip.mp4/12345678"


UNSAFE = [
    "../x", "/etc/passwd", "a//b", "a/./b", ".hidden/x", "s3://bucket/x.jpg", "a\\b", "x*.jpg", "con.jpg", "a/aux",
    "line\nbreak", "right\u202eleft", "ends. ", "a" * 300, "/".join(["folder"] * 200), "",
]  # fmt: skip


@pytest.mark.parametrize("item_id", UNSAFE)
def test_an_unsafe_id_becomes_one_safe_name(item_id):
    assert Names([item_id]).frame(item_id, None) == file_stem(item_id)


@pytest.mark.parametrize(
    "pair",
    [
        ("a/1.jpg", "a/1.png"),
        ("A/1.jpg", "a/1.jpg"),
        ("caf\u00e9", "cafe\u0301"),
        ("v", "v/000000.jpg"),
        ("scan.png", "scan.png/1.jpg"),
        ("Straße", "STRASSE"),
    ],
)
def test_ids_that_some_disk_takes_for_one_path_get_paths_of_their_own(pair):
    names = Names(pair)
    found = {names.frame(item_id, frame).casefold() for item_id in pair for frame in (None, 0)}

    assert len(found) == 4
    assert any(names.path(item_id) == file_stem(item_id) for item_id in pair)


def test_an_id_that_is_the_safe_name_of_another_one_keeps_it():
    taken = file_stem("../x")
    names = Names(["../x", taken])

    assert names.path(taken) == taken
    assert names.path("../x") == f"{taken}_"


@given(st.lists(st.text("aA.é/:1jpgn", min_size=1, max_size=8), unique=True, max_size=12))
def test_no_file_of_an_item_takes_the_place_of_another_file_or_folder(item_ids):
    names = Names(item_ids)
    files, folders = [], set()
    for item_id in item_ids:
        for path in {names.frame(item_id, None)} | {names.frame(item_id, 0)}:
            files.append(f"{path}.png".casefold())
            folders |= {path[:at].casefold() for at, sign in enumerate(path) if sign == "/"}

    assert len({*files}) == len(files)
    assert folders.isdisjoint(files)
    assert all(part not in {"", ".", ".."} for path in files for part in path.split("/"))
