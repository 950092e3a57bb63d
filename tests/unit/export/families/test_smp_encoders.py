"""The statistics of encoders are known by the name of their weights, or not at all; nothing is asked of a hub."""

import pytest

from fsf_core.export.families.smp_encoders import input_of_encoder

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
DPN = ([124 / 255, 117 / 255, 104 / 255], [1 / (0.0167 * 255)] * 3)


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("resnet18", "imagenet", IMAGENET),
        ("resnet18", "swsl", IMAGENET),
        ("mit_b0", "imagenet", IMAGENET),
        ("timm-efficientnet-b3", "noisy-student", IMAGENET),
        ("timm-efficientnet-b3", "advprop", HALF),
        ("efficientnet-b0", "advprop", HALF),
        ("timm-tf_efficientnet_lite0", "imagenet", HALF),
        ("inceptionv4", "imagenet+background", HALF),
        ("xception", "imagenet", HALF),
        ("dpn68b", "imagenet+5k", DPN),
    ],
)
def test_statistics_follow_the_encoder_and_its_weights(name, weights, expected):
    """Those of release 0.4.0, the last that held them in its source."""
    found = input_of_encoder(name, weights, {name: {"pretrained_settings": {weights: {}}}})
    assert found == {"channel_order": "rgb", "scale": 255, "mean": pytest.approx(expected[0]), "std": expected[1]}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", None),
        ("resnet18", "places365"),
        ("resnet18", True),
        ("tu-resnet18", None),
        ("tu-resnet18", False),
        ("an_encoder_of_tomorrow", "imagenet"),
        ("timm-mobilenetv3_large_100", "imagenet"),  # ImageNet's up to 0.4.0, 0.5 since
    ],
)
def test_what_the_name_does_not_tell_is_not_guessed(name, weights):
    known = {name: {"pretrained_settings": {"imagenet": {}}}}
    assert input_of_encoder(name, weights, known) is None
