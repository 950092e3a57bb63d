"""Every model of the zoo, exported by its command: masks equal those of its family's own code outside near-ties."""

import json
from pathlib import Path

import pytest

from fsf_core.export.families.registry import FAMILIES
from tests.support.zoo.catalogue import ENTRIES
from tests.support.zoo.entry import Entry
from tests.support.zoo.measure import MEASURED, export_by_command, worst_difference


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_masks_equal_those_of_the_familys_own_code(entry: Entry, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    bundle = export_by_command(entry.make(folder), tmp_path / "bundle")

    assert worst_difference(entry, folder, bundle, tmp_path) <= entry.max_differing


def test_every_family_has_an_entry() -> None:
    assert {entry.family for entry in ENTRIES} >= {family.name for family in FAMILIES if not family.is_refused}


def test_the_page_shows_no_model_that_is_not_compared() -> None:
    assert json.loads(MEASURED.read_text())["models"].keys() <= {entry.name for entry in ENTRIES}
