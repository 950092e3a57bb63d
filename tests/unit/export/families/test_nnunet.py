"""A trained model of nnU-Net is recognised from any of its parts, and refused with what it is and what to do."""

import json

import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.families import nnunet
from fsf_core.export.families.found import FamilyRequest


@pytest.fixture(name="folder")
def trained(tmp_path):
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__2d"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "checkpoint_final.pth").touch()
    plans = {"plans_name": "nnUNetPlans", "configurations": {"2d": {"patch_size": [512, 448]}}}
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text("{}")
    return folder


@pytest.mark.parametrize("part", [".", "fold_0", "fold_0/checkpoint_final.pth"])
def test_every_part_is_refused(folder, part):
    assert nnunet.recognises(folder / part)
    with pytest.raises(ConfigError, match=r"nnU-Net v2 \(nnUNetPlans\).*patches of 512x448 pixels.*nnUNetv2_predict"):
        nnunet.read(folder / part, FamilyRequest(source="model"))


def test_other_folders_are_left_to_others(folder, tmp_path):
    assert not nnunet.recognises(tmp_path)
    assert not nnunet.recognises(tmp_path / "missing")
    (folder / "plans.json").write_text("[]")
    assert not nnunet.recognises(folder)
