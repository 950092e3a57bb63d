"""Class names from a configuration of transformers. Knows no library."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"LABEL_\d+")
"""What transformers writes where nobody named the classes."""


def read_classes(
    raw: Mapping[str, Any], config: Any, *, given: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the names in the order of the ids, () where there are none, notes, and why there are no names.

    Args:
        raw: config.json.
        config: the library's record of it, which knows the number of classes.
        given: names from options, which replace these.
    """
    notes = _ignored(raw, config)
    labels = raw.get("id2label")
    if given or not isinstance(labels, dict):
        return (), notes, ""
    try:
        by_id = {int(key): str(name).strip() for key, name in labels.items()}
    except (TypeError, ValueError):
        return (), notes, "the keys of id2label are no ids"
    count = int(config.num_labels)
    if sorted(by_id) != list(range(count)):
        return (), notes, f"id2label names the ids {_shown(sorted(by_id))}, but the model has {count} classes"
    names = [by_id[number] for number in range(count)]
    if not all(names) or all(_PLACEHOLDER.fullmatch(name) for name in names):
        return (), notes, f"id2label has {count} classes without names"
    return _distinct(names), (*notes, *_repeated(names)), ""


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return the names, those that occur twice with their ids."""
    often = Counter(names)
    return tuple(name if often[name] == 1 else f"{name} ({number})" for number, name in enumerate(names))


def _repeated(names: list[str]) -> tuple[str, ...]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not twice:
        return ()
    return (f"id2label has {', '.join(map(repr, twice))} more than once: the id is added to the name",)


def _ignored(raw: Mapping[str, Any], config: Any) -> tuple[str, ...]:
    """Return a note where the training ignored one of the classes."""
    ignored = raw.get("semantic_loss_ignore_index", raw.get("loss_ignore_index"))
    if not isinstance(ignored, int) or isinstance(ignored, bool) or not 0 <= ignored < int(config.num_labels):
        return ()
    return (
        f"the training ignored class {ignored} (semantic_loss_ignore_index), which the model can predict all the same",
    )


def _shown(ids: list[int]) -> str:
    few = 8
    return f"{', '.join(map(str, ids[:few]))}{', …' if len(ids) > few else ''}"
