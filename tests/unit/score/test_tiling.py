"""Which bundles score pictures in windows, with which overlap, and how that is planned."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fsf_core.config import ScoreConfig
from fsf_core.errors import ConfigError
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import PROFILES
from fsf_core.score import actor
from fsf_core.score.tiling import window_overlap
from fsf_core.stages.tiles import TileSettings

PLAIN = PROFILES["fastsegformer"]


def overlap(profile=PLAIN, output=None, **options):
    config = ScoreConfig(manifest="m", out="o", bundle="b", **options)
    bundle: Any = SimpleNamespace(profile=profile, output=output or Output())
    return window_overlap(config, bundle)


def test_without_tile_there_are_no_windows():
    assert overlap() is None
    assert overlap(replace(PLAIN, mode="own", height_px=0, width_px=0)) is None


def test_the_overlap_is_a_quarter_of_a_window_or_what_is_asked_for_up_to_half():
    assert overlap(tile=True) == 56
    assert overlap(replace(PLAIN, height_px=100), tile=True) == 25
    assert overlap(tile=True, overlap=0) == 0
    assert overlap(tile=True, overlap=112) == 112
    with pytest.raises(ConfigError, match="at most 112, half a window of 224×224 pixels"):
        overlap(tile=True, overlap=113)


@pytest.mark.parametrize(
    "profile",
    [
        replace(PLAIN, mode="own", height_px=0, width_px=0),
        replace(PLAIN, target_hw=(256, 256), cropped=True),
        replace(PLAIN, mode="short-side", short_side_px=256, cropped=True),
        replace(PLAIN, mode="letterbox", target_hw=(200, 200)),
    ],
)
def test_an_input_that_is_no_window_of_the_image_is_refused(profile):
    with pytest.raises(ConfigError, match="a model whose input has one size and is the image itself"):
        overlap(profile, tile=True)


@pytest.mark.parametrize("name", ["fastsegformer", "fastsegformer-train"])
def test_a_stretch_and_a_letterbox_to_the_input_are_the_image_itself_at_that_size(name):
    assert overlap(PROFILES[name], tile=True) == 56


def test_class_maps_cannot_be_blended():
    with pytest.raises(ConfigError, match="needs a model of scores, found one that outputs a class map"):
        overlap(output=Output(kind="class_map"), tile=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 3}, "without --tile"),
        ({"tile": True, "overlap": -1}, "expected at least 0"),
        ({"tile": True, "mask_size": "model"}, "found --tile beside --mask-size model"),
        ({"tile": True, "render": "blend"}, "found --tile beside --render blend"),
        ({"tile": True, "pages": "all"}, "found --tile beside --pages all"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        overlap(**options)


def test_a_model_gets_as_many_windows_at_a_time_as_it_takes_once_it_is_loaded(monkeypatch):
    """On a card that may be fewer than planned: the scores of a planned batch may be gigabytes."""
    monkeypatch.setattr(actor, "recovering_tiles", lambda *given: given[2])
    anything: Any = None
    planned = TileSettings(overlap_px=0, batch_frames=64, decode=anything, mask=anything, staging=anything)
    loaded: Any = SimpleNamespace(_infer=SimpleNamespace(batch_frames=4), _tracker=None)

    assert actor.ScoringActor._tiled(loaded, anything, planned).batch_frames == 4
