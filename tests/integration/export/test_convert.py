"""The exporters themselves; the slow one, dynamo, is tested in test_export.py."""

import contextlib
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fsf_core.errors import ConfigError
from fsf_core.export.build import load_network
from fsf_core.export.convert import to_onnx
from fsf_core.export.graph import model_bytes, opset_of, printable, signature_of
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session
from tests.support.tiny_net import build

PROFILE = PROFILES["fastsegformer"]


@pytest.fixture(scope="module")
def model():
    return to_onnx(build(), PROFILE, exporter="torchscript", opset=17)


def logits(net, batch_NCHW):
    with torch.inference_mode():
        return net(torch.from_numpy(batch_NCHW)).numpy()


def test_the_file_has_names_shapes_and_opset(model):
    signature = signature_of(model)
    assert (signature.input_name, signature.input_shape) == ("input", (None, 3, 224, 224))
    assert (signature.output_name, signature.output_shape) == ("output", (None, 4, 224, 224))
    assert opset_of(model) == 17
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_every_value_of_the_graph_has_a_shape(model):
    assert {value.name for value in model.graph.value_info} >= {
        name for node in model.graph.node[:-1] for name in node.output
    }


def test_names_are_those_asked_for():
    model = to_onnx(build(), PROFILE, exporter="torchscript", opset=17, input_name="images", output_name="scores")
    assert (signature_of(model).input_name, signature_of(model).output_name) == ("images", "scores")


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_is_free(model, batch):
    batch_NCHW = np.random.default_rng(0).random((batch, 3, 224, 224), np.float32)
    assert np.allclose(Session(model_bytes(model)).run(batch_NCHW), logits(build().eval(), batch_NCHW), atol=1e-5)


def test_a_network_in_training_mode_is_exported_in_eval_mode(model):
    net = build().train()
    assert model_bytes(to_onnx(net, PROFILE, exporter="torchscript", opset=17)) == model_bytes(model)
    assert not any(module.training for module in net.modules())


def test_the_same_weights_give_the_same_bytes(model):
    assert model_bytes(to_onnx(build(), PROFILE, exporter="torchscript", opset=17)) == model_bytes(model)


def test_the_file_holds_nothing_about_the_machine(model):
    assert b"site-packages" not in model_bytes(model)
    assert b"tiny_net.py" not in model_bytes(model)


def test_the_exporter_is_quiet_and_leaves_logging_as_it_was(capfd):
    before = logging.root.manager.disable
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_onnx(build(), PROFILE, exporter="torchscript", opset=17)
    assert capfd.readouterr() == ("", "")
    assert caught == []
    assert logging.root.manager.disable == before


@pytest.mark.parametrize("opset", [11, 12, 13, 18, 20])
def test_the_opset_is_the_one_asked_for(opset):
    assert opset_of(to_onnx(build(), PROFILE, exporter="torchscript", opset=opset)) == opset


def test_an_opset_beyond_the_exporter_is_refused():
    with pytest.raises(ConfigError, match=r"opset 99.*another --opset"):
        to_onnx(build(), PROFILE, exporter="torchscript", opset=99)


def test_an_opset_that_the_exporter_raised_silently_is_an_error(monkeypatch):
    real = torch.onnx.export

    def raising(*args, opset_version, **options):  # what dynamo does below 18 (torch 2.13), without its ten seconds
        return real(*args, opset_version=opset_version + 1, **options)

    monkeypatch.setattr(torch.onnx, "export", raising)
    with pytest.raises(ConfigError, match="asked for opset 16, the torchscript exporter wrote 17; pass --opset 17"):
        to_onnx(build(), PROFILE, exporter="torchscript", opset=16)


class Returns(nn.Module):
    """A network that returns something else than logits."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, batch_NCHW):
        return self.outputs(batch_NCHW)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: x.mean(dim=(2, 3)), r"returns torch.float32 \[2, 3\]"),
        (lambda x: x[:1], r"returns torch.float32 \[1, 3, 224, 224\] for \[2, 3, 224, 224\]"),
    ],
)
def test_a_network_that_returns_no_batch_of_maps_is_refused(outputs, message):
    with pytest.raises(ConfigError, match=message + r".*wrap it"):
        to_onnx(Returns(outputs), PROFILE)


def test_a_network_that_cannot_be_written_names_the_other_exporter(capfd):
    def unexportable(x):
        return torch.linalg.lstsq(x, x).solution

    with contextlib.suppress(RuntimeError), torch.inference_mode():
        unexportable(torch.rand(2, 3, 224, 224))
    with pytest.raises(ConfigError, match="try --exporter dynamo") as caught:
        to_onnx(Returns(unexportable), PROFILE, exporter="torchscript", opset=17)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "torch prints the graph from C++"


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_condition_on_the_images_is_refused_with_its_line_and_no_other_exporter(exporter, capfd):
    """A trace holds one path of it. torch's refusal by dynamo is a page of graph, and that of torchscript a warning."""

    def condition(x):
        return x.flip(1) if x.mean() > 0.4 else x

    with pytest.raises(
        ConfigError, match=rf"{exporter} exporter .*contents of the images at .*test_convert\.py:\d+,"
    ) as caught:
        to_onnx(Returns(condition), PROFILE, exporter=exporter, opset=17 if exporter == "torchscript" else 20)
    message = str(caught.value)
    assert "replace the condition by torch.where" in message
    assert "--exporter" not in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert capfd.readouterr() == ("", "")


def test_a_condition_on_sizes_is_traced():
    """torch warns of it as of one on contents, but an exported model has one size."""

    def condition(x):
        height_px, width_px = x.shape[2:]
        assert height_px % 32 == 0
        return torch.nn.functional.interpolate(x, (int(height_px) // 2, int(width_px * 0.5))) if height_px > 9 else x

    assert signature_of(to_onnx(Returns(condition), PROFILE, exporter="torchscript", opset=17)).output_shape[2:] == (
        112,
        112,
    )


def compiled():
    return torch.compile(nn.DataParallel(build()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_exported_as_the_one_inside(model):
    network = load_network(f"{__name__}:compiled", num_classes=4)
    assert model_bytes(to_onnx(network, PROFILE, exporter="torchscript", opset=17)) == model_bytes(model)


def test_the_cause_of_a_refusal_by_dynamo_is_one_sentence(capfd):
    def unwritable(x):
        if torch.compiler.is_compiling():
            raise RuntimeError("only eager\nmode\n\nNext steps: none")
        return x

    with pytest.raises(
        ConfigError, match="cannot write this network with opset 20: RuntimeError: only eager mode; try"
    ):
        to_onnx(Returns(unwritable), PROFILE)
    assert capfd.readouterr() == ("", "")


def test_the_print_shows_sizes_but_no_weights(model):
    text = printable(model)
    assert "%input[FLOAT, batchx3x224x224]" in text
    assert "Conv" in text
    assert len(text) < 20_000


def test_a_graph_that_violates_the_standard_is_refused(model):
    from fsf_core.export.graph import checked

    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ConfigError, match="violates the ONNX standard"):
        checked(broken)
