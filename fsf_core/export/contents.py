"""Everything that a checkpoint holds, by dotted names. Knows mappings, sequences and tensors; knows no network."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fsf_core.errors import CheckpointError
from fsf_core.export.numpy_pickle import PickledArray

ROOT = "."
"""Name of the outermost mapping of a checkpoint, for --weights-key."""

NAMES_SHOWN = 10
_MAX_DEPTH, _MAX_ENTRIES = 16, 1_000_000
"""Bounds of the walk through a checkpoint; a forged one may hold itself."""
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Attributes in which torch's wrappers keep a module."""
_PREFIXES = {"module", "_orig_mod", "model", "net", "network"}
"""What trainers put before every key, for messages about weights of another network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Everything that a checkpoint holds, by dotted names."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, object] = field(default_factory=dict)
    """Everything else: mappings, sequences, numbers, text."""
    holders: dict[str, str] = field(default_factory=dict)
    """Name of an entry to the name of the mapping or sequence that holds it."""


def contents_of(value: object, source: str) -> Contents:
    """Return what a checkpoint holds.

    Raises:
        CheckpointError: there are no named tensors in it.
    """
    contents = Contents()
    for name, holder, item in _walk(value, "", 0):
        if isinstance(item, PickledArray) and item.array.dtype.kind in "biufc":
            item = torch.from_numpy(item.array)  # noqa: PLW2901 - an array is a tensor here
        contents.holders[name] = holder
        if isinstance(item, Tensor):
            contents.tensors[name] = item.detach()
        else:
            contents.others[name] = item
        if len(contents.others) + len(contents.tensors) >= _MAX_ENTRIES:
            break
    if not contents.tensors:
        found = f"a {type(value).__name__}"
        if isinstance(value, Mapping):
            entries = abbreviated([str(key) for key in value])
            found = f"no tensors {entries}" if value else "an empty mapping"
        raise CheckpointError(
            f"{source} holds {found}; expected a mapping from names to tensors; "
            "save it with torch.save(network.state_dict(), path)"
        )
    return contents


def _walk(value: object, path: str, depth: int) -> Iterator[tuple[str, str, object]]:
    """Yield every entry below a value with its dotted name and that of its holder."""
    if depth > _MAX_DEPTH:
        return
    entries: Iterable[tuple[object, object]] = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list | tuple):
        entries = enumerate(value)
    for key, item in entries:
        name = f"{path}.{key}" if path else str(key)
        yield name, path, item
        yield from _walk(item, name, depth + 1)


def without_wrappers(contents: Contents) -> Contents | None:
    """Return the contents without the names of wrappers inside the names, or None where there are none.

    Parts of a network that were compiled, sharded or trained in parallel alone have such a name in the middle.
    """
    if not any(part in _WRAPPERS for name in contents.tensors for part in name.split(".")):
        return None
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in contents.holders}
    if len({names[name] for name in contents.tensors}) < len(contents.tensors):
        return None
    return Contents(
        tensors={names[name]: tensor for name, tensor in contents.tensors.items()},
        others={names[name]: other for name, other in contents.others.items()},
        holders={names[name]: names.get(holder, holder) for name, holder in contents.holders.items()},
    )


def holder_names(contents: Contents) -> list[str]:
    """Return the names of what holds tensors in a checkpoint, those with the most tensors first."""
    counts: dict[str, int] = {}
    for name in contents.tensors:
        holder = contents.holders[name] or ROOT
        counts[holder] = counts.get(holder, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def largest_outer(contents: Contents) -> str:
    """Return what precedes the names of most tensors."""
    holder = holder_names(contents)[0].removesuffix(ROOT)
    outer = holder and f"{holder}."
    names = [name.removeprefix(outer) for name in contents.tensors if contents.holders[name] == holder]
    while (head := names[0].partition(".")[0]) in _PREFIXES and all(name.startswith(f"{head}.") for name in names):
        outer, names = f"{outer}{head}.", [name.removeprefix(f"{head}.") for name in names]
    return outer


def entries_beside(loaded: Collection[str], contents: Contents) -> list[str]:
    """Return the names, in their holder, of tensors and plain values beside the loaded ones."""
    holders = {contents.holders[name] for name in loaded}
    return [
        name.removeprefix(f"{holder}.")
        for name, holder in contents.holders.items()
        if holder in holders
        and name not in loaded
        and not isinstance(contents.others.get(name), Mapping | list | tuple)
    ]


def abbreviated(names: Sequence[str]) -> str:
    """Return the names as "(a, b, … and 10 more)"."""
    more = len(names) - NAMES_SHOWN
    return "(" + ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "") + ")"
