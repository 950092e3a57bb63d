"""A segmentation model to which every rule of `fsf_core.export.rewrite` applies, written without an exporter."""

# C channels

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROWS, COLUMNS, CHANNELS, CLASSES = 64, 96, 8, 5
"""Size of the images, and number of channels inside."""

BALANCE = (-2.2, 0.5, 3.7, 2.7, 1.6)
"""Measured, so that every class wins somewhere."""


def rewritable_onnx() -> onnx.ModelProto:
    """Return a model from 3×64×96 images to 5×64×96 logits."""
    nodes = [
        helper.make_node("Conv", ["images", "stem"], ["s"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["s"], ["u"]),
        # As PoolFormer mixes pixels: a mean of neighbours less the pixel, behind a norm, and a layer's scale.
        helper.make_node("Mul", ["u", "norm/factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "norm/offset"], ["v"]),
        helper.make_node("AveragePool", ["v"], ["mean"], kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]),
        helper.make_node("Sub", ["mean", "v"], ["difference"]),
        helper.make_node("Mul", ["difference", "layer"], ["branch"]),
        helper.make_node("Add", ["u", "branch"], ["mixed"]),
        # A norm behind a convolution, and one before.
        helper.make_node("Conv", ["mixed", "inner"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean_C", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Mul", ["r", "before/factor"], ["p"]),
        helper.make_node("Add", ["p", "before/offset"], ["q"]),
        helper.make_node("Conv", ["q", "pointwise"], ["d"]),
        # Attention's way to rows of pixels and back, with sizes that are computed for the sake of the batch.
        helper.make_node("Reshape", ["d", "flat"], ["f"]),
        helper.make_node("Softmax", ["f"], ["weights"], axis=1),
        helper.make_node("Shape", ["d"], ["shape"]),
        helper.make_node("Reshape", ["weights", "shape"], ["back"]),
        helper.make_node("Add", ["d", "back"], ["h"]),
        # An enlargement before the classes, likewise.
        helper.make_node("Slice", ["shape", "first", "second"], ["start"]),
        helper.make_node("Concat", ["start", "sides"], ["sizes"], axis=0),
        helper.make_node("Resize", ["h", "", "", "sizes"], ["enlarged"], mode="linear"),
        helper.make_node("Conv", ["enlarged", "classes", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rewritable",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, ROWS, COLUMNS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES, ROWS, COLUMNS])],
        [numpy_helper.from_array(value, name) for name, value in _constants().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _constants() -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    rng = np.random.default_rng(56)

    def kernel(makes: int, reads: int, side: int) -> NDArray[np.float32]:
        return rng.normal(0, (reads * side * side) ** -0.5, (makes, reads, side, side)).astype(np.float32)

    def numbers(*shape: int) -> NDArray[np.float32]:
        return rng.uniform(0.5, 2, shape).astype(np.float32)

    norms = ("norm/factor", "norm/offset", "layer", "before/factor", "before/offset")
    return {
        "stem": kernel(CHANNELS, 3, 3),
        **{name: numbers(CHANNELS, 1, 1) for name in norms},
        "inner": kernel(CHANNELS, CHANNELS, 3),
        **{name: numbers(CHANNELS) for name in ("scale", "shift", "mean_C", "variance")},
        "pointwise": kernel(CHANNELS, CHANNELS, 1),
        "flat": np.array([0, CHANNELS, -1]),
        "first": np.array([0]),
        "second": np.array([2]),
        "sides": np.array([ROWS, COLUMNS]),
        "classes": 8 * kernel(CLASSES, CHANNELS, 1),
        "bias": 8 * np.array(BALANCE, np.float32),
    }
