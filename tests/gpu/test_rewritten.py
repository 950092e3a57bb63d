"""Networks as the export rewrites them give on the card what the graphs before give on the CPU."""

import numpy as np
import onnx
import pytest

from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.graph import model_bytes
from fsf_core.export.rewrite import _RULES, rewrite
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.session import Session
from fsf_core.options import ResolvedProvider
from tests.gpu.bundles import SMALL
from tests.support import recipe
from tests.support.rewritable import rewritable_onnx

pytestmark = pytest.mark.gpu

MAX_DIFFERENCE, MAX_DIFFERING_SHARE = 1e-4, 1e-4
"""Of the largest logit, and of the pixels whose class may be another."""


def _of_every_rule() -> onnx.ModelProto:
    plain = from_onnx(read_onnx(rewritable_onnx().SerializeToString()), SMALL)
    assert {rule.__name__ for rule in _RULES} <= rewrite(plain).rules.keys()
    return plain


def _network(letter: str) -> onnx.ModelProto:
    import torch

    from fsf_core.export.build import load_network
    from fsf_core.export.convert import to_onnx

    network = load_network(f"fastsegformer-{letter}", num_classes=4)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    network.load_state_dict({name: torch.from_numpy(value) for name, value in recipe.state(letter, shapes).items()})
    return to_onnx(network, PROFILES["fastsegformer"], opset=17, exporter="torchscript")


@pytest.mark.parametrize("name", ["every rule", "p", "e"])
def test_a_rewritten_graph_on_the_card_has_the_logits_of_the_graph_before_on_the_cpu(
    name: str, provider: ResolvedProvider
) -> None:
    before = _of_every_rule() if name == "every rule" else _network(name)
    rewritten = rewrite(before)
    rows, columns = (dim.dim_value for dim in before.graph.input[0].type.tensor_type.shape.dim[2:])
    batch_NCHW = np.random.default_rng(0).normal(0, 1, (4, 3, rows, columns)).astype(np.float32)

    expected = Session(model_bytes(before)).run(batch_NCHW)
    found = Session(model_bytes(rewritten.model), provider=provider).run(batch_NCHW)

    assert rewritten.rules
    assert np.abs(found - expected).max() <= MAX_DIFFERENCE * np.abs(expected).max()
    assert (found.argmax(1) != expected.argmax(1)).mean() <= MAX_DIFFERING_SHARE
