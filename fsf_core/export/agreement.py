"""The gate of the smaller precisions: does the model in float16 or int8 still see what the network sees?

They cannot equal the original, so pixels that differ are counted by class: background fills most pictures, and the
share of equal pixels stays high while a small class is lost. Knows the limits of agreement. Knows no torch and writes
nothing.
"""

# K classes, H×W pixels

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.bundle import SmallPrecision
from fsf_core.export.pictures import Picture
from fsf_core.export.verify import Reference, class_probabilities
from fsf_core.geometry import Profile, fit, normalise
from fsf_core.session import Session


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionLimits:
    """How far a precision may stray from the original network, over all pictures of the proof."""

    min_mean_iou: float
    """Mean over the classes that occur, of pixels pooled over all pictures."""
    min_class_iou: float
    """Of every class that occurs."""
    max_differing_share: float
    """Of the pixels of the worst picture."""


PRECISION_LIMITS: Mapping[SmallPrecision, PrecisionLimits] = {
    # On 23 photographs FastSegFormer P and E kept a mean IoU of 0.993 and 0.996, and 0.47 % of the worst picture
    # differed; what is worse than this overflowed somewhere.
    "fp16": PrecisionLimits(min_mean_iou=0.98, min_class_iou=0.95, max_differing_share=0.01),
    # On the same, P and E kept 0.91 and 0.96, the worst picture 0.75, and 1.3 % of its pixels differed. A class below
    # 0.7 has lost or gained about a sixth of its area: no longer the model that was trained.
    "int8": PrecisionLimits(min_mean_iou=0.85, min_class_iou=0.70, max_differing_share=0.05),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionParity:
    """How one form of the model in one precision agrees with the original network."""

    variant: str
    """Its name in the bundle."""
    mean_iou: float
    class_iou: tuple[float | None, ...]
    """In the order of the class ids; null where neither saw the class."""
    worst_differing_share: float
    worst_picture: str
    limits: PrecisionLimits
    miss: str
    """What is beyond a limit, in words; empty if nothing is."""

    def to_json(self) -> dict[str, Any]:
        """Return what parity.json holds of this precision."""
        return {
            "variant": self.variant,
            "mean_iou": self.mean_iou,
            "class_iou": self.class_iou,
            "worst_differing_share": self.worst_differing_share,
            "worst_picture": self.worst_picture,
            "limits": {
                "min_mean_iou": self.limits.min_mean_iou,
                "min_class_iou": self.limits.min_class_iou,
                "max_differing_share": self.limits.max_differing_share,
            },
            "miss": self.miss,
        }


def judge(
    reference: Reference,
    session: Session,
    *,
    variant: str,
    limits: PrecisionLimits,
    profile: Profile,
    num_classes: int,
    pictures: Sequence[Picture],
) -> PrecisionParity:
    """Compare one form of the model, plain or fused, with the original on every picture at its own size.

    Args:
        reference: the original network.
        session: the form.
        variant: its name in the bundle.
        limits: how far it may stray.
        profile: how a picture becomes the network's input.
        num_classes: how many classes the bundle names.
        pictures: the evidence, at least one.
    """
    assert pictures, "no evidence, no verdict"
    confusion_KK = np.zeros((num_classes, num_classes), np.int64)
    differing: dict[str, float] = {}
    for picture in pictures:
        height_px, width_px = picture.image_HWC.shape[:2]
        frames_1HWC = fit(picture.image_HWC, profile)[None]
        input_1CHW = normalise(frames_1HWC, profile.levels())
        expected_HW = _class_map(reference(input_1CHW)[0], picture, profile)
        if session.fused:
            found_HW = session.run_fused(frames_1HWC, height_px=height_px, width_px=width_px)[0][0].astype(np.intp)
        else:
            found_HW = _class_map(session.run(input_1CHW)[0], picture, profile)
        pairs = np.bincount((expected_HW * num_classes + found_HW).ravel(), minlength=num_classes**2)
        confusion_KK += pairs.reshape(num_classes, num_classes)
        differing[picture.name] = float((expected_HW != found_HW).mean())
    worst = max(differing, key=differing.__getitem__)
    return _verdict(variant, _ious(confusion_KK), worst, differing[worst], limits)


def _class_map(logits_KHW: NDArray[np.float32], picture: Picture, profile: Profile) -> NDArray[np.intp]:
    height_px, width_px = picture.image_HWC.shape[:2]
    scores_KHW = class_probabilities(logits_KHW, height_px=height_px, width_px=width_px, profile=profile)
    return np.asarray(scores_KHW.argmax(axis=0), np.intp)


def _ious(confusion_KK: NDArray[np.int64]) -> tuple[float | None, ...]:
    same_K = np.diag(confusion_KK)
    either_K = confusion_KK.sum(0) + confusion_KK.sum(1) - same_K
    return tuple(float(s / e) if e else None for s, e in zip(same_K.tolist(), either_K.tolist(), strict=True))


def _verdict(
    variant: str, ious_K: tuple[float | None, ...], worst: str, share: float, limits: PrecisionLimits
) -> PrecisionParity:
    seen = {index: iou for index, iou in enumerate(ious_K) if iou is not None}
    mean_iou = sum(seen.values()) / len(seen)
    weakest = min(seen, key=seen.__getitem__)
    reason = ""
    if mean_iou < limits.min_mean_iou:
        reason = f"the mean IoU with the original is {mean_iou:.3f}, expected at least {limits.min_mean_iou:g}"
    elif seen[weakest] < limits.min_class_iou:
        reason = f"class {weakest} keeps an IoU of {seen[weakest]:.3f}, expected at least {limits.min_class_iou:g}"
    elif share > limits.max_differing_share:
        reason = f"{share:.2%} of the pixels of {worst} differ, expected at most {limits.max_differing_share:.0%}"
    return PrecisionParity(
        variant=variant,
        mean_iou=mean_iou,
        class_iou=ious_K,
        worst_differing_share=share,
        worst_picture=worst,
        limits=limits,
        miss=reason and f"{variant}: {reason}",
    )
