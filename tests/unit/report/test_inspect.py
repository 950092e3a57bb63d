"""A run for people: which item is meant, its count table, and its image with classes and legend."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fsf_core.cli.app import main
from fsf_core.errors import ConfigError, DecodeError
from fsf_core.report.inspect import draw, find_item, item_table, run_table
from tests.support import clips, ledger, rendered_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("run")
    (home / "clip.mp4").write_bytes(clips.clip(frames=12))
    return rendered_runs.finished(home / "run", home / "clip.mp4", item_id="belt/clip.mp4")


def decoded(drawing):
    return cv2.imdecode(np.frombuffer(drawing.png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("wanted", [None, "belt/clip.mp4", "clip.mp4", "clip"])
def test_an_item_is_found_by_its_id_the_end_of_it_or_its_stem(run, wanted):
    assert find_item(run, wanted) == "belt/clip.mp4"


@pytest.mark.parametrize("wanted", ["lip.mp4", "belt", ""])
def test_an_unknown_item_is_refused_with_ids_that_exist(run, wanted):
    with pytest.raises(ConfigError, match=r"found no such id among 1; ids look like belt/clip\.mp4"):
        find_item(run, wanted)


def test_tables_name_the_frames_and_the_classes(run):
    assert "1 items with 12 frames, 0 items with failures" in run_table(run)
    assert item_table(run, "belt/clip.mp4", frame_index=3).startswith("belt/clip.mp4: 1 frame\n")


def test_notes_are_counted_and_shown(tmp_path):
    run = str(tmp_path / "run")
    attempt = ledger.begin(run)
    ledger.commit(attempt, replace(ledger.image("a"), notes="first of 3 pages"), ledger.image("b"))
    ledger.commit_older(attempt, ledger.image("c"))

    assert "3 items with 3 frames, 0 items with failures\n1 item with notes" in run_table(run)
    assert item_table(run, "a").endswith("\nnote: first of 3 pages")
    assert "note" not in item_table(run, "b") + item_table(run, "c")


def test_the_share_of_correct_pixels_is_shown_of_runs_and_items_with_labels(tmp_path):
    """Label and mask of a made-up unit agree in as many pixels as its id has letters."""
    run = str(tmp_path / "run")
    attempt = ledger.begin(run)
    ledger.commit(attempt, replace(ledger.image("abc"), optional=True), replace(ledger.image("d"), optional=True))
    ledger.commit(attempt, ledger.image("e"))

    assert "2 items with labels: 16.67% of the pixels correct; see `fsf evaluate`" in run_table(run)
    assert item_table(run, "abc").endswith("\nlabelled: 25.00% of the pixels correct; see `fsf evaluate`")
    assert "label" not in item_table(run, "e")


def test_a_frame_of_a_video_is_drawn_with_its_classes(run):
    drawing = draw(run, "belt/clip.mp4", frame_index=5, clear_background=True)
    image_HWC = decoded(drawing)

    assert image_HWC.shape == (drawing.height_px, drawing.width_px, 3)
    assert drawing.frame_index == 5
    other = decoded(draw(run, "belt/clip.mp4", frame_index=6, clear_background=True))
    assert not np.array_equal(image_HWC, other)


def test_an_image_that_is_too_small_for_its_legend_becomes_wider_and_stays_as_it_is(run):
    plain = decoded(draw(run, "belt/clip.mp4", frame_index=5, clear_background=False))
    drawing = draw(run, "belt/clip.mp4", frame_index=5, clear_background=False, legend=True)
    height_px, width_px = plain.shape[:2]

    assert drawing.width_px > width_px
    assert np.array_equal(decoded(drawing)[:height_px, :width_px], plain)
    for colour in rendered_runs.PALETTE[1:]:
        assert (decoded(drawing)[:, width_px:] == colour[::-1]).all(axis=2).sum() > 100


def test_a_frame_that_was_not_scored_is_refused(run):
    with pytest.raises(ConfigError, match="has no frame 99 in this run"):
        draw(run, "belt/clip.mp4", frame_index=99, clear_background=False)
    with pytest.raises(ConfigError, match="has no frame 99 in this run"):
        item_table(run, "belt/clip.mp4", frame_index=99)


def test_a_frame_without_an_item_is_one_of_the_first_item(run, capsys):
    assert main(["inspect", run, "--frame", "3"]) == 0
    assert capsys.readouterr().out.startswith("belt/clip.mp4: 1 frame\n")
    assert main(["inspect", run, "--frame", "99"]) == 2


def test_a_source_that_was_replaced_is_reported(run, tmp_path):
    home = tmp_path / "copy"
    home.mkdir()
    (home / "clip.mp4").write_bytes(clips.clip(frames=12))
    copied = rendered_runs.finished(home / "run", home / "clip.mp4")
    (home / "clip.mp4").write_bytes(clips.clip(frames=4))

    with pytest.raises(DecodeError, match=r"has no frame 9 any more; was it replaced\?"):
        draw(copied, "clip", frame_index=9, clear_background=False)
