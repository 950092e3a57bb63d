"""A fused model in two: the network on the image's pixels, and what makes class maps of its scores.

The fused graph takes one size of class maps per call. Its first half, the head, does not depend on that size, so that
batches of images of any sizes are full; the second half, the tail, is called once for each size. The halves are cut
when the model is loaded, so that the bundles of every version have them and keep their identity.
"""

# N images, K channels, h×w cells of the network's grid

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fsf_core.model import onnx_bytes
from fsf_core.model.fused_figures import FIGURES, PLANES, RESIZED, WINNERS, figure_outputs
from fsf_core.model.onnx_bytes import FLOAT, INT32, Node, encoded

_GRID = "fsf/grid"
"""The node of a fused graph of class maps whose input are the class ids on the network's grid."""
_FUSING_PREFIX = "fsf/"
"""Of the names of what fusing adds; those of the network begin with net/."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitModel:
    """The halves of a fused model, as ONNX files."""

    head: bytes
    """uint8 frames NHWC to `raw`, `scores`, and FIGURES and PLANES where `has_figures`."""
    tail: bytes
    """`scores` and int64 [rows, columns] to class maps NHW."""
    raw: str
    """Name of the network's own output, that of the plain model: float32 NKhw."""
    scores: str
    """Name of what is resized, which may be `raw`; float32 NKhw."""
    out_hw: str
    """Name of the size among the inputs of the tail."""
    class_maps: str
    """Name of the output of the tail."""
    has_figures: bool


def split(model: bytes) -> SplitModel | None:
    """Return the halves of a fused model; None where the file is none.

    Args:
        model: content of an ONNX file.
    """
    try:
        return _split(model)
    except (IndexError, KeyError, TypeError, ValueError):  # what reading a damaged message raises
        return None


def _split(model: bytes) -> SplitModel | None:
    figures = figure_outputs(model)
    graph = onnx_bytes.graph_of(model + figures)
    scores = onnx_bytes.input_of(graph, RESIZED) or onnx_bytes.input_of(graph, _GRID)
    inputs, outputs = (
        [onnx_bytes.name_of(value) for number, value in onnx_bytes.fields(graph) if number == field]
        for field in (onnx_bytes.GRAPH_INPUT, onnx_bytes.GRAPH_OUTPUT)
    )
    if not scores:
        return None
    constants = _initializers(graph)
    _, out_hw = (name for name in inputs if name not in constants)
    class_maps = outputs[0]
    nodes = onnx_bytes.nodes_of(graph)
    raw = _network_output(nodes, scores)
    made = [*dict.fromkeys((raw, scores)), *((*FIGURES, *PLANES) if figures else ())]
    head = _part(
        graph,
        _needed(nodes, made, stop=()),
        outputs=[onnx_bytes.encoded_value(name, INT32 if name == WINNERS else FLOAT) for name in made],
    )
    shape = ["n", "k", "h", "w"]
    tail = _part(
        graph,
        _needed(nodes, [class_maps], stop=(scores,)),
        inputs=[onnx_bytes.encoded_value(scores, FLOAT, shape)],
        outputs=[_without_shape(graph, class_maps)],
    )
    return SplitModel(
        head=onnx_bytes.with_graph(model, head),
        tail=onnx_bytes.with_graph(model, tail),
        raw=raw,
        scores=scores,
        out_hw=out_hw,
        class_maps=class_maps,
        has_figures=bool(figures),
    )


def _initializers(graph: onnx_bytes.Message) -> set[str]:
    return {
        onnx_bytes.initializer_name(value)
        for number, value in onnx_bytes.fields(graph)
        if number == onnx_bytes.GRAPH_INITIALIZER
    }


def _network_output(nodes: Sequence[Node], scores: str) -> str:
    """Return the value of the network that the scores are made from."""
    maker = {output: node for node in nodes for output in node.outputs}
    name = scores
    while name.startswith(_FUSING_PREFIX):
        name = maker[name].inputs[0]
    return name


def _needed(nodes: Sequence[Node], outputs: Sequence[str], *, stop: Collection[str]) -> list[Node]:
    """Return the nodes that outputs are made by, in order, up to values that are given."""
    maker = {output: at for at, node in enumerate(nodes) for output in node.outputs if output and output not in stop}
    found: set[int] = set()
    waiting = [maker[name] for name in outputs if name in maker]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found.add(at)
            waiting += [maker[name] for name in nodes[at].inputs if name in maker]
    return [nodes[at] for at in sorted(found)]


def _part(
    graph: onnx_bytes.Message, nodes: Sequence[Node], *, outputs: Sequence[bytes], inputs: Sequence[bytes] = ()
) -> bytes:
    """Return a graph of some nodes of another, with their constants and inputs, and further inputs.

    onnxruntime infers the shapes of what is between them: those of the whole hold for its number of images.
    """
    names = {name for node in nodes for name in (*node.inputs, *node.outputs)}
    name_of = {
        onnx_bytes.GRAPH_INPUT: onnx_bytes.name_of,
        onnx_bytes.GRAPH_INITIALIZER: onnx_bytes.initializer_name,
    }
    always = {onnx_bytes.GRAPH_NAME, onnx_bytes.GRAPH_SPARSE_INITIALIZER}
    kept = [
        field
        for number, value, field in onnx_bytes.spans(graph)
        if number in always or (number in name_of and name_of[number](value) in names)
    ]
    added = [encoded(onnx_bytes.GRAPH_INPUT, value) for value in inputs]
    added += [encoded(onnx_bytes.GRAPH_OUTPUT, value) for value in outputs]
    return b"".join([*kept, *(node.field for node in nodes), *added])


def _without_shape(graph: onnx_bytes.Message, output: str) -> bytes:
    """Return an output of a graph without its shape, whose number of images may be that of the whole."""
    for number, value in onnx_bytes.fields(graph):
        if number == onnx_bytes.GRAPH_OUTPUT and onnx_bytes.name_of(value) == output:
            tensor = dict(onnx_bytes.fields(dict(onnx_bytes.fields(value))[onnx_bytes.VALUE_TYPE]))
            element = dict(onnx_bytes.fields(tensor[onnx_bytes.TYPE_TENSOR]))[onnx_bytes.TENSOR_TYPE_ELEMENT]
            return onnx_bytes.encoded_value(output, element)
    raise KeyError(output)
