"""Build a network and fill it with the weights of a checkpoint.

Knows names and import paths. Knows no URIs, no ONNX and no images; the weights are read by `checkpoint_file`, found by
`weights` and loaded by `fitting`.
"""

import importlib
import inspect
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Any, get_args

import torch
from torch import Tensor, nn

from fsf_core.errors import ConfigError, InterruptedRunError, did_you_mean
from fsf_core.export.checkpoint_file import read_checkpoint
from fsf_core.export.contents import contents_of
from fsf_core.export.fitting import load_weights
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.export.net_options import require_known, resolve_net_options
from fsf_core.export.nets.fastsegformer import VARIANTS, FastSegFormer
from fsf_core.export.weights import WeightOptions
from fsf_core.options import PyramidKind

INIT_SEED = 0
"""Seed of torch's CPU generator while a network is built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltNetwork:
    """A network with its weights, ready to be run or exported: eval mode, float32, on the CPU."""

    network: nn.Module
    note: str = ""
    """Which weights of the checkpoint were taken and what was left out, or empty."""


def load_network(
    name: str,
    *,
    num_classes: int,
    checkpoint: str | PathLike[str] | bytes | None = None,
    options: Mapping[str, object] = MappingProxyType({}),
) -> nn.Module:
    """Build a network with its weights, as build_network does, and return it alone."""
    return build_network(name, num_classes=num_classes, checkpoint=checkpoint, options=options).network


def build_network(
    name: str,
    *,
    num_classes: int,
    checkpoint: str | PathLike[str] | bytes | None = None,
    options: Mapping[str, object] = MappingProxyType({}),
    weights: WeightOptions = WeightOptions(),  # noqa: B008 - frozen
    source: str = "",
) -> BuiltNetwork:
    """Build a network, ready to be run or exported.

    Without a checkpoint the weights are random but always the same: the generator is set to INIT_SEED while the
    network is built, and restored afterwards, so the caller's own random numbers are not disturbed.

    Args:
        name: one of the FastSegFormer variants, or "package.module:callable" for anything that returns a module;
            the callable gets num_classes if its signature takes it.
        num_classes: classes of the output, background included.
        checkpoint: a local file, or the bytes of one.
        options: what only this network takes, as the checkpoint was trained: pyramid and cnn_branch of FastSegFormer,
            keywords of the callable.
        weights: which weights of the checkpoint, and which keys may differ.
        source: the checkpoint's name in messages (default: its path).

    Raises:
        ConfigError: no such network, or it cannot be built.
        CheckpointError: the checkpoint is unreadable or does not fit, key for key.
    """
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; expected at least 1; count the background as a class")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(INIT_SEED)
        if ":" in name:
            network = _imported(name, num_classes=num_classes, options=options)
        else:
            network, options = _fastsegformer(name, num_classes=num_classes, options=options)
    network = _unwrapped(network).float().cpu().eval()  # before the weights, which half precision would round
    if checkpoint is None:
        return BuiltNetwork(network=network)
    source = source or ("the checkpoint" if isinstance(checkpoint, bytes) else str(checkpoint))
    note = load_weights(
        network,
        contents_of(read_checkpoint(checkpoint, source=source), source),
        weights,
        described=_describe(name, num_classes=num_classes, **options),
        source=source,
        suggest=network_that_fits,
    )
    return BuiltNetwork(network=network, note=note)


# --------------------------------------------------------------------------------------------------- the network


def _fastsegformer(
    name: str, *, num_classes: int, options: Mapping[str, object]
) -> tuple[FastSegFormer, dict[str, Any]]:
    """Build a named network; returns it with all its options."""
    if name not in VARIANTS:
        raise ConfigError(
            f"no network is called {name!r}{did_you_mean(name, VARIANTS)}; expected one of {', '.join(VARIANTS)}, "
            "or an import path such as package.module:callable"
        )
    resolved = resolve_net_options(name, options)
    return FastSegFormer(VARIANTS[name], num_classes=num_classes, **resolved), resolved


def _imported(path: str, *, num_classes: int, options: Mapping[str, object]) -> nn.Module:
    """Import the callable of a path and call it."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise ConfigError(
            f"{path}: importing {module_name!r} failed with {in_one_line(error)}; "
            "expected package.module:callable; install the package, or put its folder on PYTHONPATH"
        ) from error
    try:
        factory = operator.attrgetter(attribute)(module)
    except AttributeError as error:
        raise ConfigError(
            f"{path}: {module_name} has no {attribute!r}{did_you_mean(attribute, dir(module))}; "
            "expected package.module:callable; name a function or class that returns the network"
        ) from error
    if not callable(factory):
        raise ConfigError(
            f"{path}: found a {type(factory).__name__}; expected something to call; "
            "name a function or class that returns the network"
        )
    if isinstance(factory, nn.Module):
        require_known(path, options, ())
        return factory
    return _call(factory, path, num_classes=num_classes, options=options)


def _call(factory: Callable[..., object], path: str, *, num_classes: int, options: Mapping[str, object]) -> nn.Module:
    """Call with the options, and with num_classes if the signature takes it."""
    keywords, takes_any = _keywords_of(factory)
    known = {*keywords, *(options if takes_any else ())} - {"num_classes"}  # --classes decides that
    require_known(path, options, sorted(known))
    arguments = dict(options)
    if takes_any or "num_classes" in keywords:
        arguments["num_classes"] = num_classes
    if absent := _required(factory, arguments):
        advice = f"give --net-option {absent[0]}=VALUE, or " if absent[0] in known else ""
        raise ConfigError(
            f"{path} needs {', '.join(absent)}, which have no default; expected a value for each; {advice}"
            "name a function of your own that makes the network without arguments"
        )
    try:
        network = factory(**arguments)
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise ConfigError(
            f"{path}: the call with {arguments or 'no arguments'} failed with {in_one_line(error)}; "
            "expected a network; correct --net-option, or name a function of your own that makes the network"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{path}: the call returned a {type(network).__name__}; expected a torch.nn.Module; "
            "name a function or class that returns the network"
        )
    return network


def _unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside torch.compile or DataParallel, which exporters cannot enter and keys do not need."""
    children = dict(network.named_children())
    inner = children.get("module") if isinstance(network, nn.DataParallel) else children.get("_orig_mod")
    return network if inner is None else _unwrapped(inner)


def _required(factory: Callable[..., object], arguments: Mapping[str, object]) -> list[str]:
    """Return the names of parameters that have no default and get no value."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return []
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in several and one.name not in arguments
    ]


def _keywords_of(factory: Callable[..., object]) -> tuple[list[str], bool]:
    """Return the names that a call may pass as keywords, and whether it may pass any other too."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some compiled callables have no signature
        return [], False
    keywords = [one.name for one in parameters if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}]
    positional_only = any(one.name == "num_classes" and one.kind is one.POSITIONAL_ONLY for one in parameters)
    return keywords, not positional_only and any(one.kind is one.VAR_KEYWORD for one in parameters)


def network_that_fits(found: Mapping[str, list[int]]) -> str | None:
    """Return which FastSegFormer has these shapes, as advice, or None."""
    scores = [key for key in found if re.fullmatch(r"cnn_up\.\d\.bias", key)] or ["classify.conv.1.bias"]
    if len(scores) != 1 or len(found.get(scores[0], [])) != 1:
        return None
    num_classes, cnn_branch = found[scores[0]][0], any(key.startswith("cnn_up.") for key in found)
    for name, pyramid in itertools.product(VARIANTS, get_args(PyramidKind)):
        options = {"pyramid": pyramid, "cnn_branch": cnn_branch}
        network = load_network(name, num_classes=num_classes, options=options)
        if _shapes(network.state_dict()) == found:
            fitting = _describe(name, num_classes=num_classes, **options)
            return f"it fits {fitting}: ask for that"
    return None


def _shapes(state: Mapping[str, object]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items() if isinstance(value, Tensor)}


def _describe(name: str, **options: object) -> str:
    return f"{name} with {', '.join(f'{key}={value}' for key, value in options.items())}"
