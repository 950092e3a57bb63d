"""Build a network and fill it with the weights of a checkpoint, or say exactly why they do not fit.

Knows names, import paths and the two file formats of weights. Knows no URIs, no ONNX and no images; never runs code
that a checkpoint brings along.
"""

import importlib
import inspect
import io
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from fsf_core.errors import CheckpointError, ConfigError, did_you_mean
from fsf_core.export.net_options import require_known, resolve_net_options
from fsf_core.export.nets.fastsegformer import VARIANTS, FastSegFormer
from fsf_core.options import PyramidKind

INIT_SEED = 0
"""Seed of torch's CPU generator while a network is built."""

_NAMES_SHOWN = 10
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL_PREFIX = "module."  # written by torch.nn.DataParallel and DistributedDataParallel


def load_network(
    name: str,
    *,
    num_classes: int,
    checkpoint: str | PathLike[str] | bytes | None = None,
    options: Mapping[str, object] = MappingProxyType({}),
) -> nn.Module:
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

    Returns:
        The network in eval mode, float32, on the CPU.

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
    if checkpoint is not None:
        described = _describe(name, num_classes=num_classes, **options)
        _load_state(network, load_checkpoint(checkpoint), described=described, source=_source_name(checkpoint))
    return network.float().cpu().eval()


def load_checkpoint(checkpoint: str | PathLike[str] | bytes) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, by their names in the network.

    Reads what torch.save writes (plain, or wrapped as `state_dict`, `model_state_dict` or `model`) and safetensors;
    the format is recognised by content. The prefix of a data-parallel training is removed.

    Raises:
        CheckpointError: the file is missing, empty, damaged, of another kind, needs code to be unpickled, or holds
            numbers that are not finite.
    """
    source = _source_name(checkpoint)
    tensors = _tensors(_without_wrappers(_load_pickle(_read_bytes(checkpoint), source)), source)
    if all(key.startswith(_PARALLEL_PREFIX) for key in tensors):
        tensors = {key.removeprefix(_PARALLEL_PREFIX): tensor for key, tensor in tensors.items()}
    # As float32, because that is what the network will hold.
    not_finite = [k for k, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t.float()).all()]
    if not_finite:
        raise CheckpointError(
            f"{source}: NaN or infinity in {len(not_finite)} of {len(tensors)} tensors {_abbreviated(not_finite)}; "
            "expected finite weights; the training has diverged: give an earlier checkpoint"
        )
    return tensors


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
    except Exception as error:  # a foreign module may raise anything while it is imported
        raise ConfigError(
            f"{path}: importing {module_name!r} failed with {type(error).__name__}: {error}; "
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
    return _call(factory, path, num_classes=num_classes, options=options)


def _call(factory: Callable[..., object], path: str, *, num_classes: int, options: Mapping[str, object]) -> nn.Module:
    """Call with the options, and with num_classes if the signature takes it."""
    keywords, takes_any = _keywords_of(factory)
    known = {*keywords, *(options if takes_any else ())} - {"num_classes"}  # --classes decides that
    require_known(path, options, sorted(known))
    arguments = dict(options)
    if takes_any or "num_classes" in keywords:
        arguments["num_classes"] = num_classes
    try:
        network = factory(**arguments)
    except Exception as error:  # a foreign function may raise anything
        raise ConfigError(
            f"{path}: the call with {arguments or 'no arguments'} failed with {type(error).__name__}: {error}; "
            "expected a network; name a function that needs no argument but num_classes, or give --net-option"
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"{path}: the call returned a {type(network).__name__}; expected a torch.nn.Module; "
            "name a function or class that returns the network"
        )
    return network


def _keywords_of(factory: Callable[..., object]) -> tuple[list[str], bool]:
    """Return the names that a call may pass as keywords, and whether it may pass any other too."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # some compiled callables have no signature
        return [], False
    keywords = [one.name for one in parameters if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}]
    positional_only = any(one.name == "num_classes" and one.kind is one.POSITIONAL_ONLY for one in parameters)
    return keywords, not positional_only and any(one.kind is one.VAR_KEYWORD for one in parameters)


# ------------------------------------------------------------------------------------------------ the checkpoint


def _read_bytes(checkpoint: str | PathLike[str] | bytes) -> bytes:
    if isinstance(checkpoint, bytes):
        return checkpoint
    try:
        return Path(checkpoint).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint}: {error.strerror or error}; expected a checkpoint file that can be read; check the path"
        ) from error


def _load_pickle(data: bytes, source: str) -> object:
    """Unpickle the bytes without running code that they bring along."""
    if not data:
        raise CheckpointError(f"{source} is empty (0 bytes); expected a checkpoint; copy or download it again")
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{source} is a Git LFS pointer ({len(data)} bytes), not the checkpoint that it points to; run git lfs pull"
        )
    safetensors = data[8:9] == b"{"  # 8 bytes of length, then JSON
    if not safetensors and not data.startswith((b"PK\x03\x04", b"\x80")):  # torch.save since 1.6, and before
        raise CheckpointError(
            f"{source} is not a checkpoint, it begins with {data[:8]!r}; expected what torch.save or safetensors "
            "writes; give the weights (.pth, .pt, .safetensors)"
        )
    try:
        if safetensors:
            from safetensors.torch import load

            return load(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles end in Index-, Unicode-, Type- and other errors
        raise CheckpointError(_why_unreadable(error, source, len(data))) from error


def _why_unreadable(error: Exception, source: str, size_bytes: int) -> str:
    """Return the message for a checkpoint that torch or safetensors refuses."""
    code = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error))
    if code is not None:
        return (
            f"{source} needs {code[1]} to be unpickled, which can run any code; expected tensors only; "
            "save the weights alone with torch.save(network.state_dict(), path), where you trust the file"
        )
    if "TorchScript" in str(error):
        return (
            f"{source} is a TorchScript archive, a program with its weights; expected the weights alone; "
            "save them with torch.save(network.state_dict(), path)"
        )
    reason = (str(error).splitlines() or [""])[0][:200]
    return (
        f"{source} ({size_bytes} bytes) cannot be read, {type(error).__name__}: {reason}; expected a whole checkpoint; "
        "it may be truncated or damaged: copy or download it again"
    )


def _without_wrappers(value: object) -> object:
    """Return the weights without the mapping that trainers wrap them in."""
    while isinstance(value, Mapping):
        inner = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), Mapping)), None)
        if inner is None:
            break
        value = inner
    return value


def _tensors(value: object, source: str) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint.

    Raises:
        CheckpointError: it holds anything else.
    """
    if not isinstance(value, Mapping):
        raise CheckpointError(
            f"{source} holds a {type(value).__name__}; expected a mapping from names to tensors; "
            "save it with torch.save(network.state_dict(), path)"
        )
    if not value:
        raise CheckpointError(f"{source} holds an empty mapping; expected named tensors; save network.state_dict()")
    others = [str(key) for key, item in value.items() if not (isinstance(key, str) and isinstance(item, Tensor))]
    if others:
        raise CheckpointError(
            f"{source}: {len(others)} of {len(value)} entries are no named tensors {_abbreviated(others)}; "
            f"expected only tensors, alone or as {', '.join(_WRAPPERS)}; "
            "save it with torch.save(network.state_dict(), path)"
        )
    return {key: tensor.detach() for key, tensor in cast("Mapping[str, Tensor]", value).items()}


# --------------------------------------------------------------------------------------------- weights into network


def _load_state(network: nn.Module, tensors: dict[str, Tensor], *, described: str, source: str) -> None:
    """Load the weights into the network: exactly its keys, or none.

    The keys are compared here, because torch's strict loading accepts a missing num_batches_tracked.
    """
    expected, found = _shapes(network.state_dict()), _shapes(tensors)
    differences = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} is {found[key]} for {shape}"
            for key, shape in expected.items()
            if key in found and found[key] != shape
        ],
    }
    if any(differences.values()):
        listed = "; ".join(f"{len(keys)} {how} {_abbreviated(keys)}" for how, keys in differences.items() if keys)
        raise CheckpointError(
            f"{source} does not fit {described}: keys {listed}; expected the network's {len(expected)} keys; "
            + (
                _network_that_fits(found)
                or "give the name, the options and the number of classes that it was trained with"
            )
        )
    network.load_state_dict(tensors, strict=True)


def _network_that_fits(found: dict[str, list[int]]) -> str | None:
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


def _source_name(checkpoint: str | PathLike[str] | bytes) -> str:
    return "the checkpoint" if isinstance(checkpoint, bytes) else str(checkpoint)


def _abbreviated(names: list[str]) -> str:
    """Return the names as "(a, b, … and 10 more)"."""
    more = len(names) - _NAMES_SHOWN
    return "(" + ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "") + ")"
