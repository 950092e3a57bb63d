"""How a run differs from a reference: the drift document of `fsf diff`."""

# I items, K classes

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core import runs, storage
from fsf_core.analysis.drift.classes import JointClasses, join_classes
from fsf_core.analysis.drift.limits import Comparison, alarm_limits, compare
from fsf_core.analysis.drift.metrics import metric_changes
from fsf_core.analysis.drift.pixels import PixelChanges, changed_pixels
from fsf_core.analysis.drift.verdict import Rescored, find_model, judge
from fsf_core.analysis.items import item_features
from fsf_core.runs import RunReader

INPUTS = ("brightness", "contrast", "sharpness", "size")
"""What the network is given; size is the pixels of an item's first frame."""

CONFIDENCE = ("confidence", "uncertain_share")
"""What the network says of itself."""

LISTED = 50
"""Failures and transitions that the document lists."""

SAME_FIGURE = 0.01
"""Relative difference of an input figure of one source, from which on the two models look at it differently."""

_CLASS_STATISTICS = ("psi", "js", "presence")
_FIGURE_STATISTICS = ("psi", "js")


def compare_runs(
    a: RunReader,
    b: RunReader,
    *,
    draws: int = 1000,
    seed: int = 0,
    skip: Collection[Literal["pixels", "metrics"]] = (),
    changes: PixelChanges | None = None,
    rescored: Sequence[Rescored] = (),
    known: tuple[pa.Table | None, pa.Table | None] = (None, None),
) -> dict[str, Any]:
    """Compare a run with a reference.

    Args:
        a: the reference; its items decide what is usual.
        b: the run that is judged.
        draws: draws from the reference for each limit.
        seed: of the draws.
        skip: what is not compared and takes longest: the pixels of items that both runs hold, whose masks are read
            whole; the metrics of those that both have labels of, whose intervals are drawn.
        changes: what `changed_pixels(a, b)` returned, where the caller has it; None to compare the masks here.
        rescored: samples of items that the bundle of the other run has scored, to distinguish model from data.
        known: `item_features` of `a` and of `b`, where the caller has them.

    Returns:
        The document; fsf_core/analysis/README.md describes its entries.

    Raises:
        OutputError: the runs have no class in common, or a committed file is missing or damaged.
    """
    classes = join_classes(a.classes, b.classes)
    known_a, known_b = (
        item_features(run) if table is None else table for run, table in zip((a, b), known, strict=True)
    )
    failed_a, failed_b = _failures(a), _failures(b)
    items = _shared(known_a, known_b, failed_a, failed_b)
    changes = changes or _pixels(a, b, known_a, known_b, classes, wanted="pixels" not in skip)
    same_model = _model_of(a) == _model_of(b)
    comparable = _comparable_inputs(known_a, known_b)

    compared = _Compared(draws=draws, seed=seed)
    for name, id_a, id_b in classes.common:
        compared.add("classes", name, _ratio(known_a, id_a), _ratio(known_b, id_b), _CLASS_STATISTICS)
    for name in INPUTS:
        values = (_figure(known_a, name), _figure(known_b, name))
        compared.add(
            "inputs", name, *(values if name in comparable else (np.empty(0), np.empty(0))), _FIGURE_STATISTICS
        )
    for name in CONFIDENCE:
        compared.add("confidence", name, _figure(known_a, name), _figure(known_b, name), _FIGURE_STATISTICS)
    compared.judge()

    model = find_model(same_model=same_model, shared=changes.same_source, rescored=rescored)
    verdict, attributed = judge(
        model,
        inputs_drift=compared.has_alarm("inputs"),
        outputs_drift=compared.has_alarm("classes") or compared.has_alarm("confidence"),
        same_model_drift=_same_model_drift(rescored, classes, known_a, known_b, draws=draws, seed=seed),
    )
    failures, listed = _failure_changes(failed_a, failed_b)
    return {
        "verdict": verdict,
        "attributed": attributed,
        "alarms": compared.alarms(),
        "classes": [
            {
                "name": name,
                **compared.row("classes", name, _CLASS_STATISTICS),
                "share_a": _share(known_a, id_a),
                "share_b": _share(known_b, id_b),
                "present_a": _present(known_a, id_a),
                "present_b": _present(known_b, id_b),
            }
            for name, id_a, id_b in classes.common
        ],
        "classes_only": {"a": [*classes.only_a], "b": [*classes.only_b]},
        "inputs": [
            {
                "name": name,
                **compared.row("inputs", name, _FIGURE_STATISTICS),
                **_means(known_a, known_b, name),
                "comparable": name in comparable,
            }
            for name in INPUTS
        ],
        "confidence": [
            {
                "name": name,
                **compared.row("confidence", name, _FIGURE_STATISTICS),
                **_means(known_a, known_b, name),
            }
            for name in CONFIDENCE
        ],
        "model": model.document(),
        "metrics": None if "metrics" in skip else metric_changes(a, b, draws=draws, seed=seed),
        "pixels_changed_share": changes.every.share,
        "pixels": _pixel_document(changes),
        "items": items,
        "failures": failures,
        "failures_listed": listed,
        "rescored": [_rescored_document(one) for one in rescored],
        "runs": {"a": _run_document(a, known_a, failed_a), "b": _run_document(b, known_b, failed_b)},
        "draws": draws,
        "seed": seed,
    }


class _Compared:
    """Figures of two runs, compared and judged together."""

    def __init__(self, *, draws: int, seed: int) -> None:
        self._draws, self._seed = draws, seed
        self._found: dict[tuple[str, str], Comparison] = {}
        self._limits: dict[tuple[str, str], dict[str, float]] = {}

    def add(
        self,
        group: str,
        name: str,
        reference: NDArray[np.float64],
        current: NDArray[np.float64],
        statistics: Sequence[str],
    ) -> None:
        """Compare one figure."""
        one = compare(name, reference, current, statistics=statistics, draws=self._draws, seed=self._seed)
        self._found[group, name] = one

    def judge(self) -> None:
        """Compute the limits, which depend on all figures."""
        self._limits = dict(zip(self._found, alarm_limits([*self._found.values()]), strict=True))

    def alarms(self) -> list[dict[str, Any]]:
        """Return every statistic above its limit, the farthest above first."""
        found = [
            {"name": name, "statistic": each, "value": one.values[each], "limit": limit, "of": group}
            for (group, name), one in self._found.items()
            for each, limit in self._limits[group, name].items()
            if one.values[each] > limit
        ]
        return sorted(found, key=lambda alarm: alarm["limit"] / alarm["value"])

    def has_alarm(self, group: str) -> bool:
        """Return whether a figure of a group is an alarm."""
        return any(alarm["of"] == group for alarm in self.alarms())

    def row(self, group: str, name: str, statistics: Sequence[str]) -> dict[str, Any]:
        """Return the statistics of a figure, their limits, and whether one is above its limit; null where undefined."""
        one, limits = self._found[group, name], self._limits[group, name]
        return {
            **{each: one.values.get(each) for each in statistics},
            "limits": {each: limits.get(each) for each in statistics},
            "alarm": any(one.values[each] > limit for each, limit in limits.items()),
            "bins": one.bins,
        }


def _ratio(features: pa.Table, class_id: int) -> NDArray[np.float64]:
    return np.asarray(features.column(f"ratio.{class_id}").to_numpy(), np.float64)


def _figure(features: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a figure of every item; NaN where it has none."""
    if name == "size":
        height, width = (features.column(side).to_numpy().astype(np.float64) for side in ("height_px", "width_px"))
        return np.asarray(height * width)
    return np.asarray(features.column(name).to_numpy(zero_copy_only=False), np.float64)


def _share(features: pa.Table, class_id: int) -> float | None:
    """Return the share of a class in all pixels of a run; None without any."""
    pixels = features.column("pixels").to_numpy()
    total = int(pixels.sum())
    return int(np.rint(_ratio(features, class_id) * pixels).sum()) / total if total else None


def _present(features: pa.Table, class_id: int) -> float | None:
    """Return the share of items that have a pixel of a class; None without items."""
    ratio = _ratio(features, class_id)
    return float((ratio > 0).mean()) if len(ratio) else None


def _means(known_a: pa.Table, known_b: pa.Table, name: str) -> dict[str, float | None]:
    """Return the mean of a figure over the items of both runs; null where none has it."""
    found: dict[str, float | None] = {}
    for key, features in (("mean_a", known_a), ("mean_b", known_b)):
        values = _figure(features, name)
        values = np.sort(values[np.isfinite(values)])  # the sum does not depend on the order of the parts
        found[key] = float(values.mean()) if len(values) else None
    return found


def _comparable_inputs(known_a: pa.Table, known_b: pa.Table) -> frozenset[str]:
    """Return the input figures that mean the same in both runs.

    They are taken from the network's input: two models of other sizes see one picture differently. Sources that both
    runs have show it.
    """
    names = ["item_id", "item_sha256", *(name for name in INPUTS if name != "size")]
    both = known_a.select(names).join(
        known_b.select(names), ["item_id", "item_sha256"], join_type="inner", right_suffix=".b"
    )
    both = both.filter(pc.is_valid(both.column("item_sha256")))
    found = {"size"}
    for name in names[2:]:
        first, second = (
            np.asarray(both.column(column).to_numpy(zero_copy_only=False), np.float64) for column in (name, f"{name}.b")
        )
        differ = np.abs(first - second) > SAME_FIGURE * (np.abs(first) + np.abs(second)) / 2 + 1e-9
        if not len(differ) or differ.mean() <= 0.5:  # noqa: PLR2004 - most of them; NaN differs from nothing
            found.add(name)
    return frozenset(found)


def _same_model_drift(
    rescored: Sequence[Rescored],
    classes: JointClasses,
    known_a: pa.Table,
    known_b: pa.Table,
    *,
    draws: int,
    seed: int,
) -> bool | None:
    """Return whether classes drift between the items of the two runs where one model scored both; None if none did."""
    drift: bool | None = None
    for one in rescored:
        if not one.features.num_rows:
            continue
        compared = _Compared(draws=draws, seed=seed)
        for name, id_a, id_b in classes.common:
            # The bundle of B scored the sample of A, or that of A the sample of B.
            samples = (
                (_ratio(one.features, id_b), _ratio(known_b, id_b))
                if one.items_of == "a"
                else (_ratio(known_a, id_a), _ratio(one.features, id_a))
            )
            compared.add("classes", name, *samples, _CLASS_STATISTICS)
        compared.judge()
        drift = bool(drift) or compared.has_alarm("classes")
    return drift


def _pixels(
    a: RunReader, b: RunReader, known_a: pa.Table, known_b: pa.Table, classes: JointClasses, *, wanted: bool
) -> PixelChanges:
    """Compare the masks of the items that both runs have scored."""
    ids = known_b.column("item_id")
    both = ids.filter(pc.is_in(ids, known_a.column("item_id"))) if wanted else ids.slice(0, 0)
    return changed_pixels(a, b, both.to_pylist(), classes=classes)


def _pixel_document(changes: PixelChanges) -> dict[str, Any]:
    transitions = changes.transitions_JJ
    order = np.argsort(transitions, axis=None)[::-1][:LISTED]
    names = changes.classes.names
    return {
        "frames": changes.every.frames,
        "frames_of_same_source": changes.same_source.frames,
        "changed_share_of_same_source": changes.same_source.share,
        "frames_of_other_size": changes.other_size,
        **({"frames_too_large": changes.too_large} if changes.too_large else {}),
        "transitions": [
            {"from": names[cell // len(names)], "to": names[cell % len(names)], "pixels": int(transitions.flat[cell])}
            for cell in order.tolist()
            if transitions.flat[cell]
        ],
    }


def _failures(run: RunReader) -> dict[str, dict[str, Any]]:
    """Return the first failure of every item that has one."""
    found: dict[str, dict[str, Any]] = {}
    for row in run.failures(columns=["item_id", "stage", "error_type", "error_message"]).to_pylist():
        found.setdefault(row["item_id"], row)
    return found


def _failure_changes(
    failed_a: dict[str, dict[str, Any]], failed_b: dict[str, dict[str, Any]]
) -> tuple[dict[str, int], dict[str, list[dict[str, Any]]]]:
    """Return the numbers of items that failed in one run and not in the other, and the first of them."""
    new = [row for item_id, row in failed_b.items() if item_id not in failed_a]
    gone = [row for item_id, row in failed_a.items() if item_id not in failed_b]
    return {"new": len(new), "gone": len(gone)}, {"new": new[:LISTED], "gone": gone[:LISTED]}


def _shared(
    known_a: pa.Table, known_b: pa.Table, failed_a: dict[str, dict[str, Any]], failed_b: dict[str, dict[str, Any]]
) -> dict[str, int]:
    """Return the numbers of items, scored or failed, of both runs and of each alone."""
    ids = [
        {*known.column("item_id").to_pylist(), *failed} for known, failed in ((known_a, failed_a), (known_b, failed_b))
    ]
    return {
        "both": len(ids[0] & ids[1]),
        "only_a": len(ids[0] - ids[1]),
        "only_b": len(ids[1] - ids[0]),
        "scored_a": known_a.num_rows,
        "scored_b": known_b.num_rows,
    }


def _model_of(run: RunReader) -> tuple[Any, ...]:
    """Return what decides the masks of a picture."""
    known = runs.read_fingerprint(run.uri)
    return tuple(known.get(name) for name in ("bundle_sha256", "precision", "mask_size"))


def _run_document(run: RunReader, known: pa.Table, failed: Collection[str]) -> dict[str, Any]:
    return {
        "run": storage.redact(run.uri),
        "run_id": run.run_id,
        "finished": run.finished,
        "bundle_sha256": runs.read_fingerprint(run.uri).get("bundle_sha256"),
        "frames": int(known.column("frames").to_numpy().sum()),
        "failed_items": len(failed),
    }


def _rescored_document(one: Rescored) -> dict[str, Any]:
    return {
        "items_of": one.items_of,
        "items": one.items,
        "frames": one.changes.frames,
        "pixels_changed_share": one.changes.share,
        "unreadable": one.unreadable,
        "replaced": one.replaced,
        "frames_of_other_size": one.other_size,
    }
