"""Every model of the zoo, exported by its command: masks equal those of its family's own code outside near-ties."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fsf_core.cli.app import app
from fsf_core.config import ExportConfig
from fsf_core.export import families
from fsf_core.export.families.registry import FAMILIES
from fsf_core.export.job import export
from fsf_core.model.bundle import Bundle
from tests.support.zoo.catalogue import ENTRIES
from tests.support.zoo.entry import Entry
from tests.support.zoo.scoring import class_maps, drawn_picture

SIZES = ((240, 320), (251, 333), (224, 224), (96, 500))
NEAR_TIE = 1e-4
"""Difference of the two best probabilities below which either class is right."""


def export_by_command(words: list[str], out: Path) -> Bundle:
    """Export as the command does, in this process."""
    _, bound, _ = app["export"].parse_args([*words, "--out", str(out)])
    config = bound.arguments["config"]
    assert isinstance(config, ExportConfig)
    return export(config).bundle


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_masks_equal_those_of_the_familys_own_code(entry: Entry, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    bundle = export_by_command(entry.make(folder), tmp_path / "bundle")
    for height_px, width_px in SIZES:
        image_HWC = drawn_picture(height_px, width_px)
        cv2.imwrite(str(tmp_path / "picture.png"), image_HWC)
        expected = entry.reference(folder, image_HWC)
        assert len(np.unique(expected.class_map_HW)) > 1, "a map of one class compares nothing"
        for variant, class_map_HW in class_maps(bundle, tmp_path / "picture.png").items():
            differs_HW = class_map_HW != expected.class_map_HW
            if expected.margin_HW is not None:
                differs_HW &= expected.margin_HW > NEAR_TIE
            assert differs_HW.mean() <= entry.max_differing, (variant, height_px, width_px)


def test_every_family_has_an_entry() -> None:
    assert {entry.family for entry in ENTRIES} >= {family.name for family in FAMILIES if not family.is_refused}, (
        families.__name__
    )
