"""From a network in PyTorch to one plain ONNX model with a free batch axis.

Knows the habits of the exporters in torch. Knows no classes and no images, and does not compare the outputs.
"""

# N images, K classes, H rows, W columns

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from torch import nn

from fsf_core.errors import ConfigError, InterruptedRunError
from fsf_core.export.branches import find_branch
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.export.graph import BATCH, checked, opset_of, state_shapes
from fsf_core.export.input_sizes import HEIGHT, WIDTH, declared_hw, declared_output, other_hw
from fsf_core.export.outputs import call, example_batch
from fsf_core.model.preprocess import Profile
from fsf_core.options import Exporter

_OR_ONE_SIZE = ", or give one size for all images with --resize stretch and --input-size"

_ONE_PATH = (
    "expected the same operations for every image; replace the condition by torch.where, or the value by a tensor"
)


def to_onnx(
    module: nn.Module,
    profile: Profile,
    *,
    opset: int = 20,
    exporter: Exporter = "dynamo",
    input_name: str = "input",
    output_name: str = "output",
    batch: int | None = None,
) -> onnx.ModelProto:
    """Export a network.

    Args:
        module: takes float32 NCHW, returns scores or class ids. It is switched to eval mode.
        profile: gives the size of the input, or what its sides are multiples of.
        opset: expected in the file; the exporters raise it silently, here that is an error.
        exporter: dynamo is PyTorch's current one; torchscript is the older, faster one, and writes lower opsets.
        input_name: name of the input tensor.
        output_name: name of the output tensor.
        batch: number of images that every call takes, where the network takes no other.

    Raises:
        ConfigError: the network returns no batch of maps, or the exporter cannot write it, or not in this opset.
    """
    module.eval()
    example_NCHW = example_batch(profile, images=batch or 2)
    output_shape = _declared_output(module, example_NCHW, profile)
    write = _by_dynamo if exporter == "dynamo" else _by_torchscript
    if exporter == "torchscript":
        _require_one_path(module, example_NCHW)
    with _silence():
        try:
            free = _free_axes(profile, batch)
            model = write(module, example_NCHW, opset, input_name, output_name, free)
        except FOREIGN as error:
            cause = _cause(error)
            if isinstance(cause, InterruptedRunError):
                raise cause from error
            otherwise = "" if profile.is_fixed else _OR_ONE_SIZE
            raise ConfigError(_why_not_written(cause, module, example_NCHW, exporter, opset) + otherwise) from error
    written = opset_of(model)
    if written != opset:
        raise ConfigError(
            f"asked for opset {opset}, the {exporter} exporter wrote {written}; "
            f"pass --opset {written}, or another --exporter (torchscript writes 9 to 20, dynamo 18 and above)"
        )
    _strip(model)
    state_shapes(model, (3, *declared_hw(profile)), output_shape, batch=batch or BATCH)
    return checked(model)


def _declared_output(module: nn.Module, example_NCHW: torch.Tensor, profile: Profile) -> tuple[int | str, ...]:
    """Return the sizes of the output behind the batch, a name for those that follow the input.

    Raises:
        ConfigError: the output is no batch of maps.
    """
    shape = _output_shape(module, example_NCHW)[1:]
    if profile.is_fixed:
        return shape
    return declared_output(shape, _output_shape(module, torch.zeros(len(example_NCHW), 3, *other_hw(profile)))[1:])


def _output_shape(module: nn.Module, example_NCHW: torch.Tensor) -> tuple[int, ...]:
    """Run the network once and return the shape of its output, whose meaning is found out later.

    Raises:
        ConfigError: it is no batch of maps.
    """
    output = call(module, example_NCHW)
    assert isinstance(output, torch.Tensor), "single_output gives one tensor"
    if output.ndim not in {3, 4} or output.shape[0] != len(example_NCHW) or output.is_complex():
        raise ConfigError(
            f"the network returns {output.dtype} {list(output.shape)} for {list(example_NCHW.shape)}, "
            "expected scores [N, K, H, W] or class ids [N, H, W]; wrap it so that it returns those"
        )
    return tuple(output.shape)


def _free_axes(profile: Profile, batch: int | None) -> dict[int, str]:
    """Return the free axes of the input, and their names."""
    return {**({} if batch else {0: BATCH}), **({} if profile.is_fixed else {2: HEIGHT, 3: WIDTH})}


def _dimensions(free: Mapping[int, str]) -> dict[int, Any]:
    """Return free axes as torch.export takes them; it finds out what sides must be multiples of."""
    return {axis: torch.export.Dim(name) if name == BATCH else torch.export.Dim.AUTO for axis, name in free.items()}


def _by_dynamo(
    module: nn.Module,
    example_NCHW: torch.Tensor,
    opset: int,
    input_name: str,
    output_name: str,
    free: Mapping[int, str],
) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (example_NCHW,),
        dynamo=True,
        external_data=False,
        opset_version=opset,
        dynamic_shapes=(_dimensions(free),) if free else None,
        input_names=[input_name],
        output_names=[output_name],
        verbose=False,
    )
    assert program is not None, "dynamo=True returns the program"
    return program.model_proto


def _by_torchscript(
    module: nn.Module,
    example_NCHW: torch.Tensor,
    opset: int,
    input_name: str,
    output_name: str,
    free: Mapping[int, str],
) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.export(
        module,
        (example_NCHW,),
        file,  # type: ignore[arg-type] # the stub omits file objects, which the function takes
        dynamo=False,
        opset_version=opset,
        dynamic_axes={input_name: dict(free), output_name: {0: BATCH}} if free else None,
        input_names=[input_name],
        output_names=[output_name],
    )
    return onnx.load_model_from_string(file.getvalue())


def _cause(error: BaseException) -> BaseException:
    """Return the first cause of an error: dynamo's own message lists steps, its cause has the reason."""
    return error if error.__cause__ is None else _cause(error.__cause__)


def _why_not_written(
    cause: BaseException, module: nn.Module, example_NCHW: torch.Tensor, exporter: Exporter, opset: int
) -> str:
    """Return the message for a network that an exporter refuses: the cause in one sentence."""
    branch = find_branch(module, example_NCHW, exporter)
    if branch is not None:
        return f"the {exporter} exporter cannot write this network: {branch}; {_ONE_PATH}"
    other = "torchscript" if exporter == "dynamo" else "dynamo"
    return (
        f"the {exporter} exporter cannot write this network with opset {opset}: {in_one_line(cause)}; "
        f"try --exporter {other} or another --opset"
    )


def _require_one_path(module: nn.Module, example_NCHW: torch.Tensor) -> None:
    """Refuse to trace a network that takes another path for other images.

    torch warns of conditions on sizes too, which are constants here, and not of every condition on contents.

    Raises:
        ConfigError: the code of the network depends on the contents of the images.
    """
    branch = find_branch(module, example_NCHW, "torchscript")
    if branch is not None:
        raise ConfigError(f"the torchscript exporter would write one path of this network: {branch}; {_ONE_PATH}")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Silence the exporters: their warnings concern packages that are not needed, or what is checked afterwards.

    Absent operators of torchvision, deprecations inside torch, a raised opset, sizes traced as constants: each either
    does not affect the result or is caught by the checks of to_onnx and by the parity check.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            _without_graphs(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _without_graphs() -> Iterator[None]:
    """Keep the torchscript exporter from printing the graph of a network that it cannot write, from C++.

    torch 2.13 asks whether the function that tells whether such prints are enabled is true, and enables them.
    """
    core: Any = torch._C  # noqa: SLF001 - the exporter reads it there
    function = core._jit_is_onnx_log_enabled  # noqa: SLF001
    core._jit_is_onnx_log_enabled = False  # noqa: SLF001
    try:
        yield
    finally:
        core._jit_is_onnx_log_enabled = function  # noqa: SLF001


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporters' metadata: stack traces with paths of this machine, which change between runs."""
    graph = model.graph
    holders = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for holder in holders:
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
