"""What differs between two runs: the data, the model, both or neither; and the evidence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from fsf_core.analysis.drift.limits import MIN_ITEMS
from fsf_core.analysis.drift.pixels import Changes

SAME_MASKS_SHARE = 1e-4
"""Share of changed pixels up to which two models are the same: what other processors change, at near-ties."""

Verdict = Literal["same", "data", "model", "both"]

MEANING: Mapping[Verdict, str] = {
    "same": "no drift beyond chance",
    "data": "the data changed",
    "model": "the model changed",
    "both": "the data and the model changed",
}


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """Items of one run that the bundle of the other has scored again."""

    items_of: Literal["a", "b"]
    """The run that the items are from."""
    changes: Changes
    """Against the masks of that run."""
    features: pa.Table
    """One row for each of these items, as `item_features` returns, of the masks of the other bundle."""
    items: int
    unreadable: int
    """Items of the sample whose sources cannot be read or scored any more."""
    replaced: int
    """Items of the sample whose sources hold other bytes now."""
    other_size: int = 0
    """Frames whose masks have another size than before."""


@dataclass(frozen=True, kw_only=True)
class ModelFinding:
    """Whether the two runs were scored by models that make the same masks."""

    changed: bool | None
    """None where nothing shows it."""
    by: Literal["shared items", "re-scoring", "bundle"] | None
    """The evidence."""
    changes: Changes | None
    reason: str

    def document(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        changes = self.changes
        return {
            "changed": self.changed,
            "by": self.by,
            "pixels_changed_share": changes.share if changes else None,
            "frames": changes.frames if changes else 0,
            "reason": self.reason,
        }


def find_model(*, same_model: bool, shared: Changes, rescored: Sequence[Rescored]) -> ModelFinding:
    """Decide whether the model changed, by the best evidence that there is.

    Args:
        same_model: whether both runs name the same bundle, precision and mask size.
        shared: of the frames of both runs whose sources are the same.
        rescored: samples that were scored again.
    """
    if shared.frames:
        changed = (shared.share or 0) > SAME_MASKS_SHARE
        named = "the bundle is the same" if same_model else "the bundles differ"
        return ModelFinding(
            changed=changed,
            by="shared items",
            changes=shared,
            reason=f"{named}, and the masks of {_frames(shared.frames)} with the same source "
            + (f"differ in {shared.share:.3%} of their pixels" if changed else "are the same"),
        )
    if same_model:
        return ModelFinding(changed=False, by="bundle", changes=None, reason="the bundle is the same")
    counted = [one for one in rescored if one.changes.frames]
    if counted:
        total = Changes()
        for one in counted:
            total.frames += one.changes.frames
            total.pixels += one.changes.pixels
            total.changed += one.changes.changed
        changed = any((one.changes.share or 0) > SAME_MASKS_SHARE for one in counted)
        return ModelFinding(
            changed=changed,
            by="re-scoring",
            changes=total,
            reason=f"the other bundle scored {_frames(total.frames)} again: {total.share:.3%} of the pixels have "
            "another class",
        )
    if rescored:
        return ModelFinding(
            changed=None, by=None, changes=None, reason="the bundles differ, and no item could be scored again"
        )
    return ModelFinding(
        changed=None,
        by=None,
        changes=None,
        reason="the bundles differ and the runs share no item with the same source; give --bundle-b to score a sample "
        "of A's items with the bundle of B, or --bundle-a for the other way round",
    )


def is_judged(document: Mapping[str, Any]) -> bool:
    """Return whether any figure of a drift document has a limit; with fewer than MIN_ITEMS on a side, none has."""
    rows = (row for group in ("classes", "inputs", "confidence") for row in document[group])
    return any(limit is not None for row in rows for limit in row["limits"].values())


def describe_verdict(document: Mapping[str, Any]) -> str:
    """Return what the verdict of a drift document means, as a clause."""
    if document["verdict"] == "same" and not is_judged(document):
        return f"drift was not judged, because one of the runs has fewer than {MIN_ITEMS} scored items"
    return MEANING[document["verdict"]]


def judge(
    model: ModelFinding, *, inputs_drift: bool, outputs_drift: bool, same_model_drift: bool | None
) -> tuple[Verdict, bool]:
    """Return the verdict, and whether it is attributed.

    Args:
        model: whether the model changed.
        inputs_drift: whether an input figure is an alarm.
        outputs_drift: whether a class or a figure of confidence is one.
        same_model_drift: whether a class is one where one model scored both samples; None without such samples.

    Returns:
        With a changed model, classes that drift are its doing unless `same_model_drift` says otherwise. Where nothing
        tells whether the model changed, drift counts as that of the data, and the second value is False.
    """
    if model.changed:
        return ("both" if inputs_drift or same_model_drift else "model"), True
    return ("data" if inputs_drift or outputs_drift else "same"), model.changed is not None


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
