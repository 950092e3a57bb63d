"""Load a set of weights into a network: every key that matters, or none, with a sentence on what was done.

torch's own loading is the judge of keys and shapes, so that what it renames or converts is loaded. Knows no files.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fsf_core.errors import CheckpointError
from fsf_core.export.contents import Contents, abbreviated, entries_beside, without_wrappers
from fsf_core.export.weights import (
    WeightOptions,
    WeightSet,
    address_of,
    choose,
    find_sets,
    is_counter,
    is_trained,
    matches,
    similar_sets,
)

_FEW_GROUPS = 3
"""Keys that begin in more ways than this are another network's, not a part that may be left out."""

_PATTERNS_SHOWN = 6

Suggest = Callable[[Mapping[str, list[int]]], str | None]
"""From the shapes of a set of weights to the advice which network has them, or None."""


def load_weights(
    network: nn.Module, contents: Contents, options: WeightOptions, *, described: str, source: str, suggest: Suggest
) -> str:
    """Load the weights of a checkpoint into a network, in place.

    Args:
        network: float32, on the CPU.
        contents: what the checkpoint holds.
        options: which set, and which keys may differ.
        described: the network in messages.
        source: the file in messages.
        suggest: gives the advice where the keys do not fit.

    Returns:
        A sentence on which weights were taken, what preceded their keys and what was left out; "" where the file holds
        exactly the network's keys and nothing else.

    Raises:
        CheckpointError: no set of weights fits, several do, or one holds numbers that cannot be loaded.
    """
    sets = find_sets(network, contents, options)
    unwrapped = None if any(one.fits for one in sets) else without_wrappers(contents)
    found = [] if unwrapped is None else find_sets(network, unwrapped, options)
    if unwrapped is not None and any(one.fits for one in found):
        sets, contents = found, unwrapped
    chosen = choose(sets, contents, options, described=described, source=source)
    donor = None if chosen.fits or not chosen.complete else next((one for one in sets if one.fits), None)
    taken = _taken(network, chosen, donor, sets, contents)
    state = {key: contents.tensors[name] for key, name in taken.items()}
    for key, value in network.state_dict().items():
        name = f"{chosen.outer}{key.removeprefix(chosen.inner)}"
        if not isinstance(value, Tensor) and key.startswith(chosen.inner) and name in contents.others:
            state[key] = contents.others[name]  # type: ignore[assignment] # the extra state of a module, of any type
    _require_usable(network, state, source)
    differences = _load(network, state, chosen, options)
    if any(differences.values()):
        raise CheckpointError(_unfit(differences, network, state, chosen, described, source, suggest))
    own = network.state_dict()
    loaded = {name for key, name in taken.items() if key in own}
    return _note(chosen, donor, sets, entries_beside(loaded, contents), source)


def _taken(
    network: nn.Module, chosen: WeightSet, donor: WeightSet | None, sets: Sequence[WeightSet], contents: Contents
) -> dict[str, str]:
    """Return the key in the network and the name in the file of every tensor to load, fitting or not.

    These are the set's, those beside them under the same prefix that are no other set's, and the donor's buffers.
    """
    names = dict(chosen.names)
    if chosen.plain:
        holders = {contents.holders[name] for name in names.values()}
        others = {name for one in sets if one.complete and one.outer != chosen.outer for name in one.names.values()}
        names |= {
            name.removeprefix(chosen.outer): name
            for name in contents.tensors
            if name.startswith(chosen.outer) and (contents.holders[name] in holders or not holders)
            if name not in others or name in chosen.names.values()
        }
    if donor is not None:
        buffers = {name.removeprefix(donor.inner) for name, _ in network.named_buffers()}
        names = {key: name for key, name in donor.names.items() if key in buffers} | names
    return {f"{chosen.inner}{key}": name for key, name in names.items()}


def _require_usable(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse numbers that the network's float32 cannot hold as they are meant.

    Raises:
        CheckpointError: a tensor is quantised, sparse or without data, or holds NaN or infinity.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    tensors = {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
    unusable = [
        f"{key}: {reason}" for key, tensor in tensors.items() if (reason := _why_unusable(tensor, key in parameters))
    ]
    if unusable:
        raise CheckpointError(
            f"{source}: {len(unusable)} of {len(tensors)} tensors are not plain floating-point weights "
            f"{abbreviated(unusable)}; expected those; save the weights before quantisation or conversion"
        )
    # As float32, because that is what the network will hold.
    not_finite = [
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all()
    ]
    if not_finite:
        raise CheckpointError(
            f"{source}: NaN or infinity in {len(not_finite)} of {len(tensors)} tensors {abbreviated(not_finite)}; "
            "expected finite weights; the training has diverged: give an earlier checkpoint"
        )


def _why_unusable(tensor: Tensor, parameter: bool) -> str:  # noqa: FBT001 - a fact of the tensor
    if tensor.is_meta:
        return "no data"
    if tensor.is_quantized or tensor.layout != torch.strided:
        return f"{tensor.dtype} {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_complex() or (parameter and not tensor.is_floating_point()):
        return str(tensor.dtype)
    return ""


def _load(
    network: nn.Module, state: Mapping[str, Tensor], chosen: WeightSet, options: WeightOptions
) -> dict[str, list[str]]:
    """Load into the network and return what differs and matters, by kind."""
    own: dict[str, object] = network.state_dict(keep_vars=True)
    misshapen = [f"{chosen.inner}{key}" for key in chosen.misshapen]
    failure = ""
    try:
        missing, unexpected = network.load_state_dict(dict(state), strict=False)  # some networks take entries out of it
        misshapen = [key for key in misshapen if key in missing]  # the network has brought the others into its shapes
    except RuntimeError as error:
        fitting = {key: value for key, value in state.items() if key not in misshapen}
        missing, unexpected, failure = _load_rest(network, fitting, error if not misshapen else None)
    addresses = {address_of(own[key]) for key in state if key in own}
    return {
        "missing": [
            key
            for key in missing
            if key not in state
            and not is_counter(key)  # evaluation never reads it
            and address_of(own.get(key)) not in addresses  # a tied parameter is loaded by its other name
            and (key.startswith(chosen.inner) or is_trained(key, own.get(key)))  # a wrapper has constants of its own
            and not _allowed(key, chosen, options.allow_missing)
        ],
        "unexpected": [
            key
            for key in unexpected
            if not (is_counter(key) and key.replace("num_batches_tracked", "running_mean") in own)
            and not _allowed(key, chosen, options.allow_unexpected)
        ],
        "of another shape": [f"{key} is {list(state[key].shape)} for {_shape(own[key])}" for key in misshapen],
        "that torch refuses": [failure] if failure else [],
        "that the network ties together and the file holds with different numbers": _untied(own, state),
    }


def _load_rest(
    network: nn.Module, state: Mapping[str, Tensor], error: Exception | None
) -> tuple[list[str], list[str], str]:
    """Load what has the right shapes, to know what else is missing or unexpected, or return why torch refuses it."""
    if error is None:
        try:
            return *network.load_state_dict(dict(state), strict=False), ""
        except RuntimeError as second:
            error = second
    return [], [], " ".join(str(error).split())[:300]


def _shape(value: object) -> list[int]:
    return list(value.shape) if isinstance(value, Tensor) else []


def _allowed(key: str, chosen: WeightSet, patterns: Sequence[str]) -> bool:
    """Return whether a pattern fits a key, by its name in the network or in the file."""
    trained = key.removeprefix(chosen.inner)
    return any(matches(name, patterns) for name in (key, trained, f"{chosen.outer}{trained}"))


def _untied(own: Mapping[str, object], state: Mapping[str, Tensor]) -> list[str]:
    """Return the keys of tied parameters that the last loaded of them has overwritten with other numbers."""
    groups: dict[int, list[str]] = {}
    for key, value in own.items():
        if isinstance(value, Tensor) and value.numel() and isinstance(state.get(key), Tensor):
            groups.setdefault(value.data_ptr(), []).append(key)
    return [
        key
        for keys in groups.values()
        for key in keys[1:]
        if state[key].shape == state[keys[0]].shape and not torch.equal(state[key].float(), state[keys[0]].float())
    ]


def _unfit(
    differences: Mapping[str, list[str]],
    network: nn.Module,
    state: Mapping[str, Tensor],
    chosen: WeightSet,
    described: str,
    source: str,
    suggest: Suggest,
) -> str:
    """Return the message for weights that do not fit."""
    listed = "; ".join(f"{len(keys)} {how} {abbreviated(keys)}" for how, keys in differences.items() if keys)
    where = f" under {chosen.name!r}" if chosen.outer else ""
    found = {key: list(value.shape) for key, value in state.items() if isinstance(value, Tensor)}
    advice = (
        suggest(found)
        or (_allowance(differences) if chosen.matching >= len(network.state_dict()) / 2 else "")
        or "give the name, the options and the number of classes that it was trained with"
    )
    return (
        f"{source} does not fit {described}: keys{where} {listed}; expected the network's "
        f"{len(network.state_dict())} keys; {advice}"
    )


def _allowance(differences: Mapping[str, list[str]]) -> str:
    """Return the options that allow the differences, or "" where they are not those of a part."""
    options = {"missing": "--allow-missing", "unexpected": "--allow-unexpected"}
    given = {how: keys for how, keys in differences.items() if keys}
    patterns = {how: _patterns(keys) for how, keys in given.items() if how in options}
    if len(patterns) < len(given) or any(len(of_kind) > _FEW_GROUPS for of_kind in patterns.values()):
        return ""
    flags = " ".join(f"{options[how]} '{','.join(of_kind)}'" for how, of_kind in patterns.items())
    return f"if its outputs do not depend on them, leave them out with {flags}"


def _patterns(keys: Sequence[str]) -> list[str]:
    """Return patterns that match the keys, by what they begin with."""
    starts = [key.partition("_")[0] for key in keys if "." not in key and "_" in key]
    return list(
        dict.fromkeys(
            f"{key.partition('.')[0]}.*"
            if "." in key
            else f"{key.partition('_')[0]}_*"
            if starts.count(key.partition("_")[0]) > 1
            else key
            for key in keys
        )
    )


def _note(
    chosen: WeightSet, donor: WeightSet | None, sets: Sequence[WeightSet], beside: Sequence[str], source: str
) -> str:
    """Return what a user should know of the choice."""
    sentences = []
    if chosen.outer:
        removed = f", and {chosen.outer!r} removed from its {len(chosen.names)} keys" if chosen.plain else ""
        sentences.append(f"{chosen.name} was taken{removed}")
    if donor is not None:
        sentences.append(f"it has no buffers, which are those of {donor.name}")
    if chosen.inner:
        sentences.append(f"they were loaded into {chosen.inner.removesuffix('.')!r} of the network")
    if beside:
        sentences.append(f"left out: {', '.join(_patterns(beside)[:_PATTERNS_SHOWN])}")
    if also := similar_sets(chosen, sets):
        sentences.append(f"the file also holds {', '.join(also)}: choose with --weights-key")
    return f"weights of {source}: {'; '.join(sentences)}" if sentences else ""
