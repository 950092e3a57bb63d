"""torchvision's networks by name: what its presets tell, what a checkpoint tells, and what is asked."""

import pytest
import torch

from fsf_core.config import ExportConfig
from fsf_core.errors import ConfigError
from fsf_core.export.contents import contents_of
from fsf_core.export.families import torchvision
from fsf_core.export.families.named import NamedRequest
from fsf_core.export.families.optional import load
from fsf_core.export.material import load_named, read_material

NAME = "lraspp_mobilenet_v3_large"
PUBLISHED = "d234d4ea" + 56 * "0"
"""Begins as the digest in the address of torchvision's weights."""
PREPROCESSING = {
    "resize": "short-side",
    "short_side": 520,
    "rounding": "truncate",
    "interpolation": "torchvision-float-bilinear",
    "channel_order": "rgb",
    "scale": 255,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def named(name=NAME, classes=("a", "b"), sha256="", channels=None, **options):
    heads = {"classifier.low_classifier.weight": torch.zeros(channels or len(classes), 40, 1, 1)}
    request = NamedRequest(
        name=name, options=options, classes=classes, contents=contents_of(heads, "w.pth"), checkpoint_sha256=sha256
    )
    return torchvision.named(request)


def test_the_preset_of_torchvision_is_the_preprocessing():
    found = named()
    assert found.document == {"input": PREPROCESSING, "output": {"kind": "logits", "resized": "logits"}}
    assert "shorter side 520" in found.notes[0]


def test_published_weights_bring_their_names():
    names = named(classes=(), sha256=PUBLISHED, channels=21).classes
    assert (len(names), names[0], names[-1]) == (21, "__background__", "tvmonitor")


def test_other_weights_of_21_classes_are_asked_for_their_names_with_a_proposal():
    with pytest.raises(ConfigError, match=r"those of torchvision's weights .* --classes __background__,aero"):
        named(classes=(), channels=21)
    with pytest.raises(ConfigError, match=r"one for each of 5 classes; pass --classes background,first,second$"):
        named(classes=(), channels=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deeplabv3_resnet51"}, r"did you mean deeplabv3_resnet50.*expected one of .*fcn_resnet101"),
        ({"name": "resnet50"}, "has no segmentation network 'resnet50'"),
        ({"channels": 3}, "the head of the checkpoint has 3 channels, but 2 classes are named"),
        ({"pretrained": True}, "has no option 'pretrained'"),
        ({"aux_loss": True}, "has no option 'aux_loss', expected none"),
        ({"name": "fcn_resnet50", "aux_loss": "some"}, "the option aux_loss is 'some', expected true or false"),
    ],
)
def test_what_torchvision_cannot_build_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        named(**arguments)


def test_weights_of_the_auxiliary_head_may_be_left_over(tmp_path):
    segmentation = load("torchvision.models.segmentation", "torchvision")
    state = getattr(segmentation, NAME)(weights=None, weights_backbone=None, num_classes=2).state_dict()
    torch.save({"model": state | {"aux_classifier.4.bias": torch.zeros(2)}, "epoch": 1}, tmp_path / "w.pth")
    config = ExportConfig(
        net=f"torchvision:{NAME}", checkpoint=str(tmp_path / "w.pth"), classes=("a", "b"), out=str(tmp_path / "out")
    )
    material = load_named(config, read_material(config))
    assert "left out: aux_classifier.*" in material.built.note
    assert torch.equal(material.built.network.state_dict()["backbone.0.0.weight"], state["backbone.0.0.weight"])
