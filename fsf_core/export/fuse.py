"""Fuse a model with its pre- and postprocessing: normalise, run, softmax, resize, argmax and count in one graph.

Probabilities take no softmax, and a class map its nearest cell. Where logits are resized, the graph makes the
probabilities for the figures alone, which are added when it is loaded.

For GPUs, where copying logits costs more than computing masks; on CPUs the kernels of `masks` are several times faster.
Knows ONNX operators from opset 11 on and the profile's arithmetic. Knows no torch and no files.
"""

# N images, K classes, H rows, W columns

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import NodeProto, TensorProto, compose, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.graph import BATCH, checked, named_sizes, opset_of, signature_of
from fsf_core.export.input_sizes import declared_hw
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile
from fsf_core.options import Corners

FRAMES = "frames"
"""Input, uint8 NHWC, channels in the network's order, of preprocess.fit."""
OUT_HW = "out_hw"
"""Input, int64 [2]: rows and columns of the class maps."""
CLASS_MAPS = "class_maps"
"""Output, uint8 (uint16 above 255 classes) NHW."""
COUNTS = "counts"
"""Output, int32 NK: pixels of each class."""

OLDEST_OPSET = 11
"""Resize has had half-pixel centres since this opset."""

_JOINT_IN = "fsf/batch"
_JOINT_OUT = "fsf/logits"


def why_not_fusible(profile: Profile, opset: int) -> str:
    """Return why models of this profile and opset have no fused variant, or ""."""
    if profile.mode == "letterbox":
        return "a letterbox is cropped per image before the resize, and a batch shares one graph"
    if profile.needs_input_grid:
        return "its padding is cropped per image before the resize, and a batch shares one graph"
    if opset < OLDEST_OPSET:
        return f"opset {opset} has no Resize with half-pixel centres"
    return ""


def fuse(
    model: onnx.ModelProto, profile: Profile, *, output: Output | None = None, num_classes: int | None = None
) -> onnx.ModelProto:
    """Return a plain model fused with its pre- and postprocessing.

    Args:
        model: float32 NCHW in, scores NKHW or class ids N1HW out, shapes written down.
        profile: gives scale, mean and std.
        output: what the output means; None for logits.
        num_classes: classes of a class map; scores have one channel for each.

    Raises:
        ConfigError: the profile has no fused variant.
    """
    reason = why_not_fusible(profile, opset_of(model))
    if reason:
        raise ConfigError(f"profile {profile.name!r} has no fused model: {reason}; use the plain one")
    signature = signature_of(model)
    plain = copy.deepcopy(model)
    del plain.graph.value_info[:]  # inferred again for the whole
    # The prefix keeps the network's names, which may be any, apart from those of this module.
    plain = compose.add_prefix(plain, "net/")
    before = _preprocessing(model, profile)
    behind = _postprocessing(model, output or Output(), num_classes or signature.output_shape[1])
    fed = compose.merge_models(before, plain, io_map=[(_JOINT_IN, f"net/{signature.input_name}")])
    fused = compose.merge_models(fed, behind, io_map=[(f"net/{signature.output_name}", _JOINT_OUT)])
    fused.producer_name = model.producer_name
    fused.producer_version = model.producer_version
    return checked(fused)


class _Graph:
    """A graph that is written node by node, each value named after its step."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, value: ArrayLike, dtype: DTypeLike) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"fsf/{name}"))
        return f"fsf/{name}"

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = name if name in {_JOINT_IN, CLASS_MAPS, COUNTS} else f"fsf/{name}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"fsf/{name}", **attributes))
        return output

    def model(
        self, like: onnx.ModelProto, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Return the graph as a model with the opset and IR version of `like`, which merging requires."""
        graph = helper.make_graph(self.nodes, "fsf", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", opset_of(like))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=like.ir_version)


def _preprocessing(like: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Return the model from frames to the network's input, with exactly the arithmetic of Profile.levels."""
    graph = _Graph()
    size = declared_hw(profile)
    value = graph.node("Transpose", [FRAMES], "planes", perm=[0, 3, 1, 2])
    value = graph.node("Cast", [value], "grey", to=TensorProto.FLOAT)
    value = graph.node("Div", [value, graph.constant("scale", profile.scale, np.float32)], "scaled")
    if any(profile.mean):
        mean = graph.constant("mean", np.reshape(profile.mean, (1, 3, 1, 1)), np.float32)
        value = graph.node("Sub", [value, mean], "centred")
    if any(part != 1 for part in profile.std):
        std = graph.constant("std", np.reshape(profile.std, (1, 3, 1, 1)), np.float32)
        value = graph.node("Div", [value, std], "normalised")
    graph.node("Identity", [value], _JOINT_IN)
    count = signature_of(like).input_shape[0] or BATCH
    frames = helper.make_tensor_value_info(FRAMES, TensorProto.UINT8, [count, *size, 3])
    batch = helper.make_tensor_value_info(_JOINT_IN, TensorProto.FLOAT, [count, 3, *size])
    return graph.model(like, [frames], [batch])


def _postprocessing(like: onnx.ModelProto, output: Output, num_classes: int) -> onnx.ModelProto:
    """Return the model from the network's output to class maps and counts; softmax before resize is the contract."""
    graph = _Graph()
    if output.kind == "class_map":
        value = _nearest(graph, _JOINT_OUT, signature_of(like).output_shape[2:], output.corners)
    else:
        value = _resize(graph, _scores(graph, output, opset_of(like)), output.corners)
        value = graph.node("ArgMax", [value], "winner", axis=1, keepdims=0)
    # Counted as int32: CUDA has no Equal for uint8, and int64 costs twice the memory.
    value = graph.node("Cast", [value], "class_ids", to=TensorProto.INT32)
    stored = TensorProto.UINT8 if num_classes <= 255 else TensorProto.UINT16  # noqa: PLR2004 - 255 stays free for "ignore"
    graph.node("Cast", [value], CLASS_MAPS, to=stored)
    _count(graph, value, num_classes, opset_of(like))
    count = signature_of(like).input_shape[0] or BATCH
    raw = helper.make_tensor_value_info(_JOINT_OUT, TensorProto.FLOAT, named_sizes(like.graph.output[0]))
    size = helper.make_tensor_value_info(OUT_HW, TensorProto.INT64, [2])
    class_maps = helper.make_tensor_value_info(CLASS_MAPS, stored, [count, "out_h", "out_w"])
    counts = helper.make_tensor_value_info(COUNTS, TensorProto.INT32, [count, num_classes])
    return graph.model(like, [raw, size], [class_maps, counts])


def _scores(graph: _Graph, output: Output, opset: int) -> str:
    """Add what makes the scores that are resized, and the probabilities where these are others."""
    value = _JOINT_OUT
    if output.holds_logits:
        probabilities = _softmax(graph, _JOINT_OUT, opset)
        value = probabilities if output.resized == "probabilities" else _JOINT_OUT
    elif output.background_bias:
        value = graph.node("Identity", [_JOINT_OUT], "probabilities")
    if output.background_bias:
        bias = graph.constant("bias", np.reshape([output.background_bias, 0], (1, 2, 1, 1)), np.float32)
        value = graph.node("Add", [value, bias], "biased")
    return value


def _nearest(graph: _Graph, value: str, grid_hw: tuple[int | None, ...], corners: Corners) -> str:
    """Add the choice of the nearest cell, as masks.nearest does it; ids N1HW become NHW."""
    free: list[str] = []
    if None in grid_hw:
        shape, free = _free_grid(graph, value)
    else:
        shape = graph.constant("without_channel", np.array([0, *grid_hw]), np.int64)
    value = graph.node("Reshape", [value, shape], "grid")
    zero, one, two = (graph.constant(name, number, np.int64) for name, number in (("0", 0), ("1", 1), ("2", 2)))
    for axis, size_of_grid in enumerate(grid_hw):
        size = graph.node("Gather", [OUT_HW, graph.constant(f"axis{axis}", axis, np.int64)], f"size{axis}", axis=0)
        pixels = graph.node("Range", [zero, size, one], f"pixels{axis}")
        if corners == "asymmetric":
            bounds = _float_bounds(graph, None if free else size_of_grid, free[axis] if free else "", axis)
            cell = _asymmetric_cells(graph, pixels, size, bounds, axis)
            value = graph.node("Gather", [value, cell], f"chosen{axis}", axis=axis + 1)
            continue
        doubled = graph.node("Mul", [pixels, two], f"doubled{axis}")
        centres = graph.node("Add", [doubled, one], f"centres{axis}")
        cells = free[axis] if free else graph.constant(f"cells{axis}", np.array(size_of_grid), np.int64)
        scaled = graph.node("Mul", [centres, cells], f"scaled{axis}")
        edge = graph.node("Mul", [size, two], f"edge{axis}")
        nearest = graph.node("Div", [scaled, edge], f"nearest{axis}")
        value = graph.node("Gather", [value, nearest], f"chosen{axis}", axis=axis + 1)
    return value


def _asymmetric_cells(graph: _Graph, pixels: str, size: str, bounds: tuple[str, str], axis: int) -> str:
    """Add the cell of every pixel by its upper left corner, in float32 as PyTorch's nearest computes it.

    Args:
        graph: added to.
        pixels: numbers of the pixels along a side.
        size: number of pixels.
        bounds: number of cells, and of the last, as float32.
        axis: the side.
    """
    floats = [
        graph.node("Cast", [number], f"{name}{axis}", to=TensorProto.FLOAT)
        for number, name in ((pixels, "numbers"), (size, "length"))
    ]
    scale = graph.node("Div", [bounds[0], floats[1]], f"scale{axis}")
    scaled = graph.node("Mul", [floats[0], scale], f"scaled{axis}")
    within = graph.node("Min", [scaled, bounds[1]], f"within{axis}")
    return graph.node("Cast", [within], f"nearest{axis}", to=TensorProto.INT64)


def _float_bounds(graph: _Graph, cells: int | None, free: str, axis: int) -> tuple[str, str]:
    """Add the number of cells along a side, and that of the last, as float32."""
    if cells is not None:
        last = graph.constant(f"last{axis}", cells - 1, np.float32)
        return graph.constant(f"cells{axis}", cells, np.float32), last
    count = graph.node("Cast", [free], f"cells_float{axis}", to=TensorProto.FLOAT)
    return count, graph.node("Sub", [count, graph.constant(f"one{axis}", 1, np.float32)], f"last{axis}")


def _free_grid(graph: _Graph, value: str) -> tuple[str, list[str]]:
    """Add the shape of ids N1HW without the channel, and the number of its rows and columns."""
    whole = graph.node("Shape", [value], "shape")
    kept = graph.constant("axes_kept", [0, 2, 3], np.int64)
    axes = [graph.constant(f"axis_of_cells{axis}", axis + 2, np.int64) for axis in range(2)]
    cells = [graph.node("Gather", [whole, at], f"cells{axis}", axis=0) for axis, at in enumerate(axes)]
    return graph.node("Gather", [whole, kept], "without_channel", axis=0), cells


def _softmax(graph: _Graph, value: str, opset: int) -> str:
    """Add a softmax over the classes; before opset 13 it flattens all axes from its own on, so classes go last."""
    if opset >= 13:  # noqa: PLR2004 - see above
        return graph.node("Softmax", [value], "probabilities", axis=1)
    value = graph.node("Transpose", [value], "classes_last", perm=[0, 2, 3, 1])
    value = graph.node("Softmax", [value], "probabilities_last", axis=3)
    return graph.node("Transpose", [value], "probabilities", perm=[0, 3, 1, 2])


def _resize(graph: _Graph, value: str, corners: Corners) -> str:
    """Add a bilinear resize: with half-pixel centres, as cv2.INTER_LINEAR on float32, or with aligned corners."""
    shape = graph.node("Shape", [value], "shape")
    bounds = [graph.constant(name, [at], np.int64) for name, at in (("from", 0), ("to", 2))]
    batch_and_classes = graph.node("Slice", [shape, *bounds], "batch_and_classes")
    size = graph.node("Concat", [batch_and_classes, OUT_HW], "size", axis=0)
    # Opset 11 requires roi and scales; empty means unused, in all later opsets too.
    unused = [graph.constant(name, [], np.float32) for name in ("roi", "scales")]
    return graph.node(
        "Resize",
        [value, *unused, size],
        "resized",
        mode="linear",
        coordinate_transformation_mode="half_pixel" if corners == "half-pixel" else "align_corners",
    )


def _count(graph: _Graph, class_ids: str, num_classes: int, opset: int) -> None:
    """Add the counts, with one comparison per class: a one-hot encoding would need K times the memory."""
    sums = []
    for index in range(num_classes):
        hit = graph.node("Equal", [class_ids, graph.constant(f"class{index}", index, np.int32)], f"is{index}")
        one = graph.node("Cast", [hit], f"ones{index}", to=TensorProto.INT32)
        if opset >= 13:  # noqa: PLR2004 - axes became an input
            axes = [graph.constant(f"axes{index}", [1, 2], np.int64)]
            total = graph.node("ReduceSum", [one, *axes], f"sum{index}", keepdims=0)
        else:
            total = graph.node("ReduceSum", [one], f"sum{index}", axes=[1, 2], keepdims=0)
        shape = graph.constant(f"column{index}", [-1, 1], np.int64)
        sums.append(graph.node("Reshape", [total, shape], f"counts{index}"))
    graph.node("Concat", sums, COUNTS, axis=1)
