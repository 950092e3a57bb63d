"""Lines where contents of the images become Python values are found, and nothing else is."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fsf_core.export.branches import find_branch

BATCH = torch.zeros(2, 3, 8, 8)


class Net(nn.Module):
    """A network whose forward is a function."""

    def __init__(self, forward):
        super().__init__()
        self.function = forward
        self.threshold = nn.Parameter(torch.tensor(0.4))
        self.register_buffer("table", torch.arange(4))

    def forward(self, batch_NCHW):
        return self.function(self, batch_NCHW)


def written(net, x):
    share = torch.zeros(3)
    share[0] = x.mean()
    return x if share[1] > 0 else x * 2


def written_through_a_view(net, x):
    total = torch.zeros(2, 2)
    total[0].copy_(x[0, 0, 0, :2])
    return x if bool(total.sum()) else x * 2


def nested(net, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x if functional.conv2d(x, torch.ones(1, 3, 1, 1)).amax() > 1 else x * 2


DEPENDENT = {
    "if on a mean": lambda _, x: x if x.mean() > 0.4 else x * 2,
    "bool": lambda net, x: x if bool(x.max() > net.threshold) else x * 2,
    "not any": lambda _, x: x if not torch.isnan(x).any() else x * 2,
    "float": lambda _, x: x * float(x.std()),
    "int as an index": lambda _, x: x[:, : int(x.sum()) + 1],
    "item": lambda _, x: x * x.sum().item(),
    "detached, on the CPU": lambda _, x: x * x.detach().cpu().data.mean().item(),
    "tolist": lambda _, x: x * x[0, 0, 0].tolist()[0],
    "numpy": lambda _, x: x * float(x.numpy().mean()),
    "array": lambda _, x: x * float(np.asarray(x).mean()),
    "contains": lambda _, x: x if 0.5 in x else x * 2,
    "is_nonzero": lambda _, x: x if torch.is_nonzero(x.sum()) else x * 2,
    "complex": lambda _, x: x * complex(x.sum()).real,
    "equal": lambda _, x: x if torch.equal(x[0], x[1]) else x * 2,
    "allclose": lambda _, x: x if torch.allclose(x, x * 1.1) else x * 2,
    "min of Python": lambda _, x: x * min(x[0, 0, 0, 0], 0.5),
    "range": lambda _, x: sum(x for _ in range(x.argmax() + 1)),
    "a softmax's share": lambda _, x: x if x.softmax(1).amax(1).mean() > 0.5 else x * 2,
    "written": written,
    "written through a view": written_through_a_view,
    "a cast": nested,
}
INDEPENDENT = {
    "a check that is left out of an export": lambda _, x: x if torch.jit.is_tracing() or x.max() < 1 else x * 2,
    "another": lambda _, x: x if torch.onnx.is_in_onnx_export() or x.max() < 1 else x * 2,
    "sizes": lambda _, x: x if x.shape[-1] > 4 and len(x) and x.numel() and x.dim() else x * 2,
    "an input size that must divide": lambda _, x: functional.interpolate(x, scale_factor=x.shape[-1] // 4),
    "parameters and buffers": lambda net, x: x * int(net.table[2]) if net.threshold > 0.1 else x,
    "a constant": lambda _, x: x * torch.tensor([1.0, 2.0]).tolist()[1],
    "a list of sizes": lambda _, x: x[:, :, : torch.tensor(x.shape)[-1].item()],
    "iteration over images": lambda _, x: torch.stack([one * 2 for one in x]),
    "unpacked channels": lambda _, x: torch.cat(list(x.unbind(1))),
    "where": lambda _, x: torch.where(x.mean() > 0.4, x, x * 2),
    "indices of a maximum": lambda _, x: x.gather(1, x.argmax(1, keepdim=True)),
    "types": lambda _, x: x if x.is_floating_point() and x.dtype == torch.float32 and x.requires_grad is False else 0,
    "shape of a result": lambda _, x: x.new_zeros(x.mean(1).shape),
    "attention": lambda _, x: functional.scaled_dot_product_attention(x, x, x),
    "a script, which keeps its conditions": lambda _, x: torch.jit.script(_scripted)(x),
}


def _scripted(x: torch.Tensor) -> torch.Tensor:
    return x if bool(x.mean() > 0.4) else x * 2


@pytest.mark.parametrize("forward", DEPENDENT.values(), ids=DEPENDENT.keys())
def test_a_value_of_the_images_in_python_is_found_with_its_line(forward):
    branch = find_branch(Net(forward).eval(), BATCH, "torchscript")
    assert branch is not None
    assert branch.file == __file__
    first = inspect.getsourcelines(forward)[1]
    assert first <= branch.line <= first + 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("forward", INDEPENDENT.values(), ids=INDEPENDENT.keys())
def test_sizes_constants_and_operators_are_no_branch(forward):
    assert find_branch(Net(forward).eval(), BATCH, "torchscript") is None


def test_the_code_does_not_believe_that_it_is_exported_afterwards():
    find_branch(Net(lambda _, x: x).eval(), BATCH, "torchscript")
    find_branch(Net(lambda _, x: x).eval(), BATCH, "dynamo")
    assert not torch.jit.is_tracing()
    assert not torch.onnx.is_in_onnx_export()
    assert not torch.compiler.is_compiling()


def test_memory_that_is_used_again_is_not_taken_for_the_images():
    def forward(net, x):
        for _ in range(200):
            y = x * 2
            del y
            z = torch.ones(2, 3, 8, 8)
            if z.sum() < 1:
                return z
        return x

    assert find_branch(Net(forward).eval(), BATCH, "torchscript") is None


def test_a_network_that_fails_while_it_is_observed_has_what_was_found_before():
    def forward(net, x):
        if x.mean() > 0.4:
            return x
        raise RuntimeError

    assert find_branch(Net(forward).eval(), BATCH, "torchscript") is not None
