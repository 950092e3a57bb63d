"""Masks that exist already against labels: found, paired, counted, and made into the document of `fsf evaluate`.

Knows no options and prints nothing.
"""

import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import runs, storage
from fsf_core.analysis.metrics.compare import Comparison, Failure, compare
from fsf_core.analysis.metrics.figures import metrics_document
from fsf_core.analysis.metrics.groups import grouped_documents
from fsf_core.analysis.metrics.pairing import Named, Pairing, pair
from fsf_core.analysis.metrics.places import (
    Columns,
    Labels,
    Masks,
    are_same,
    columns_of_run,
    find_labels,
    find_masks,
)
from fsf_core.errors import ConfigError, LabelError
from fsf_core.masks import class_map_dtype, voc_palette

NAMES_SHOWN = 20
"""Most names of what was left over; the count is of all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to compare, and how."""

    masks: str
    labels: str | None = None
    """None for the labels that a run was scored with."""
    classes: tuple[str, ...] = ()
    """Names by id; () for those of the run."""
    palette: tuple[tuple[int, int, int], ...] = ()
    """Colours of painted labels and masks; () for those of the run, or PASCAL VOC's."""
    by: tuple[str, ...] = ()
    access: storage.Access | None = None
    """Which addresses of a manifest may be opened."""
    draws: int
    seed: int


def evaluate(request: Request) -> dict[str, Any]:
    """Return the metrics of masks against labels, what they are made of, and what was left out.

    Raises:
        ConfigError: nothing can be paired, the labels hold no class, or names and columns do not fit.
        OutputError, ManifestError, StorageError: what is to be read cannot be.
    """
    if request.labels is None:
        return _of_scored_run(request)
    masks = find_masks(request.masks, by=request.by)
    if not masks.run and are_same(request.masks, request.labels):
        raise ConfigError(
            f"masks and labels are both {storage.redact(request.labels)}, expected two sets of files; choose each with "
            "a pattern, such as 'photos/*.published.png' 'photos/*.label.png': the part that * matches is the name"
        )
    labels = find_labels(request.labels, by=request.by, access=request.access)
    _require_columns(request.by, masks.columns, labels.columns)
    classes = _classes_of(request, masks.run)
    two_files = _is_file(request.masks, masks.uris) and _is_file(request.labels, labels.uris)
    pairing = Pairing(label_of_mask={0: 0}, steps={"file": 1}) if two_files else pair(masks.named, labels.named)
    if not pairing.label_of_mask and not labels.unreadable:
        raise _nothing_paired(masks, labels)
    palette_K3 = _palette_of(request, masks.run, len(classes))
    found = compare(masks, labels, pairing.label_of_mask, palette_K3=palette_K3, num_classes=len(classes))
    confusion = found.table()
    warnings = _judge_values(found, confusion, len(classes))
    columns = labels.columns if labels.of_manifest else masks.columns
    return {
        **_figures(confusion, classes, request, _merged(request.by, columns, masks.columns)),
        "pairs": _pairs(masks, labels, pairing, found),
        "ignored": {
            "pixels": found.ignored_px_by_value.total(),
            "by_value": {str(value): px for value, px in sorted(found.ignored_px_by_value.items())},
        },
        "failures": [asdict(each) for each in found.failures],
        "warnings": warnings,
    }


def _of_scored_run(request: Request) -> dict[str, Any]:
    """Return the metrics of the labels that a run was scored with.

    Raises:
        ConfigError: it has none.
    """
    run = runs.open_run(request.masks)
    classes = _classes_of(request, run)
    confusion = run.confusion()
    account = _account_of_run(run, confusion)
    if not confusion.num_rows and not (account["pairs"]["compared"] or account["pairs"]["failed"]):
        raise ConfigError(
            f"{storage.redact(run.uri)} was scored without labels, expected a run of a manifest with label_uri; pass "
            "labels: a folder of PNGs, or a manifest with label_uri"
        )
    columns = columns_of_run(run, request.by) if request.by else Columns()
    _require_columns(request.by, columns, Columns())
    return {**_figures(confusion, classes, request, columns.values), **account}


def _account_of_run(run: runs.RunReader, confusion: pa.Table) -> dict[str, Any]:
    """Return what became of the labels of a run, in the form of a comparison."""
    ignored = run.masks(columns=["label_ignored_px"]).column("label_ignored_px")
    ignored_px = int(pc.sum(ignored).as_py() or 0)
    columns = ["item_id", "uri", "stage", "frame_index", "error_type", "error_message"]
    rows = [row for row in run.failures(columns=columns).to_pylist() if row["error_type"] == LabelError.__name__]
    failures = [
        Failure(
            item_id=row["item_id"],
            frame_index=row["frame_index"],
            label=None,
            error_type=row["error_type"],
            error_message=row["error_message"],
        )
        for row in rows
    ]
    left_over = {"count": 0, "names": []}
    return {
        "pairs": {
            "compared": len(ignored) - ignored.null_count,
            "failed": len(failures),
            "paired_by": {"label_uri": len(ignored) - ignored.null_count},
            "masks_without_label": {"count": ignored.null_count, "names": []},
            "labels_without_mask": left_over,
        },
        "ignored": {"pixels": ignored_px, "by_value": {}},
        "failures": [asdict(each) for each in failures],
        "warnings": _judge_classes(confusion, ignored_px, len(run.classes)),
    }


def _judge_classes(confusion: pa.Table, ignored_px: int, num_classes: int) -> list[str]:
    """Return what is unusual about the classes of labels of which only the number of ignored pixels is known."""
    ids = confusion.column("label_class_id").to_numpy()
    if not ignored_px or ids.max(initial=-1) >= min(1, num_classes - 1):
        return []
    share = ignored_px / (ignored_px + int(np.sum(confusion.column("pixels").to_numpy())))
    found = "class 0 is the only one" if len(ids) else "no class is"
    expected = f"expected class ids 0 to {num_classes - 1}, since values are never scaled"
    return [f"{found} in the labels, and {100 * share:.2f} % of their pixels are ignored; {expected}"]


def _figures(confusion: pa.Table, classes: Sequence[str], request: Request, values: pa.Table) -> dict[str, Any]:
    """Return the metrics of all items, and of each group."""
    document = metrics_document(confusion, classes, draws=request.draws, seed=request.seed)
    if request.by:
        document["groups"] = grouped_documents(
            confusion, values, classes, by=request.by, draws=request.draws, seed=request.seed
        )
    return document


def _classes_of(request: Request, run: runs.RunReader | None) -> tuple[str, ...]:
    """Return the class names.

    Raises:
        ConfigError: they are missing, or contradict the run.
    """
    if run is None:
        if not request.classes:
            raise ConfigError(
                "masks in a folder have no class names, expected --classes a,b,c in the order of the ids; pass it"
            )
        return request.classes
    if request.classes and request.classes != run.classes:
        raise ConfigError(
            f"--classes is {','.join(request.classes)}, but the run has {','.join(run.classes)}; leave the option out"
        )
    return run.classes


def _palette_of(request: Request, run: runs.RunReader | None, num_classes: int) -> NDArray[np.uint8]:
    """Return the colours of the classes.

    Raises:
        ConfigError: there is not one for each.
    """
    if not request.palette:
        return voc_palette(num_classes) if run is None else np.asarray(run.palette, np.uint8)
    if len(request.palette) != num_classes:
        raise ConfigError(
            f"--palette has {len(request.palette)} colours, expected {num_classes}: one for each class, in the order "
            "of the ids"
        )
    return np.asarray(request.palette, np.uint8)


def _require_columns(by: Sequence[str], *found: Columns) -> None:
    """Check that the columns to group by exist.

    Raises:
        ConfigError: one does not.
    """
    known = {name for each in found for name in each.known}
    unknown = [name for name in by if name not in known]
    if unknown:
        do = f"expected columns out of {', '.join(sorted(known))}" if known else "expected a manifest with columns"
        raise ConfigError(
            f"--by has {', '.join(unknown)}, {do}; group by columns that the manifest of the run, or the manifest with "
            "label_uri, has"
        )


def _merged(by: Sequence[str], first: Columns, second: Columns) -> pa.Table:
    """Return the columns to group by: those of the first, and of the second what it lacks."""
    further = [name for name in second.values.column_names if name in by and name not in first.values.column_names]
    if not further:
        return first.values
    return first.values.join(second.values.select(["item_id", *further]), "item_id", join_type="full outer")


def _judge_values(found: Comparison, confusion: pa.Table, num_classes: int) -> list[str]:
    """Return what is unusual about the values of the labels.

    Raises:
        ConfigError: no pixel has a class, or what is ignored looks like classes under other numbers.
    """
    ignored = found.ignored_px_by_value
    usual = int(np.iinfo(class_map_dtype(num_classes)).max)
    others = sorted(value for value in ignored if value != usual)
    counted = int(np.sum(confusion.column("pixels").to_numpy()))
    if not ignored or not found.compared:
        return []
    share = f"{100 * ignored.total() / (counted + ignored.total()):.2f} % of the labelled pixels"
    values = ", ".join(f"{value} ({px} px)" for value, px in ignored.most_common(8))
    above = num_classes > 1 and np.any(confusion.column("label_class_id").to_numpy() > 0)
    expected = f"expected class ids 0 to {num_classes - 1}, and {usual} for what is ignored"
    if not counted or (others and not above and num_classes > 1):
        raise ConfigError(
            f"the labels hold {'no class' if not counted else 'class 0 alone'} and the values {values}, {expected}; "
            "values are never scaled: write class ids, for example 0 and 1 instead of 0 and 255"
        )
    if others:
        return [f"{share} have values that are no class and are ignored: {values}; {expected}"]
    if not above and num_classes > 1:
        return [f"class 0 is the only one in the labels, and {share} are ignored: {values}; {expected}"]
    return []


def _pairs(masks: Masks, labels: Labels, pairing: Pairing, found: Comparison) -> dict[str, Any]:
    """Return what was paired, how, and what was not."""
    with_label = pairing.label_of_mask
    with_mask = set(with_label.values())
    return {
        "compared": found.compared,
        "failed": len(found.failures),
        "paired_by": pairing.steps,
        "masks_without_label": _left_over(masks.named, with_label),
        "labels_without_mask": _left_over(labels.named, with_mask),
    }


def _is_file(where: str, uris: Sequence[str]) -> bool:
    """Return whether one file was named."""
    return [*uris] == [storage.absolute(where)]


def _left_over(named: Sequence[Named], paired: set[int] | dict[int, int]) -> dict[str, Any]:
    """Return how many were not paired, and the first names."""
    rest = [each.name for at, each in enumerate(named) if at not in paired]
    return {"count": len(rest), "names": heapq.nsmallest(NAMES_SHOWN, {*rest})}


def _nothing_paired(masks: Masks, labels: Labels) -> ConfigError:
    """Return the error of names that have nothing in common."""
    shown = [
        ", ".join(repr(name) for name in dict.fromkeys(each.name for each in named[:3])) or "none"
        for named in (masks.named, labels.named)
    ]
    return ConfigError(
        f"found {len(masks.named)} masks ({shown[0]}) and {len(labels.named)} labels ({shown[1]}), and no label with "
        "the name of a mask; expected equal names or ids: pass patterns, such as 'labels/*_label.png', where the part "
        "that * matches is the name, or a manifest with id, uri and label_uri"
    )
