"""`fsf render --manifest` finds the items of a list as the run did."""

import json

from fsf_core.cli.render import reading_of
from fsf_core.manifest import Selection


def test_the_list_of_a_run_is_read_with_the_options_that_found_its_items(tmp_path):
    """A list of pairs is refused without the option that chose one of each."""
    selection = Selection(exclude=("*.seg.png",), tar_ids="name", image_column="left", where="id == '1'", limit=3)
    for name, facts in (("chosen", {"selection": selection.facts()}), ("whole", {})):
        (tmp_path / name).mkdir()
        document = {"layout": 2, "run_id": "r", "fingerprint": facts, "attempts": []}
        (tmp_path / name / "run.json").write_text(json.dumps(document))

    chosen, whole = (reading_of(str(tmp_path / name)) for name in ("chosen", "whole"))

    assert chosen == Selection(exclude=("*.seg.png",), tar_ids="name", image_column="left")
    assert whole == Selection()
