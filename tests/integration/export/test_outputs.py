"""One tensor is taken of what a network returns, or the choice is asked for; what it raises is quoted in one line."""

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn

from fsf_core.errors import ConfigError, InterruptedRunError
from fsf_core.export.branches import find_branch
from fsf_core.export.outputs import single_output

BATCH = torch.rand(2, 3, 8, 8)


class Pair(NamedTuple):
    """A record of Python's own."""

    logits: object
    features: object


class ModelOutput(OrderedDict):
    """As transformers has it: a mapping with attributes."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


@dataclass
class SegmenterOutput(ModelOutput):
    loss: object = None
    logits: object = None
    hidden_states: object = None


@dataclass
class Record:
    masks: object
    name: str = "x"


class Returns(nn.Module):
    """A network whose outputs are a function of the images."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, batch_NCHW):
        return self.outputs(batch_NCHW * self.scale)


def one(x):
    return x * 2


def other(x):
    return x[:, :1] * 3


def taken(outputs, wanted=None, batch_NCHW=BATCH):
    """Return what the network with one output gives, and the note."""
    single = single_output(Returns(outputs).eval(), batch_NCHW, wanted=wanted)
    with torch.inference_mode():
        return single.network(batch_NCHW), single.note


def test_a_network_that_returns_a_tensor_stays_itself():
    network = Returns(one).eval()
    single = single_output(network, BATCH)
    assert single.network is network
    assert single.note == ""


@pytest.mark.parametrize(
    "outputs",
    [
        lambda x: {"out": one(x)},
        lambda x: {"scores": one(x)},
        lambda x: [one(x)],
        lambda x: (one(x),),
        lambda x: (one(x), 3),
        lambda x: {"pred": {"deep": [one(x)]}},
        lambda x: Record(masks=one(x)),
        lambda x: SegmenterOutput(logits=one(x)),
    ],
)
def test_the_only_tensor_of_a_mapping_a_sequence_or_a_record_is_taken(outputs):
    output, note = taken(outputs)
    assert torch.equal(output, one(BATCH))
    assert note == ""


@pytest.mark.parametrize(
    ("outputs", "note"),
    [
        (lambda x: OrderedDict(out=one(x), aux=other(x)), "output out of the network was taken, not aux [2, 1, 8, 8]"),
        (lambda x: {"aux": other(x), "logits": one(x)}, "output logits of the network was taken, not aux [2, 1, 8, 8]"),
        (lambda x: Pair(one(x), other(x)), "output logits of the network was taken, not features [2, 1, 8, 8]"),
        (
            lambda x: SegmenterOutput(logits=one(x), hidden_states=(other(x), other(x))),
            "output logits of the network was taken, not hidden_states.0 [2, 1, 8, 8], hidden_states.1 [2, 1, 8, 8]",
        ),
    ],
)
def test_out_and_logits_are_taken_of_several_and_named(outputs, note):
    """torchvision and transformers call the logits so, beside those of auxiliary heads."""
    output, found = taken(outputs)
    assert torch.equal(output, one(BATCH))
    assert found == note


@pytest.mark.parametrize(
    ("outputs", "listed", "wanted"),
    [
        (lambda x: (other(x), one(x)), r"a tuple of 0 \[2, 1, 8, 8\], 1 \[2, 3, 8, 8\]; expected one output", "1"),
        (lambda x: [other(x), [one(x)]], r"a list of 0 \[2, 1, 8, 8\], 1.0 \[2, 3, 8, 8\]; ", "1.0"),
        (lambda x: {"coarse": other(x), "fine": one(x)}, r"a dict of coarse .*, fine .*; give --output-name", "fine"),
        (lambda x: {"aux": [other(x)], "main": Pair(one(x), other(x))}, "main.logits", "main.logits"),
    ],
)
def test_several_tensors_are_a_question_and_each_can_be_named(outputs, listed, wanted):
    with pytest.raises(ConfigError, match=listed):
        taken(outputs)
    assert torch.equal(taken(outputs, wanted)[0], one(BATCH))


def test_a_name_is_more_than_the_custom_and_a_wrong_one_is_refused_with_the_nearest():
    def outputs(x):
        return {"out": other(x), "fine": one(x)}

    assert torch.equal(taken(outputs, "fine")[0], one(BATCH))
    with pytest.raises(ConfigError, match=r"--output-name is 'fin', did you mean fine\?; expected one output"):
        taken(outputs, "fin")


@pytest.mark.parametrize("outputs", [lambda _: None, lambda _: "text", lambda _: {"loss": 3.0}, lambda _: []])
def test_a_network_without_a_tensor_in_its_output_is_refused(outputs):
    with pytest.raises(ConfigError, match=r"returns a (NoneType|str|dict|list), expected one tensor .*wrap it"):
        taken(outputs)


@pytest.mark.parametrize("wrap", [lambda y: y, lambda y: {"out": y}], ids=["tensor", "mapping"])
def test_outputs_in_double_precision_arrive_as_float32(wrap):
    output, _ = taken(lambda x: wrap(one(x).double()))
    assert output.dtype == torch.float32
    assert torch.equal(output, one(BATCH))


@pytest.mark.parametrize("wrap", [lambda y: y, lambda y: {"out": y}], ids=["tensor", "mapping"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_by_name(wrap, dtype):
    """Its rounding alone exceeds the limits of parity."""

    def outputs(x):
        with torch.autocast("cpu", dtype=dtype):
            return wrap(torch.nn.functional.conv2d(x, torch.ones(1, 3, 1, 1)))

    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ConfigError, match=rf"returns {name}, .*; expected it to compute in float32.*torch.autocast"):
        taken(outputs)


class NeedsSize(nn.Module):
    def forward(self, batch_NCHW, out_size):
        return batch_NCHW[..., :out_size]


def raising(error):
    def outputs(_):
        raise error

    return outputs


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (NeedsSize(), r"TypeError: .*missing 1 required positional argument: 'out_size'; .*wrap it in a module whose"),
        (
            Returns(raising(ValueError("\x1b[31mInput size (8, 8)\nis not 512\x1b[0m\n\ngraph():"))),
            r"not 512; expected",
        ),
        (Returns(raising(SystemExit("usage"))), "SystemExit: usage; expected"),
        (Returns(raising(KeyError("pos_embed"))), "KeyError: 'pos_embed'; expected"),
        (Returns(raising(AssertionError())), "8, 8]: AssertionError; expected"),
        (nn.Linear(5, 5), "RuntimeError: mat1 and mat2 shapes"),
        (nn.Conv2d(1, 1, 1), "RuntimeError: Given groups=1.*; give the size that it was made for with --input-size"),
    ],
)
def test_what_a_network_raises_is_repeated_in_one_line(network, words):
    with pytest.raises(ConfigError, match=words) as caught:
        single_output(network, BATCH)
    message = str(caught.value)
    assert message.startswith("the network fails for images of [2, 3, 8, 8]: ")
    assert not {"\n", "\x1b"} & set(message)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), InterruptedRunError(15)])
def test_an_interrupt_is_no_error_of_the_network(interrupt):
    """Signals raise wherever the program is, also in the user's code."""
    network = Returns(raising(interrupt))
    with pytest.raises(type(interrupt)):
        single_output(network, BATCH)
    with pytest.raises(type(interrupt)):
        find_branch(network, BATCH, "torchscript")
