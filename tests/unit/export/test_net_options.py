import pytest

from fsf_core.errors import ConfigError
from fsf_core.export.net_options import resolve_net_options

DEFAULTS = {"pyramid": "multiscale", "cnn_branch": True}


def test_a_named_network_has_every_option_with_its_default():
    assert resolve_net_options("fastsegformer-p", {}) == DEFAULTS


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ({"pyramid": "pooling"}, {"pyramid": "pooling", "cnn_branch": True}),
        ({"cnn_branch": "false"}, {"pyramid": "multiscale", "cnn_branch": False}),
        ({"cnn_branch": False}, {"pyramid": "multiscale", "cnn_branch": False}),
        ({"cnn_branch": "True"}, DEFAULTS),
    ],
)
def test_values_are_typed_whether_they_are_given_as_text_or_not(given, resolved):
    assert resolve_net_options("fastsegformer-p", given) == resolved


@pytest.mark.parametrize(
    ("net", "given", "message"),
    [
        (
            "fastsegformer-p",
            {"piramid": "pooling"},
            "no option 'piramid', did you mean pyramid[?], expected one of pyramid, cnn_branch",
        ),
        (
            "fastsegformer-p",
            {"pyramid": "poling"},
            "pyramid is 'poling', did you mean pooling[?], expected multiscale or",
        ),
        ("fastsegformer-p", {"cnn_branch": "maybe"}, "cnn_branch is 'maybe', expected true or false"),
        (None, {"pyramid": "pooling"}, "an ONNX file has no option 'pyramid', expected none; correct --net-option"),
    ],
)
def test_an_unknown_option_or_value_is_refused_with_the_known_ones(net, given, message):
    with pytest.raises(ConfigError, match=message):
        resolve_net_options(net, given)


def test_options_of_a_callable_are_read_as_yaml_scalars():
    assert resolve_net_options("a.b:c", {"width": "32", "deep": "true", "kind": "s", "rate": 0.5}) == {
        "width": 32,
        "deep": True,
        "kind": "s",
        "rate": 0.5,
    }
