"""From any network to one plain ONNX model, and the network as a function that the model must equal.

Knows networks that take one number of images, and programs that have to become a graph first. Knows no classes.
"""

# N images, C channels, H×W pixels

import copy
import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from fsf_core.errors import ConfigError
from fsf_core.export.convert import to_onnx
from fsf_core.export.families.found import FoundModel
from fsf_core.export.foreign import FOREIGN
from fsf_core.export.from_onnx import from_onnx
from fsf_core.export.outputs import call, example_batch
from fsf_core.model.preprocess import Profile

log = logging.getLogger("fsf")

NetworkFunction = Callable[[NDArray[np.float32]], NDArray[Any]]
"""A network as a function of NumPy arrays."""


def from_network(
    network: nn.Module, profile: Profile, *, found: FoundModel | None, **options: Any
) -> tuple[onnx.ModelProto, NetworkFunction]:
    """Write a network as a graph.

    Args:
        network: returns one tensor.
        profile: gives the size of the input.
        found: how a model that was read from its own files is written; None for a network that takes any batch.
        options: of to_onnx.

    Returns:
        The model with a free batch, or with the number of images that a call takes, and the network as a function.

    Raises:
        ConfigError: the network cannot be written.
    """
    if found is not None and found.as_graph is not None:
        return _from_program(network, profile, found.as_graph, options)
    batch = None if found is None else found.batch
    model = to_onnx(network, profile, batch=batch, **options)
    return from_onnx(model, profile) if batch else model, array_function(network, batch)


def _from_program(
    network: nn.Module,
    profile: Profile,
    as_graph: Callable[[nn.Module, torch.Tensor], nn.Module],
    options: dict[str, Any],
) -> tuple[onnx.ModelProto, NetworkFunction]:
    """Write a program whose graph is made for images of one size: with a free batch, or image by image.

    Raises:
        ConfigError: the size depends on the image, or the program cannot be written.
    """
    if not profile.is_fixed:
        raise ConfigError(
            f"the program becomes a graph for a single size, but its input is to depend on the image "
            f"({profile.describe()}); pass --resize stretch and --input-size, or give an ONNX file of free size"
        )
    try:
        graph = as_graph(network, example_batch(profile))
        return to_onnx(graph, profile, **options), array_function(network, None)
    except ConfigError as error:
        log.info("event=image_by_image reason=%r", str(error))
        graph = as_graph(network, example_batch(profile, images=1))
        return from_onnx(to_onnx(graph, profile, batch=1, **options), profile), array_function(network, 1)


def exact_function(network: nn.Module, batch: int | None) -> NetworkFunction:
    """Return the network in float64 as a function of any number of images, which is made with the first call.

    The function raises ConfigError if the network computes in float32, whatever it is given.
    """

    @functools.cache
    def exact() -> NetworkFunction:
        try:
            return array_function(copy.deepcopy(network).double(), batch)
        except FOREIGN as error:
            raise ConfigError(f"the network cannot be copied as float64: {type(error).__name__}") from error

    def outputs(batch_NCHW: NDArray[np.float32]) -> NDArray[Any]:
        return exact()(batch_NCHW.astype(np.float64))

    return outputs


def array_function(network: nn.Module, batch: int | None) -> NetworkFunction:
    """Return the network as a function of any number of images; the last call is filled up with copies."""

    def once(batch_NCHW: NDArray[np.float32]) -> NDArray[Any]:
        output = call(network, torch.from_numpy(batch_NCHW))
        assert isinstance(output, torch.Tensor), "single_output gives one tensor"
        return output.numpy()

    def all_of(batch_NCHW: NDArray[np.float32]) -> NDArray[Any]:
        assert batch is not None, "given below"
        filled_NCHW = batch_NCHW[[min(at, len(batch_NCHW) - 1) for at in range(-(-len(batch_NCHW) // batch) * batch)]]
        parts = [once(filled_NCHW[at : at + batch]) for at in range(0, len(filled_NCHW), batch)]
        return np.concatenate(parts)[: len(batch_NCHW)]

    return once if batch is None else all_of
