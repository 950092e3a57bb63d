"""A segmentation model of five nodes, written without an exporter: unusual names, any opset, any batch size."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tiny_onnx(
    *,
    opset: int = 17,
    batch: int | str = "n",
    input_name: str = "images:0",
    output_name: str = "seg/scores",
    num_classes: int = 4,
    last: str = "Identity",
) -> onnx.ModelProto:
    """Return a model from 3×224×224 images to num_classes×224×224 logits; `last` is its last operator."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 5, 5)),
        "b1": rng.normal(0, 0.1, 8),
        "w2": rng.normal(0, 0.6, (num_classes, 8, 1, 1)),
        "roi": [],
        "scales": [1, 1, 4, 4],
    }
    ends = {"axis": 1} if last in {"Softmax", "ArgMax"} else {}
    nodes = [
        helper.make_node("Conv", [input_name, "w1", "b1"], ["a"], pads=[2] * 4, strides=[4, 4], name="stem"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="head"),
        helper.make_node("Resize", ["c", "roi", "scales"], ["d"], mode="linear", name="up"),
        helper.make_node(last, ["d"], [output_name], **ends),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [batch, num_classes, 224, 224])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
