"""The names that gates may use, what each means, and where its value is in the summary. Pure.

jobs/README.md lists them; a name is a contract, like a key of summary.json.
"""

import difflib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsf_core.expressions.figures import LIMIT, NameParts, Value, written

CLASS = "CLASS"
"""The name of a class where names are listed."""

NEEDS = {
    "labels": "labels: a column label_uri in the manifest",
    "against": "a run to compare with: --against",
    "regions": "the table of regions: --regions",
    "price": "a price: --price-hour",
    "render": "rendered videos: --render",
}
"""What a figure may need, as a message says it."""

FAILURE_TYPES = (
    "BrokenVideoError",
    "CrashError",
    "DecodeError",
    "FetchError",
    "LabelError",
    "LimitError",
    "MaskError",
)
"""Types of errors that become rows of failures; others are unexpected."""

STATISTICS = {
    "mean": "mean",
    "min": "least",
    "p05": "5 % quantile",
    "p50": "median",
    "p95": "95 % quantile",
    "max": "greatest",
}
BOUNDS = ("low", "high")

SIMILAR, SIMILARITY, CLASSES_SHOWN = 5, 0.5, 20


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of a run."""

    name: NameParts
    """Without the class, which is the second part of the names of figures per class."""
    meaning: str
    read: Callable[[Mapping[str, Any], str], Value]
    """Returns the value from a summary, of a class where the figure has one; None where the summary has none."""
    per_class: bool = False
    needs: str = ""
    """Key of NEEDS; empty for what every run has."""
    null: str = "the run has none"
    """Why it may have no value."""

    def shown(self) -> str:
        """Return the name with CLASS for the class."""
        return ".".join((self.name[0], CLASS, *self.name[1:]) if self.per_class else self.name)


def _at(*path: str) -> Callable[[Mapping[str, Any], str], Value]:
    """Return a reader of the value at a path of keys; `*` chooses the entry of a list that has the class's name."""

    def read(summary: Mapping[str, Any], class_name: str) -> Value:
        found: Any = summary
        for key in path:
            if key == "*":
                entries = found if isinstance(found, list) else ()
                found = next((each for each in entries if each.get("name") == class_name), None)
            else:
                found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, int | float) and not isinstance(found, bool) else None

    return read


def _failed_share(summary: Mapping[str, Any], _: str) -> Value:
    items = summary["items"]
    return items["failed"] / items["total"] if items["total"] else None


def _ratio(summary: Mapping[str, Any], class_name: str) -> Value:
    return _at("classes", "*", "ratio")(summary, class_name) if summary.get("frames") else None


def _failures(error_type: str) -> Callable[[Mapping[str, Any], str], Value]:
    def read(summary: Mapping[str, Any], _: str) -> Value:
        return int(summary["failures"].get(error_type, 0)) if "failures" in summary else None

    return read


def _count(*path: str) -> Callable[[Mapping[str, Any], str], Value]:
    """Return a reader of the number of entries at a path."""

    def read(summary: Mapping[str, Any], _: str) -> Value:
        found: Any = summary
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return len(found) if isinstance(found, Mapping | list) else found if isinstance(found, int) else None

    return read


def _counts() -> Iterator[Figure]:
    yield Figure(name=("items",), meaning="items of the manifest", read=_at("items", "total"))
    yield Figure(name=("scored",), meaning="scored items", read=_at("items", "scored"))
    yield Figure(name=("failed",), meaning="failed items", read=_at("items", "failed"))
    yield Figure(name=("failed_share",), meaning="share of failed items, 0 to 1", read=_failed_share)
    yield Figure(name=("left_out",), meaning="files left out of the manifest", read=_at("files_left_out"))
    yield Figure(name=("reused_items",), meaning="items copied from an earlier run", read=_at("reused_items"))
    yield Figure(name=("frames",), meaning="scored frames", read=_at("frames"))
    for name in FAILURE_TYPES:
        yield Figure(name=("failures", name), meaning=f"failed units with {name}", read=_failures(name))
    yield Figure(
        name=("unrendered",), meaning="videos that were not rendered", read=_count("videos", "failed"), needs="render"
    )


def _classes() -> Iterator[Figure]:
    yield Figure(
        name=("ratio",), per_class=True, meaning="share of all pixels, 0 to 1", read=_ratio, null="no frame was scored"
    )
    yield Figure(name=("pixels",), per_class=True, meaning="pixels", read=_at("classes", "*", "pixels"))
    yield Figure(name=("regions",), meaning="regions of all classes", read=_at("regions", "count"), needs="regions")
    for name, key, meaning in (
        ("regions", "count", "regions"),
        ("largest_region_px", "largest_px", "pixels of the largest region"),
    ):
        yield Figure(
            name=(name,), per_class=True, meaning=meaning, read=_at("regions", "classes", "*", key), needs="regions",
            null="class 0 has no regions",
        )  # fmt: skip


def _statistics() -> Iterator[Figure]:
    for name, meaning in (
        ("confidence", "largest class probability"),
        ("uncertain_share", "share of uncertain grid cells"),
        ("brightness", "brightness of the input"),
        ("contrast", "contrast of the input"),
        ("sharpness", "sharpness of the input"),
    ):
        null = "no item has it: of a model that outputs class maps, or of an older version"
        yield Figure(name=(name,), meaning=f"{meaning}, mean over items", read=_at("figures", name, "mean"), null=null)
        for key, what in STATISTICS.items():
            yield Figure(
                name=(name, key), meaning=f"{meaning}, {what} over items", read=_at("figures", name, key), null=null
            )


def _work() -> Iterator[Figure]:
    null = "no start of this run has scored a frame and ended"
    for name, meaning in (
        ("frames_per_s", "frames per second of scoring"),
        ("job_frames_per_s", "frames per second of the whole job"),
        ("bare_session_share", "share of the actors' time in which the model computes"),
        ("cpu_seconds", "CPU seconds of workers and driver"),
        ("gpu_seconds", "seconds in which a model computes on a GPU"),
        ("bytes_read", "bytes read from stores and disks"),
        ("bytes_written", "bytes written"),
    ):
        yield Figure(name=(name,), meaning=meaning, read=_at("work", name), null=null)
    yield Figure(
        name=("cost_per_million_frames",), meaning="cost of a million frames, in the unit of --price-hour",
        read=_at("work", "cost", "per_million_frames"), needs="price", null=null,
    )  # fmt: skip


def _metrics() -> Iterator[Figure]:
    null = "it is undefined: no labelled pixel decides it"
    headlines = {
        "miou": "mean IoU over classes",
        "accuracy": "share of correct pixels",
        "mean_recall": "mean recall over classes",
        "mean_precision": "mean precision over classes",
        "mean_dice": "mean Dice over classes",
        "fwiou": "IoU weighted by the pixels of the labels",
        "mean_boundary_iou": "mean boundary IoU over classes",
    }
    by_class = {
        "iou": "IoU",
        "recall": "recall",
        "precision": "precision",
        "dice": "Dice",
        "boundary_iou": "boundary IoU",
    }
    few = "fewer than two items decide it, which makes no interval"
    for name, meaning in headlines.items():
        yield Figure(name=(name,), meaning=meaning, read=_at("metrics", name), needs="labels", null=null)
        for bound in BOUNDS:
            yield Figure(
                name=(name, bound), meaning=f"{meaning}, {bound} end of its 95 % interval",
                read=_at("metrics", "intervals", name, bound), needs="labels", null=few,
            )  # fmt: skip
    absent = "the class is in no label and no mask of a labelled item"
    for name, meaning in by_class.items():
        yield Figure(
            name=(name,), per_class=True, meaning=meaning, read=_at("metrics", "classes", "*", name), needs="labels",
            null=absent,
        )  # fmt: skip
        for bound in BOUNDS:
            yield Figure(
                name=(name, bound), per_class=True, meaning=f"{meaning}, {bound} end of its 95 % interval",
                read=_at("metrics", "intervals", "classes", "*", name, bound), needs="labels", null=few,
            )  # fmt: skip
    yield Figure(
        name=("support_px",), per_class=True, meaning="labelled pixels of the class",
        read=_at("metrics", "classes", "*", "support_px"), needs="labels",
    )  # fmt: skip
    yield Figure(
        name=("labelled_items",), meaning="items with labelled pixels", read=_at("metrics", "items"), needs="labels"
    )
    for name in ("miou", "accuracy", "mean_recall", "mean_precision"):
        yield Figure(
            name=("published", name), meaning=f"{headlines[name]}, by the authors' convention",
            read=_at("metrics", "published", name), needs="labels",
        )  # fmt: skip


COMPARED = ("brightness", "contrast", "sharpness", "size", "confidence", "uncertain_share")
"""Figures whose distribution over items is compared with that of another run."""


def _drift() -> Iterator[Figure]:
    null = "too few items have it, or the two runs measure it differently"
    titles = {
        "psi": "population stability index",
        "js": "Jensen-Shannon divergence in bits",
        "presence": "difference of the shares of items with the class, 0 to 1",
    }
    for statistic, title in titles.items():
        of = "of the class ratio over items" if statistic != "presence" else ""
        for limit, path in (("", (statistic,)), (", its alarm limit", ("limits", statistic))):
            yield Figure(
                name=(statistic, *([LIMIT] if limit else [])), per_class=True, meaning=f"{title} {of}".strip() + limit,
                read=_at("drift", "classes", "*", *path), needs="against", null=null,
            )  # fmt: skip
    for statistic, name in itertools.product(("psi", "js"), COMPARED):
        for limit, path in (("", (statistic,)), (", its alarm limit", ("limits", statistic))):
            yield Figure(
                name=(f"figure_{statistic}", name, *([LIMIT] if limit else [])),
                meaning=f"{titles[statistic]} of {name} over items{limit}", read=_compared(name, path), needs="against",
                null=null,
            )  # fmt: skip
    yield Figure(
        name=("alarms",), meaning="alarms of drift", read=_alarms, needs="against",
        null="one of the two runs has no scored item",
    )  # fmt: skip
    yield Figure(
        name=("pixels_changed_share",), meaning="share of pixels with another class, over the items of both runs",
        read=_at("drift", "pixels_changed_share"), needs="against", null="the runs have no item in common",
    )  # fmt: skip
    for name in ("new", "gone"):
        meaning = {"new": "items that failed in this run only", "gone": "items that failed in the other run only"}
        yield Figure(
            name=(f"{name}_failures",), meaning=meaning[name], read=_count("drift", "failures", name), needs="against"
        )


def _alarms(summary: Mapping[str, Any], class_name: str) -> Value:
    """Return the number of alarms; None where there was nothing to compare, which is no reassurance."""
    scored = [_at("drift", "items", f"scored_{run}")(summary, class_name) for run in ("a", "b")]
    return None if 0 in scored else _count("drift", "alarms")(summary, class_name)


def _compared(name: str, path: tuple[str, ...]) -> Callable[[Mapping[str, Any], str], Value]:
    """Return a reader of a statistic of a figure, which is among the inputs or the confidence."""

    def read(summary: Mapping[str, Any], _: str) -> Value:
        found = [_at("drift", group, "*", *path)(summary, name) for group in ("inputs", "confidence")]
        return found[0] if found[0] is not None else found[1]

    return read


FIGURES = tuple(figure for group in (_counts, _classes, _statistics, _work, _metrics, _drift) for figure in group())
"""Every figure, in the order in which they are listed."""

_SCALARS = {figure.name: figure for figure in FIGURES if not figure.per_class}
_BY_CLASS = {figure.name: figure for figure in FIGURES if figure.per_class}


def find(parts: NameParts, classes: Collection[str] | None = None) -> tuple[Figure, str] | None:
    """Return the figure of a name, and the class or ""; None for an unknown name.

    Args:
        parts: the name.
        classes: names of the classes; None takes any.
    """
    if parts in _SCALARS:
        return _SCALARS[parts], ""
    per_class = _BY_CLASS.get((parts[0], *parts[2:])) if len(parts) > 1 else None
    if per_class and (classes is None or parts[1] in classes):
        return per_class, parts[1]
    return None


def has_limit(parts: NameParts) -> bool:
    """Return whether a figure has an alarm limit."""
    return find((*parts, LIMIT)) is not None


def similar(parts: NameParts, classes: Sequence[str]) -> list[str]:
    """Return the names that are spelled like an unknown one, as they are written."""
    wanted = written(parts)
    names = {written(_full(figure, each)) for figure in FIGURES for each in (classes if figure.per_class else ("",))}
    names.add(LIMIT)
    found = difflib.get_close_matches(wanted, sorted(names), n=SIMILAR, cutoff=SIMILARITY)
    within = [written((*parts, each)) for each in classes] if parts in _BY_CLASS else []
    return [*dict.fromkeys([*within, *found])][:SIMILAR]


def listed(classes: Sequence[str]) -> str:
    """Return all names in one line, and those of the classes."""
    by_first: dict[str, list[str]] = {}
    for figure in FIGURES:
        shown = figure.shown().split(".")
        head = ".".join(shown[:2]) if figure.per_class else shown[0]
        rest = ".".join(shown[2:] if figure.per_class else shown[1:])
        by_first.setdefault(head, []).append(rest)
    names = []
    for head, rests in by_first.items():
        more = [f".{rest}" for rest in rests if rest]
        names.append(head + (f" ({', '.join(more)})" if more and "" in rests else ""))
        if more and "" not in rests:
            plain = [rest for rest in rests if not rest.endswith(f".{LIMIT}")]
            names[-1] = f"{head}.({'|'.join(plain)})" + (f" (.{LIMIT})" if len(plain) < len(rests) else "")
    left = len(classes) - CLASSES_SHOWN
    shown_classes = ", ".join(written((each,)) for each in classes[:CLASSES_SHOWN])
    return f"{', '.join(names)}; {CLASS} is one of {shown_classes}{f' and {left} more' if left > 0 else ''}"


def _full(figure: Figure, class_name: str) -> NameParts:
    return (figure.name[0], class_name, *figure.name[1:]) if figure.per_class else figure.name
