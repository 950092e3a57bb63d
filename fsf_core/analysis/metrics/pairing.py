"""Which label belongs to which mask, by their names. Knows names; opens no file and reads no folder.

Names are compared in steps, from the whole name to less of it. What an earlier step paired stays paired; a later step
counts only where one mask and one label, of all of them, have the name.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from fsf_core.errors import ConfigError
from fsf_core.keys import file_stem
from fsf_core.manifest.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

MARKERS = (
    "label", "labels", "labelids", "labeltrainids", "gtfine", "leftimg8bit", "gt", "groundtruth", "truth", "mask",
    "masks", "seg", "segmentation", "annotation", "annotations", "pred", "prediction", "predictions", "published",
)  # fmt: skip
"""Endings that tools add to the name of a picture, behind a dot, a hyphen or an underscore."""

NAMES_SHOWN = 3
"""Most names of each side that an error lists."""

_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_MARKER = re.compile(rf"(?i)(?:[._-](?:{'|'.join(MARKERS)}))+$")
_FRAME = re.compile(
    r"(?:(?P<prefix>.*?)(?:[/._-]?frame)?[/._-]+)?(?:frame[._-]?)?(?P<number>[0-9]{1,18})", re.IGNORECASE
)


class Named(NamedTuple):
    """A mask or a label by its names."""

    name: str
    """Id of the item, or path below the folder without suffix, or the parts that the wildcards of a pattern match."""
    frame: int | None = None
    """Index of the frame of a video; None for an image, and where nothing but the name is known."""
    source: str = ""
    """Path or URI of the picture, if it is known."""
    may_be_frame: bool = False
    """Whether the name may be that of a frame, such as clip/000007."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Masks and labels that belong together."""

    label_of_mask: dict[int, int]
    """Index of a mask to the index of its label."""
    steps: dict[str, int]
    """Pairs by the step that made them."""


def pair(masks: Sequence[Named], labels: Sequence[Named]) -> Pairing:
    """Pair masks with labels.

    Raises:
        ConfigError: several masks or labels have one whole name.
    """
    found: dict[int, int] = {}
    taken: set[int] = set()
    steps: Counter[str] = Counter()

    def join(step: str, mask: int, label: int) -> None:
        found[mask] = label
        taken.add(label)
        steps[step] += 1

    framed = any(each.frame is not None for each in (*masks, *labels))
    for step, (forms, whole) in _STEPS.items():
        if len(found) == len(masks) or len(taken) == len(labels):
            break
        by_key = _index(labels, forms, framed=framed)
        alone: dict[tuple[int, int], None] = {}  # pairs of this step, in order
        for key, mask_ids in _index(masks, forms, framed=framed).items():
            label_ids = by_key.get(key, [])
            free_masks = [each for each in mask_ids if each not in found]
            free_labels = [each for each in label_ids if each not in taken]
            if not free_masks or not free_labels:
                continue
            if len(mask_ids) == len(label_ids) == 1:
                alone[mask_ids[0], label_ids[0]] = None
                if whole:
                    join(step, mask_ids[0], label_ids[0])
            elif whole:
                raise _ambiguous([masks[each] for each in free_masks], [labels[each] for each in free_labels])
        for mask, label in () if whole else _unambiguous(alone):
            join(step, mask, label)
    return Pairing(label_of_mask=found, steps=dict(steps))


def _unambiguous(pairs: Collection[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs whose mask and whose label are in no other: an entry may have several names."""
    masks, labels = (Counter(each) for each in zip(*pairs, strict=True)) if pairs else ({}, {})
    for mask, label in pairs:
        if masks[mask] == labels[label] == 1:
            yield mask, label


def _index(
    entries: Sequence[Named], forms: Callable[[str], tuple[str, ...]], *, framed: bool
) -> dict[object, list[int]]:
    """Return the entries by their keys in one form."""
    by_key: dict[object, list[int]] = defaultdict(list)
    for at, entry in enumerate(entries):
        keys = dict.fromkeys(
            (form, frame)
            for name, frame in _readings(entry, framed=framed)
            for form in forms(name if name.isascii() else unicodedata.normalize("NFC", name))
            if form
        )
        for key in keys:
            by_key[key].append(at)
    return by_key


def _readings(entry: Named, *, framed: bool) -> Iterator[tuple[str, int | None]]:
    """Yield the names that an entry may have, with the frame each implies."""
    yield entry.name, entry.frame
    if entry.source:
        yield _SOURCE + entry.source.rpartition("/")[2], entry.frame
    if framed and entry.may_be_frame and (match := _FRAME.fullmatch(entry.name)) and match["prefix"]:
        yield match["prefix"], int(match["number"])


_SOURCE = "\0"
"""Marks the name of a picture's file, which counts only where less than whole names are compared."""


def _exact(name: str) -> tuple[str, ...]:
    return () if name.startswith(_SOURCE) else (name,)


@lru_cache(maxsize=1024)  # frames of a video share its name
def _without_suffix(name: str) -> tuple[str, ...]:
    return () if name.startswith(_SOURCE) else (name, without_suffix(name), file_stem(name))


def _to_first_dot(name: str) -> tuple[str, ...]:
    folder, slash, last = name.rpartition("/")
    return () if name.startswith(_SOURCE) else (f"{folder}{slash}{last.partition('.')[0]}",)


def _stem(name: str) -> tuple[str, ...]:
    return (without_suffix(name.removeprefix(_SOURCE).rpartition("/")[2]),)


def _unmarked(name: str) -> tuple[str, ...]:
    return (_MARKER.sub("", without_suffix(name.removeprefix(_SOURCE).rpartition("/")[2])),)


_STEPS: dict[str, tuple[Callable[[str], tuple[str, ...]], bool]] = {
    "name": (_exact, True),
    "name without suffix": (_without_suffix, True),
    "name up to its first dot": (_to_first_dot, False),
    "file name without suffix": (_stem, False),
    "file name without marker": (_unmarked, False),
}
"""Step to the forms that names are compared in, and whether a repeated one is an error."""


def without_suffix(name: str) -> str:
    """Return a name without the suffix of an image or a video."""
    head, dot, suffix = name.rpartition(".")
    return head if dot and head and f".{suffix.lower()}" in _SUFFIXES else name


def name_in_pattern(pattern: str, path: str) -> str:
    """Return the parts of a path that the wildcards of a pattern match.

    `*.label.png` names a.label.png "a"; `*/gt/*.png` names x/gt/a.png "x/a".

    Args:
        pattern: with *, **, ? or [...].
        path: below the same folder as the pattern.
    """
    regex, parts = "", []
    literal = ""
    for token in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern):
        if token in _WILDCARDS or token.startswith("["):
            parts.append("/" if literal else "")
            regex += re.escape(literal) + (_WILDCARDS.get(token) or f"({token.replace('[!', '[^', 1)})")
            literal = ""
        else:
            literal += token
    match = re.fullmatch(regex + re.escape(literal), path, re.DOTALL)
    if match is None:
        return without_suffix(path)
    joined = "".join(gap + (value or "") for gap, value in zip(parts, match.groups(), strict=True) if value)
    return without_suffix(joined.strip("/"))


_WILDCARDS = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}


def _ambiguous(masks: Sequence[Named], labels: Sequence[Named]) -> ConfigError:
    """Return the error of several masks or labels with one name."""
    found = [", ".join(repr(_shown(each)) for each in side[:NAMES_SHOWN]) for side in (masks, labels)]
    return ConfigError(
        f"found {len(masks)} masks ({found[0]}) and {len(labels)} labels ({found[1]}) of one name, expected one of "
        "each; leave one kind out with a pattern, such as 'labels/*.label.png'"
    )


def _shown(entry: Named) -> str:
    return entry.name if entry.frame is None else f"{entry.name} frame {entry.frame}"
