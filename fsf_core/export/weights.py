"""Find a network's weights among all that a checkpoint holds, wherever they are and whatever precedes their names.

A set of weights is known by its keys and shapes, not by the name that a trainer gave it: every tensor of the file has a
dotted name, and a set is what precedes all keys of the network. Knows no file formats and loads nothing.
"""

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fsf_core.errors import CheckpointError, did_you_mean
from fsf_core.export.contents import NAMES_SHOWN, ROOT, Contents, holder_names, largest_outer

_PROBES = 32
"""Keys of the network that are looked for in the file, to find what may precede them."""
_SIMILAR = 0.5
"""Share of the network's keys from which on a set of weights is worth a word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightOptions:
    """How the weights of a checkpoint are chosen, as the user asked."""

    key: str | None = None
    """Dotted name of the set of weights."""
    allow_missing: tuple[str, ...] = ()
    """Patterns of keys that the checkpoint may lack."""
    allow_unexpected: tuple[str, ...] = ()
    """Patterns of keys that the network may lack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightSet:
    """Tensors of a checkpoint that may be the network's weights."""

    outer: str
    """What precedes every name in the file, "" for nothing."""
    inner: str
    """What precedes every key in the network, up to its dot: the network is a wrapper around the one trained."""
    names: Mapping[str, str]
    """Key of the network inside the wrapper to its name in the file, where both are there."""
    plain: bool
    """Whether the names end in the keys; averaged parameters may be stored under shortened names, or in a list."""
    missing: tuple[str, ...]
    """Keys of the network that the set lacks, without those that do not matter."""
    misshapen: tuple[str, ...]
    """Keys of the network inside the wrapper whose shapes differ."""
    only_buffers_missing: bool

    @property
    def fits(self) -> bool:
        """Whether every key that matters is there."""
        return not self.missing and not self.misshapen

    @property
    def complete(self) -> bool:
        """Whether every parameter is there, as averaged weights have them."""
        return self.only_buffers_missing and not self.misshapen

    @property
    def matching(self) -> int:
        """Number of keys that fit."""
        return len(self.names) - len(self.misshapen)

    @property
    def name(self) -> str:
        """The name for --weights-key."""
        return self.outer.removesuffix(".") or ROOT

    def targets(self) -> dict[str, str]:
        """Return the key of the network to the name in the file."""
        return {f"{self.inner}{key}": name for key, name in self.names.items()}

    def named(self, wanted: str | None) -> bool:
        """Return whether --weights-key names this set, or something that holds it."""
        return wanted is None or self.name == wanted or self.name.startswith(f"{wanted}.")


# ------------------------------------------------------------------------------------------------- finding the sets


def find_sets(network: nn.Module, contents: Contents, options: WeightOptions) -> list[WeightSet]:
    """Return the sets of weights with at least one key of the network, the best first.

    If one fits the network as it is, sets that fit only a network inside it are left out.
    """
    found: list[WeightSet] = []
    for inner in _inner_prefixes(network):
        found += _Finder(network, inner, contents, options).sets()
        if any(one.fits for one in found):
            break
    distinct: list[WeightSet] = []
    for one in sorted(found, key=lambda one: (not one.fits, not one.complete, -one.matching)):
        if not any(one.targets().items() <= other.targets().items() for other in distinct):
            distinct.append(one)
    return distinct


def _inner_prefixes(network: nn.Module) -> Iterator[str]:
    """Yield "", and what precedes all parameters of a network inside a wrapper, from the outside to the inside."""
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    prefix = ""
    while True:
        yield prefix
        heads = {name.removeprefix(prefix).partition(".")[0] for name in names}
        head = next(iter(heads), "")
        if len(heads) != 1 or f"{prefix}{head}" in names:
            return
        prefix += f"{head}."


class _Finder:
    """Looks for the keys of a network, or of the one inside a wrapper, among the names of a file."""

    def __init__(self, network: nn.Module, inner: str, contents: Contents, options: WeightOptions) -> None:
        state: dict[str, object] = network.state_dict(keep_vars=True)
        self.inner, self.contents, self.options = inner, contents, options
        self.keys = {key.removeprefix(inner): value for key, value in state.items() if key.startswith(inner)}
        self.outside = [key for key in state if not key.startswith(inner) and is_trained(key, state[key])]
        own = {name.removeprefix(inner): value for name, value in network.named_parameters(remove_duplicate=False)}
        self.parameters = {key: value for key, value in own.items() if key in self.keys}
        self.distinct = [name.removeprefix(inner) for name, _ in network.named_parameters()]

    def sets(self) -> list[WeightSet]:
        """Return every set of weights."""
        found = [self._set(outer, {key: f"{outer}{key}" for key in self.keys}) for outer in self._outers(self.keys)]
        for joint in ("", "_"):  # CompVis, mmcv
            short = {key: key.replace(".", joint) for key in self.parameters}
            outers = self._outers([name for key, name in short.items() if name != key])
            found += [
                self._set(outer, {key: f"{outer}{name}" for key, name in short.items()}, plain=False)
                for outer in outers
            ]
        return found + [self._set(f"{name}.", names, plain=False) for name, names in self._lists()]

    def _outers(self, keys: Collection[str]) -> list[str]:
        """Return what precedes the keys in the file."""
        probes = [key for key in keys if not is_counter(key)] or list(keys)
        probes = probes[:: max(1, len(probes) // _PROBES)]
        outers = (
            name.removesuffix(probe) for name in self.contents.tensors for probe in probes if name.endswith(probe)
        )
        return list(dict.fromkeys(outer for outer in outers if not outer or outer[-1] in "._"))

    def _lists(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the lists of tensors that have the shapes of the parameters in their order."""
        shapes = [self.parameters[key].shape for key in self.distinct if key in self.parameters]
        for name, value in self.contents.others.items():
            if not isinstance(value, list | tuple) or len(value) != len(shapes) or len(shapes) <= 1:
                continue
            if [getattr(item, "shape", None) for item in value] == shapes:
                yield name, {key: f"{name}.{index}" for index, key in enumerate(self.distinct)}

    def _set(self, outer: str, names: Mapping[str, str], *, plain: bool = True) -> WeightSet:
        tensors = self.contents.tensors
        found = {key: name for key, name in names.items() if name in tensors}
        addresses = {address_of(self.keys[key]) for key in found}
        missing = [
            key
            for key, value in self.keys.items()
            if key not in found
            and (isinstance(value, Tensor) or f"{outer}{key}" not in self.contents.others)
            and not is_counter(key)
            and address_of(value) not in addresses
            and not matches(key, self.options.allow_missing)
        ]
        outside = [key for key in self.outside if not matches(key, self.options.allow_missing)]
        return WeightSet(
            outer=outer,
            inner=self.inner,
            names=found,
            plain=plain,
            missing=(*(f"{self.inner}{key}" for key in missing), *outside),
            misshapen=tuple(key for key, name in found.items() if not _same_shape(tensors[name], self.keys[key])),
            only_buffers_missing=not outside and not any(key in self.parameters for key in missing),
        )


def is_counter(key: str) -> bool:
    """Return whether a key is the counter of a batch norm, which evaluation never reads."""
    return key.rpartition(".")[2] == "num_batches_tracked"


def is_trained(key: str, value: object) -> bool:
    """Return whether training makes a buffer: the mean or variance of a batch norm, or the extra state of a module."""
    return not isinstance(value, Tensor) or key.rpartition(".")[2] in {"running_mean", "running_var"}


def address_of(value: object) -> object:
    """Return what two names of the same parameter share; something unique for what holds no memory."""
    if not isinstance(value, Tensor) or is_lazy(value) or not value.numel():
        return object()
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _same_shape(tensor: Tensor, expected: object) -> bool:
    """Return whether torch loads a tensor into another: it takes one number for a tensor of none."""
    if not isinstance(expected, Tensor) or is_lazy(expected):
        return True
    return tensor.shape == expected.shape or (not expected.shape and tensor.shape == (1,))


# ---------------------------------------------------------------------------------------------------- choosing one


def choose(
    sets: list[WeightSet], contents: Contents, options: WeightOptions, *, described: str, source: str
) -> WeightSet:
    """Return the set of weights to load; one that does not fit if there is none that does.

    Averaged parameters without buffers fit where another set holds the buffers.

    Raises:
        CheckpointError: several fit and differ, or the named one is not there.
    """
    named = [one for one in sets if one.named(options.key)]
    if options.key is not None and not named:
        names = [*dict.fromkeys([one.name for one in sets if one.complete] + holder_names(contents))]
        raise CheckpointError(
            f"--weights-key is {options.key!r}{did_you_mean(options.key, names)}, and {source} holds no weights of the "
            f"network under that name; expected one of {', '.join(names[:NAMES_SHOWN])}; correct it"
        )
    exact = [one for one in named if one.name == options.key]
    has_buffers = any(one.fits for one in sets)
    fitting = [one for one in exact or named if one.fits or (one.complete and has_buffers)]
    if len(fitting) > 1 and not all(_equal(fitting[0], other, contents) for other in fitting[1:]):
        names = list(dict.fromkeys(one.name for one in fitting))
        raise CheckpointError(
            f"{source} holds {len(names)} sets of weights that fit {described} and differ: {', '.join(names)}"
            f"{_origin_hint(fitting, contents)}; expected one to be chosen; give "
            + " or ".join(f"--weights-key {name}" for name in names[:NAMES_SHOWN])
        )
    nothing = WeightSet(
        outer=largest_outer(contents),
        inner="",
        names={},
        plain=True,
        missing=(),
        misshapen=(),
        only_buffers_missing=False,
    )
    return (fitting or named or [nothing])[0]


def _equal(first: WeightSet, second: WeightSet, contents: Contents) -> bool:
    """Return whether two sets of weights hold the same numbers."""
    pairs = [
        (contents.tensors[name], contents.tensors.get(second.names.get(key, "")))
        for key, name in first.names.items()
        if not is_counter(key)
    ]
    return first.inner == second.inner and all(
        other is not None and one.shape == other.shape and torch.equal(one.float(), other.float())
        for one, other in pairs
    )


def _origin_hint(fitting: Sequence[WeightSet], contents: Contents) -> str:
    """Return which set is which, where a trainer exchanges them when it saves."""
    exchanged = {
        "state_dict, and the raw ones in ema_state_dict": "ema_state_dict.steps" in contents.tensors,
        "state_dict, and the raw ones in current_model_state": "current_model_state" in contents.others,
        "the plain keys, and the raw ones in ema_": any(one.outer.endswith("ema_") for one in fitting),
    }
    where = next((words for words, found in exchanged.items() if found), "")
    return where and f" (the trainer that wrote this keeps the averaged weights in {where})"


def similar_sets(chosen: WeightSet, sets: Iterable[WeightSet]) -> list[str]:
    """Return the names of other sets of weights in the file that may be the network's too."""
    others = [one for one in sets if one is not chosen and one.inner == chosen.inner]
    return list(dict.fromkeys(one.name for one in others if one.matching >= _SIMILAR * chosen.matching))


def matches(key: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns fits a key."""
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
