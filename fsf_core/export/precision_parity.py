"""The parity check of the extra precisions: do float16 and int8 predict the classes that the network predicts?

They cannot equal the original, so pixels that differ are counted by class: background fills most images, and the share
of equal pixels stays high while a small class is lost. Knows the limits. Knows no torch and writes nothing.
"""

# K classes, H×W pixels

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsf_core.export.parity import PrecisionLimits, PrecisionParity
from fsf_core.export.sample_images import SampleImage
from fsf_core.export.verify import Reference, class_probabilities
from fsf_core.model.preprocess import Profile, fit, normalise
from fsf_core.model.session import Session
from fsf_core.options import OutputKind


def compare_precision(
    reference: Reference,
    session: Session,
    *,
    variant: str,
    limits: PrecisionLimits,
    profile: Profile,
    num_classes: int,
    images: Sequence[SampleImage],
    kind: OutputKind = "logits",
) -> PrecisionParity:
    """Compare one variant of the model, plain or fused, with the original on every image at its own size.

    Args:
        reference: the original network.
        session: the variant.
        variant: its name in the bundle.
        limits: largest differences allowed.
        profile: preprocessing.
        num_classes: classes that the bundle names.
        images: at least one.
        kind: what the output means.
    """
    assert images, "a check needs images"
    confusion_KK = np.zeros((num_classes, num_classes), np.int64)
    differing: dict[str, float] = {}
    for sample in images:
        height_px, width_px = sample.image_HWC.shape[:2]
        frames_1HWC = fit(sample.image_HWC, profile)[None]
        input_1CHW = normalise(frames_1HWC, profile.levels())
        expected_HW = _class_map(reference(input_1CHW)[0], sample, profile, kind, num_classes)
        if session.fused:
            found_HW = session.run_fused(frames_1HWC, height_px=height_px, width_px=width_px)[0][0].astype(np.intp)
        else:
            found_HW = _class_map(session.run(input_1CHW)[0], sample, profile, kind, num_classes)
        pairs = np.bincount((expected_HW * num_classes + found_HW).ravel(), minlength=num_classes**2)
        confusion_KK += pairs.reshape(num_classes, num_classes)
        differing[sample.name] = float((expected_HW != found_HW).mean())
    worst = max(differing, key=differing.__getitem__)
    return _within_limits(variant, _ious(confusion_KK), worst, differing[worst], limits)


def _class_map(
    logits_KHW: NDArray[np.float32], sample: SampleImage, profile: Profile, kind: OutputKind, num_classes: int
) -> NDArray[np.intp]:
    height_px, width_px = sample.image_HWC.shape[:2]
    scores_KHW = class_probabilities(
        logits_KHW, height_px=height_px, width_px=width_px, profile=profile, kind=kind, num_classes=num_classes
    )
    return np.asarray(scores_KHW.argmax(axis=0), np.intp)


def _ious(confusion_KK: NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return the IoU per class, None for a class that neither predicts."""
    same_K = np.diag(confusion_KK)
    either_K = confusion_KK.sum(0) + confusion_KK.sum(1) - same_K
    return tuple(float(s / e) if e else None for s, e in zip(same_K.tolist(), either_K.tolist(), strict=True))


def _within_limits(
    variant: str, ious_K: tuple[float | None, ...], worst: str, share: float, limits: PrecisionLimits
) -> PrecisionParity:
    """Return the parity with the first limit that is violated."""
    occurring = {index: iou for index, iou in enumerate(ious_K) if iou is not None}
    mean_iou = sum(occurring.values()) / len(occurring)
    weakest = min(occurring, key=occurring.__getitem__)
    reason = ""
    if mean_iou < limits.min_mean_iou:
        reason = f"the mean IoU with the original is {mean_iou:.3f}, expected at least {limits.min_mean_iou:g}"
    elif occurring[weakest] < limits.min_class_iou:
        reason = f"class {weakest} keeps an IoU of {occurring[weakest]:.3f}, expected at least {limits.min_class_iou:g}"
    elif share > limits.max_differing_share:
        reason = f"{share:.2%} of the pixels of {worst} differ, expected at most {limits.max_differing_share:.0%}"
    return PrecisionParity(
        variant=variant,
        mean_iou=mean_iou,
        class_iou=ious_K,
        worst_differing_share=share,
        worst_picture=worst,
        limits=limits,
        violation=reason and f"{variant}: {reason}",
    )
