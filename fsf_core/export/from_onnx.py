"""Import an ONNX file of any exporter: any names, any opset that onnxruntime reads, any number of images per call.

Knows what such files contain and what must be checked. Knows no torch; outputs are compared by the parity check.
"""

# N images, K classes, H rows, W columns

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fsf_core.errors import ConfigError
from fsf_core.export.adapters import adapt_input
from fsf_core.export.batches import Call, MixedError, accepted_batch, built_for, difference_of_calls, same
from fsf_core.export.graph import (
    BATCH,
    attribute_of,
    checked,
    model_bytes,
    opset_of,
    real_inputs,
    sizes_of,
    state_shapes,
)
from fsf_core.export.input_sizes import declared_hw, declared_output, example_hw, other_hw
from fsf_core.export.onnx_file import load_onnx, nodes_of
from fsf_core.model.preprocess import Profile
from fsf_core.model.session import Session


def read_onnx(
    source: str | Path | bytes, *, output_name: str | None = None, name: str = "the model"
) -> onnx.ModelProto:
    """Read an ONNX file with its weights and one output.

    Args:
        source: path, URI or bytes. Weights in files in the folder of a local path, or below it, are loaded too.
        output_name: the output with the logits, if there are several.
        name: of bytes, for messages.

    Raises:
        BundleError: the file cannot be read, or is no ONNX model.
        ConfigError: it is not one that this machine reads as it was meant, or the output with the logits is ambiguous.
    """
    model = load_onnx(source, name=name)
    _keep_output(model, output_name)
    return model


def from_onnx(original: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Convert a model to float32 NCHW in, with a free batch or a fixed one; output and opset stay.

    Args:
        original: of read_onnx; not changed.
        profile: gives the size of the input, and its type and layout in the original.

    Raises:
        ConfigError: the model responds differently from call to call or from batch to batch, or takes one size where
            the size depends on the image.
        BundleError: onnxruntime cannot load it.
    """
    model = copy.deepcopy(original)
    adapt_input(model, profile)
    image = real_inputs(model)[0]
    size = (3, *declared_hw(profile))
    label = sizes_of(image)[0]
    _free_label(model, size)
    if not profile.is_fixed:
        _require_other_sizes(model, profile, label)
    model, output_shape, batch = _measured_batch(model, (3, *example_hw(profile)), label)
    declared: tuple[int | str, ...] = output_shape
    if not profile.is_fixed:
        other_NCHW = np.zeros((batch or 1, 3, *other_hw(profile)), np.float32)
        declared = declared_output(output_shape, Session(model_bytes(model)).run(other_NCHW).shape[1:])
    state_shapes(model, size, declared, batch=batch or BATCH)
    return checked(model)


def one_size_only(reason: object) -> ConfigError:
    """Return the error of a model that does not take the sizes that images have."""
    return ConfigError(
        f"the model does not take every size, and its input is to depend on the image: {reason}; export it again with "
        "free height and width (dynamic_axes or dynamic_shapes of axes 2 and 3, without sizes as numbers in "
        "its forward), give the divisor of its sides with --multiple-of, or one size for all images with --resize "
        "stretch and --input-size"
    )


def _require_other_sizes(model: onnx.ModelProto, profile: Profile, label: int | None) -> None:
    """Refuse a model that takes images of none but one of two sizes.

    Raises:
        ConfigError: it does.
    """
    call = Session(model_bytes(model)).run
    for size in (example_hw(profile), other_hw(profile)):
        image_1CHW = np.zeros((1, 3, *size), np.float32)
        try:
            call(image_1CHW)
        except RuntimeError as error:
            if accepted_batch(call, image_1CHW, _built_in(model, label)) is None:
                raise one_size_only(error) from error


def original_session(original: onnx.ModelProto, plain: onnx.ModelProto) -> Session:
    """Return the session of a model as it was given, which takes any number of images.

    Args:
        original: of read_onnx; not changed.
        plain: of from_onnx; tells how many images a call takes, whatever the label says.
    """
    model = copy.deepcopy(original)
    batch = sizes_of(real_inputs(plain)[0])[0]
    if any(node.name == _BATCH_AXIS for node in plain.graph.node):
        _add_batch_axis(model)
    if batch:
        real_inputs(model)[0].type.tensor_type.shape.dim[0].dim_value = batch
    return Session(model_bytes(model), keep_memory=False)


def _keep_output(model: onnx.ModelProto, wanted: str | None) -> None:
    """Remove every output but the scores.

    Raises:
        ConfigError: it is ambiguous which output that is.
    """
    names = [value.name for value in model.graph.output]
    if len(names) > 1 and wanted not in names:
        raise ConfigError(f"the model has the outputs {names}; name the one with the logits with --output-name")
    kept = next(value for value in model.graph.output if len(names) == 1 or value.name == wanted)
    names.remove(kept.name)
    for index in reversed([i for i, value in enumerate(model.graph.output) if value.name in names]):
        del model.graph.output[index]


# ---------------------------------------------------------------------------------------------------------- the batch


def _free_label(model: onnx.ModelProto, size: tuple[int | str, ...]) -> None:
    """Take the number of images off input and output, in place; what the graph takes is measured.

    Args:
        model: changed.
        size: C, H and W of an image, a name for a free one.
    """
    image, output = real_inputs(model)[0], model.graph.output[0]
    image.CopyFrom(helper.make_tensor_value_info(image.name, image.type.tensor_type.elem_type, [BATCH, *size]))
    output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]  # stale beside the new shapes


_BATCH_AXIS = "fsf/batch_axis"
"""Name of the node that gives an output of one image its first axis."""


def _add_batch_axis(model: onnx.ModelProto) -> None:
    """Put an axis of one image before those of the output, in place."""
    output = model.graph.output[0]
    inner = f"{_BATCH_AXIS}/{output.name}"
    for node in model.graph.node:
        node.output[:] = [inner if name == output.name else name for name in node.output]
        node.input[:] = [inner if name == output.name else name for name in node.input]
    node = helper.make_node("Unsqueeze", [inner], [output.name], name=_BATCH_AXIS)
    if opset_of(model) >= 13:  # noqa: PLR2004 - the axes became an input
        node.input.append(_BATCH_AXIS)
        model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), _BATCH_AXIS))
    else:
        node.attribute.append(helper.make_attribute("axes", [0]))
    model.graph.node.append(node)
    output.type.tensor_type.ClearField("shape")


def _measured_batch(
    model: onnx.ModelProto, size: tuple[int, ...], label: int | None
) -> tuple[onnx.ModelProto, tuple[int, ...], int | None]:
    """Return a model, the shape of its output for an image, and the number of images that its calls take, None for any.

    Args:
        model: without a label; with a batch of 1 written into its Reshapes, another is returned where that is right.
        size: C, H and W of an image.
        label: number of images that the file names.

    Raises:
        ConfigError: it takes no batch at all, or its output depends on the call or the batch.
    """
    call = Session(model_bytes(model)).run
    images_NCHW = np.random.default_rng(0).random((3, *size), np.float32)
    try:
        alone = [call(image_CHW[None]) for image_CHW in images_NCHW]
    except RuntimeError as error:
        count = accepted_batch(call, images_NCHW[:1], _built_in(model, label))
        if count is None:
            raise ConfigError(
                f"the model takes neither one image nor a batch: {error}; export it again with a batch of one"
            ) from error
        return model, _of_fixed_batch(model, images_NCHW, count), count
    if alone[0].ndim in {2, 3} and len(alone[0]) != 1:  # exporters squeeze a batch of one away
        _add_batch_axis(model)
        return _measured_batch(model, size, label)
    _require_same_output(model, call, images_NCHW[:1])
    batch: int | None = 1
    try:
        batch = built_for(call, alone, images_NCHW)
    except MixedError as error:
        if label != 1:  # a batch of one mixes nothing: so exporters write normalisation per image
            raise ConfigError(_mixed(model)) from error
    freed = copy.deepcopy(model)
    if batch == 1 and _free_reshapes(freed):
        try:
            if built_for(Session(model_bytes(freed)).run, alone, images_NCHW) is None:
                return freed, alone[0].shape[1:], None
        except MixedError:
            pass  # the batch is in more than its Reshapes
    return model, alone[0].shape[1:], batch


def _of_fixed_batch(model: onnx.ModelProto, images_NCHW: NDArray[np.float32], count: int) -> tuple[int, ...]:
    """Return the shape of the output for an image of a model that takes exactly `count` images, more than one.

    Raises:
        ConfigError: its output depends on the call or on the other images.
    """
    call = Session(model_bytes(model)).run
    copies_NCHW = np.repeat(images_NCHW[:1], count, axis=0)
    mixture_NCHW = np.concatenate([images_NCHW[:1], np.repeat(images_NCHW[1:2], count - 1, axis=0)])
    output = call(copies_NCHW)
    _require_same_output(model, call, copies_NCHW)
    if not same(output[0], call(mixture_NCHW)[0]):
        raise ConfigError(_mixed(model))
    return output.shape[1:]


def _built_in(model: onnx.ModelProto, label: int | None) -> list[int]:
    """Return the numbers of images that the model may be built for: label, beginnings of shapes, parts of splits."""
    begins = {int(value[0]) for value in _whole_numbers(model) if value.ndim == 1 and value.size}
    parts = {len(node.output) for node in nodes_of(model)}
    return [*([label] if label else []), *sorted(begins | parts)]


def _whole_numbers(model: onnx.ModelProto) -> Iterator[NDArray[np.int64]]:
    """Yield the constants of int64: shapes, sizes and axes."""
    constants = [attribute_of(node, "value") for node in nodes_of(model) if node.op_type == "Constant"]
    for tensor in [*model.graph.initializer, *constants]:
        if tensor is not None and tensor.data_type == TensorProto.INT64:
            yield numpy_helper.to_array(tensor)


def _require_same_output(model: onnx.ModelProto, call: Call, batch_NCHW: NDArray[np.float32]) -> None:
    """Refuse a model whose output differs when it is called twice.

    Raises:
        ConfigError: it does.
    """
    if apart := difference_of_calls(call, batch_NCHW):
        raise ConfigError(
            f"two calls with the same picture differ by up to {apart:.2g}{_suspects(model, 'a random operator?')}; "
            f"{_IN_EVALUATION_MODE}"
        )


def _mixed(model: onnx.ModelProto) -> str:
    """Return the message about a model whose output for a picture depends on the other pictures."""
    return (
        f"the output for a picture depends on the other pictures of its batch{_suspects(model, 'batch norm?')}; "
        f"{_IN_EVALUATION_MODE}"
    )


_IN_EVALUATION_MODE = "export it in evaluation mode (model.eval()), with the statistics of its training"

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


def _suspects(model: onnx.ModelProto, otherwise: str) -> str:
    """Return the operators of training, as the end of a clause, or a question where there is none."""
    found = [
        f"{node.op_type} {node.name or node.output[0]!r}"
        for node in nodes_of(model)
        if node.op_type in _RANDOM
        or attribute_of(node, "training_mode", 0)
        or (node.op_type == "Dropout" and len(node.input) > 2)  # noqa: PLR2004 - the third says that it is on
    ]
    return f" ({', '.join(found[:3])}: in training mode?)" if found else f" (in training mode: {otherwise})"


def _free_reshapes(model: onnx.ModelProto) -> bool:
    """Let `Reshape` to [1, …] follow the batch, in place; returns whether there is one.

    Exporters write a batch of 1 into a graph that way. With the other sizes known, the first becomes -1; with one
    unknown, it becomes 0, which copies the input's. The result is checked elsewhere: batches are compared with single
    images here, and by the parity check.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: attribute_of(node, "value") for node in model.graph.node if node.op_type == "Constant"
    }
    found = False
    for node in model.graph.node:
        if node.op_type != "Reshape" or attribute_of(node, "allowzero", 0):
            continue
        tensor = constants.get(node.input[1])
        target = [] if tensor is None else numpy_helper.to_array(tensor).tolist()
        if len(target) > 1 and target[0] == 1:
            target[0] = 0 if -1 in target else -1
            name = f"{node.output[0]}/free_batch"
            model.graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
            node.input[1] = name
            found = True
    return found
