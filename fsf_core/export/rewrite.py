"""Rewrite a plain graph into one that computes the same with fewer passes over the features.

Each rule is an identity of real arithmetic: results differ by rounding alone, and the parity check is one of the
rewritten graph. Rules know operators and constants, and no network. They leave only operators of the ONNX standard that
were there before, fewer of them, so that what helps a CPU does not cost a GPU.
"""

# N images, C channels, M channels that a convolution makes, H rows, W columns

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from fsf_core.export.editing import IMAGES, Affine, Editor, is_a, name_shapes
from fsf_core.export.graph import attribute_of, checked, opset_of
from fsf_core.export.onnx_file import nodes_of

OLDEST_OPSET = 13
"""Opset from which on operators have the inputs and attributes that the rules read."""

_QUANTIZING = {"QuantizeLinear", "DynamicQuantizeLinear"}
"""Operators behind which a difference in the last bit may be one of a whole step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewritten:
    """A rewritten graph."""

    model: onnx.ModelProto
    """The model as it was, where no rule applies."""
    rules: Mapping[str, int]
    """How often each rule was applied, by name."""


def rewrite(model: onnx.ModelProto) -> Rewritten:
    """Rewrite a plain model by every rule that applies to it.

    Args:
        model: float32 NCHW in, shapes written down; it is not changed. One that is quantized stays as it is.

    Raises:
        ConfigError: the rewritten graph violates the standard.
    """
    if opset_of(model) < OLDEST_OPSET or any(node.op_type in _QUANTIZING for node in nodes_of(model)):
        return Rewritten(model=model, rules={})
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    editor = Editor(copied)
    rules: dict[str, int] = {}
    for rule in _RULES:
        while rule(editor):
            editor.refresh()
            rules[rule.__name__] = rules.get(rule.__name__, 0) + 1
    if not rules:
        copied.CopyFrom(model)  # without what the editor does before the first rule
    else:
        copied = checked(copied)
    if name_shapes(copied):
        rules["batch_named"] = 1
    return Rewritten(model=copied if rules else model, rules=rules)


# ---------------------------------------------------------------------------------------- factors and offsets


def affine_out_of_pool_difference(editor: Editor) -> bool:
    """Compute pool(u) - u, and then the factor, where v = factor · u + offset and pool(v) - v is wanted.

    A mean over existing neighbours keeps a constant: the offset cancels. PoolFormer has this behind its norms.
    """
    for difference in editor.nodes("Sub"):
        pool = editor.made_by("AveragePool", difference.input[0])
        if pool is None or not _keeps_constants(pool) or pool.input[0] != difference.input[1]:
            continue
        affine = editor.affine(pool.input[0])
        if not affine.nodes or affine.value in editor.outputs or not editor.read_once(pool.output[0]):
            continue
        if len(editor.readers[affine.value]) > 2 or not affine.is_finite:  # noqa: PLR2004 - pool and difference
            continue
        result = difference.output[0]
        pool.input[0] = difference.input[1] = affine.source
        difference.output[0] = editor.new_value(f"{result}/unscaled", editor.shapes[affine.value])
        factor = editor.add(f"{result}/factor", _planes(affine.factor_C))
        editor.insert_behind(difference, helper.make_node("Mul", [difference.output[0], factor], [result]))
        return True
    return False


def _keeps_constants(pool: NodeProto) -> bool:
    """Return whether a pool is a mean over existing pixels alone; counted padding pulls a constant towards 0."""
    if attribute_of(pool, "ceil_mode", 0) or attribute_of(pool, "auto_pad", b"NOTSET") != b"NOTSET":
        return False
    return not attribute_of(pool, "count_include_pad", 0) or not any(attribute_of(pool, "pads", ()))


def affine_into_convolution_before(editor: Editor) -> bool:
    """Fold factor and offset behind a convolution into its weights and bias."""
    for affine in editor.affines():
        conv = editor.made_by("Conv", affine.source)
        if conv is None or not editor.read_once(affine.source) or not editor.is_chain(affine):
            continue
        weights = _weights(editor, conv)
        if weights is None:
            continue
        folded = weights * affine.factor_C[:, None, None, None]
        _set_weights(editor, conv, folded, _bias(editor, conv) * affine.factor_C + affine.offset_C)
        conv.output[0] = affine.value
        editor.remove(affine.nodes)
        return True
    return False


def affine_into_convolutions_behind(editor: Editor) -> bool:
    """Fold factor and offset of what only convolutions read into their weights and biases.

    An offset only where nothing is padded: padding is 0, and not the offset.
    """
    for affine in editor.affines():
        readers = editor.readers.get(affine.value, [])
        if affine.value in editor.outputs or not all(_takes(editor, reader, affine) for reader in readers):
            continue
        for conv in readers:
            weights = _weights(editor, conv)
            assert weights is not None, "_takes has asked"
            factor, offset = (_per_input(value_C, weights, conv) for value_C in (affine.factor_C, affine.offset_C))
            bias_M = _bias(editor, conv) + (weights * offset).sum((1, 2, 3))
            _set_weights(editor, conv, weights * factor, bias_M)
            conv.input[0] = affine.source
        return True
    return False


def _takes(editor: Editor, conv: NodeProto, affine: Affine) -> bool:
    """Return whether a node is a convolution into which the affine function of its input can be folded."""
    if not is_a(conv, "Conv") or _weights(editor, conv) is None or affine.value in conv.input[1:]:
        return False
    return _is_unpadded(conv) or not affine.offset_C.any()


def _per_input(value_C: NDArray[np.float64], weights: NDArray[np.float64], conv: NodeProto) -> NDArray[np.float64]:
    """Return numbers of the channels that a convolution reads as [M, C / groups, 1, 1], to which its weights belong."""
    groups = attribute_of(conv, "group", 1)
    return np.repeat(value_C.reshape(groups, -1), len(weights) // groups, axis=0)[:, :, None, None]


def affine_steps_merged(editor: Editor) -> bool:
    """Compute a chain of factors and offsets as one factor and one offset."""
    for affine in editor.affines():
        steps = [
            (operator, value_C)
            for operator, value_C, neutral in (("Mul", affine.factor_C, 1), ("Add", affine.offset_C, 0))
            if (value_C != neutral).any()
        ]
        if not 0 < len(steps) < len(affine.nodes) or not editor.is_chain(affine):
            continue
        nodes, source = [], affine.source
        for index, (operator, value_C) in enumerate(steps, start=1):
            last = index == len(steps)
            target = affine.value if last else editor.new_value(f"{affine.value}/scaled", editor.shapes[affine.value])
            constant = editor.add(f"{affine.value}/{operator}", _planes(value_C))
            nodes.append(helper.make_node(operator, [source, constant], [target]))
            source = target
        editor.insert_behind(affine.nodes[0], *nodes)
        editor.remove(affine.nodes)
        return True
    return False


def _planes(value_C: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return numbers of channels as they are multiplied with images, or added to them."""
    return value_C.astype(np.float32)[:, None, None]


# ----------------------------------------------------------------------------------------------- convolutions


def _weights(editor: Editor, conv: NodeProto) -> NDArray[np.float64] | None:
    """Return the weights [M, C / groups, rows, columns] of a convolution; None where they or its bias are computed."""
    weights, bias = editor.input_constant(conv, 1), editor.input_constant(conv, 2)
    if weights is None or weights.dtype != np.float32 or weights.ndim != IMAGES or (bias is None and _has_bias(conv)):
        return None
    return weights.astype(np.float64)


def _has_bias(conv: NodeProto) -> bool:
    return len(conv.input) > 2 and bool(conv.input[2])  # noqa: PLR2004 - the third input


def _bias(editor: Editor, conv: NodeProto) -> NDArray[np.float64]:
    """Return the bias [1 or M] of a convolution whose weights are constants."""
    bias_M = editor.input_constant(conv, 2)
    return np.zeros(1) if bias_M is None else bias_M.astype(np.float64)


def _set_weights(editor: Editor, conv: NodeProto, weights: NDArray[np.float64], bias_M: NDArray[np.float64]) -> None:
    """Give a convolution weights and a bias of its own; those that it has may be another's too."""
    name = conv.input[1].removesuffix("/folded")
    constants = [weights, np.broadcast_to(bias_M, len(weights))]
    added = [
        editor.add(f"{name}/{suffix}", value.astype(np.float32))
        for suffix, value in zip(("folded", "bias"), constants, strict=True)
    ]
    conv.input[:] = [conv.input[0], *added]


def _is_unpadded(conv: NodeProto) -> bool:
    return attribute_of(conv, "auto_pad", b"NOTSET") in {b"NOTSET", b"VALID"} and not any(
        attribute_of(conv, "pads", ())
    )


# ------------------------------------------------------------------------------------------- sizes and shapes


def resize_by_scales(editor: Editor) -> bool:
    """Give a Resize to known sides constant scales instead of sizes that are computed for the sake of the batch.

    The scale is the ratio of the sides, where float32 has it exactly.
    """
    for resize in editor.nodes("Resize"):
        if not any(resize.input[3:]) or not _is_stretch(resize):  # X, roi, scales, sizes
            continue
        before, behind = (editor.shapes.get(name, ()) for name in (resize.input[0], resize.output[0]))
        if len(before) != IMAGES or len(behind) != IMAGES or None in before or before[:2] != behind[:2]:
            continue
        scales = [_exact_scale(*sides) for sides in zip(before[2:], behind[2:], strict=True)]
        if None in scales:
            continue
        constant = editor.add(f"{resize.output[0]}/scales", np.array([1, 1, *scales], np.float32))
        resize.input[:] = [*resize.input[:2], constant]
        return True
    return False


def _is_stretch(resize: NodeProto) -> bool:
    """Return whether a Resize brings all axes to the sizes that it is given."""
    policy = attribute_of(resize, "keep_aspect_ratio_policy", b"stretch")
    return policy == b"stretch" and attribute_of(resize, "axes") is None


def _exact_scale(before: object, behind: object) -> float | None:
    """Return the ratio of two sides if it, or the other way round a power of two, is whole."""
    if not isinstance(before, int) or not isinstance(behind, int):
        return None
    halves = before % behind == 0 and (before // behind).bit_count() == 1
    return behind / before if behind % before == 0 or halves else None


def convolution_before_resize(editor: Editor) -> bool:
    """Apply a 1×1 convolution before a linear enlargement instead of behind it, to fewer pixels.

    One is linear over channels, the other over pixels, and the weights of an interpolation add up to 1, which keeps the
    bias. Only where the enlargement then has no more channels than before.
    """
    for conv in editor.nodes("Conv"):
        resize = editor.made_by("Resize", conv.input[0])
        if resize is None or not editor.read_once(conv.input[0]) or not _enlarges(editor, resize):
            continue
        weights = _weights(editor, conv)
        if weights is None or not _is_pointwise(conv, weights):
            continue
        source, result = resize.input[0], conv.output[0]
        if len(weights) > (editor.channels(source) or 0):
            continue
        shape = editor.shapes[source]
        small = editor.new_value(f"{result}/small", (shape[0], len(weights), *shape[2:]))
        conv.input[0], conv.output[0] = source, small
        enlarged = NodeProto()
        enlarged.CopyFrom(resize)
        enlarged.input[0], enlarged.output[0] = small, result
        editor.insert_behind(conv, enlarged)
        editor.remove([resize])
        return True
    return False


def _is_pointwise(conv: NodeProto, weights: NDArray[np.float64]) -> bool:
    return weights.shape[2:] == (1, 1) and _is_unpadded(conv) and set(attribute_of(conv, "strides", ())) <= {1}


def _enlarges(editor: Editor, resize: NodeProto) -> bool:
    """Return whether a Resize interpolates linearly between the pixels of images, which constant scales make larger."""
    scales = editor.input_constant(resize, 2)
    return (
        attribute_of(resize, "mode", b"nearest") == b"linear"
        # Beyond its pixels, this one makes values up that no convolution has seen.
        and attribute_of(resize, "coordinate_transformation_mode", b"half_pixel") != b"tf_crop_and_resize"
        and attribute_of(resize, "axes") is None
        and scales is not None
        and scales.shape == (IMAGES,)
        and [*scales[:2]] == [1, 1]
        and scales.min() >= 1
    )


def reshape_to_constant(editor: Editor) -> bool:
    """Give a Reshape to known sizes a constant instead of sizes that are computed for the sake of the batch."""
    for reshape in editor.nodes("Reshape"):
        before, behind = (editor.shapes.get(name, ()) for name in (reshape.input[0], reshape.output[0]))
        if editor.constant(reshape.input[1]) is not None or attribute_of(reshape, "allowzero", 0):
            continue
        if not before or before[0] is None or before[:1] != behind[:1]:
            continue
        if not all(isinstance(size, int) for size in behind[1:]):
            continue
        sizes = np.array([0, *behind[1:]], np.int64)  # 0: that of the input
        reshape.input[1] = editor.add(f"{reshape.output[0]}/sizes", sizes)
        return True
    return False


_RULES: tuple[Callable[[Editor], bool], ...] = (
    affine_out_of_pool_difference,
    affine_into_convolution_before,
    affine_into_convolutions_behind,
    affine_steps_merged,
    resize_by_scales,
    convolution_before_resize,
    reshape_to_constant,
)
"""In the order in which they are applied: each makes what later ones look for."""
