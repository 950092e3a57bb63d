"""The identity of a request, by which a bundle that was exported before is recognised."""

import pytest

from fsf_core.config import ExportConfig
from fsf_core.export.interface import profile_of, read_given
from fsf_core.export.request import RECIPE_VERSION, differences, identity_of

NAMED = {"net": "fastsegformer-p", "checkpoint": "c.pth", "classes": ("a", "b"), "out": "bundle"}


def identity(**options):
    config = ExportConfig(**{**NAMED, "profile": "fastsegformer", **options})
    given = read_given(config)
    return identity_of(config, profile=profile_of(config, given), given=given, weights_sha256="ab", samples_sha256=[])


def test_the_identity_has_the_keys_and_values_of_bundles_that_were_exported_before():
    found = identity()

    assert {**found, "tools": sorted(found["tools"]), "profile": found["profile"]["name"]} == {
        "network": "fastsegformer-p",
        "options": {"pyramid": "multiscale", "cnn_branch": True},
        "weights": "ab",
        "graph": ["dynamo", 20, "input", "output"],
        "classes": ["a", "b"],
        "palette": [[0, 0, 0], [128, 0, 0]],
        "profile": "fastsegformer",
        "samples": [],
        "precisions": [],
        "recipe": RECIPE_VERSION,
        "network_code": "",
        "tools": ["fsf", "onnx", "onnxruntime", "onnxscript", "torch"],
    }


@pytest.mark.parametrize(
    "options",
    [
        {"pyramid": "pooling", "cnn_branch": False},
        {"net_option": ("pyramid=pooling", "cnn_branch=false")},
        {"net_option": ("cnn_branch=False",), "pyramid": "pooling"},
    ],
)
def test_flags_and_net_options_give_the_same_identity(options):
    assert identity(**options)["options"] == {"pyramid": "pooling", "cnn_branch": False}
    assert differences(identity(**options), identity()) == ["options"]


def test_options_that_are_the_defaults_do_not_change_the_identity():
    assert identity(pyramid="multiscale", net_option=("cnn_branch=true",)) == identity()


def test_a_callable_without_options_has_none_in_its_identity():
    assert identity(net="tests.support.tiny_net:build")["options"] == {}
    assert identity(net="tests.support.tiny_net:build", net_option=("width=8",))["options"] == {"width": 8}
