"""The parity check of the extra precisions: do float16 and int8 predict the classes that the network predicts?

They cannot equal the original, so pixels that differ are counted by class: background fills most images, and the share
of equal pixels stays high while a small class is lost. Knows the limits. Knows no torch and writes nothing.
"""

# K classes, H×W pixels

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsf_core.export.compare import Reference
from fsf_core.export.parity import PARITY_LIMITS, PrecisionLimits, PrecisionParity
from fsf_core.export.reference import Scores, tie_margin
from fsf_core.export.sample_images import SampleImage
from fsf_core.export.verify import affordable
from fsf_core.model.bundle import Output
from fsf_core.model.preprocess import Profile, fit, normalise
from fsf_core.model.session import Session


def compare_precision(
    reference: Reference,
    session: Session,
    *,
    variant: str,
    limits: PrecisionLimits,
    profile: Profile,
    num_classes: int,
    images: Sequence[SampleImage],
    output: Output | None = None,
) -> PrecisionParity:
    """Compare one variant of the model, plain or fused, with the original on every image at its own size.

    With very many classes at a smaller one, as far as the memory goes.

    Args:
        reference: the original network.
        session: the variant.
        variant: its name in the bundle.
        limits: largest differences allowed.
        profile: preprocessing.
        num_classes: classes that the bundle names.
        images: at least one.
        output: what the output means; None for logits.
    """
    assert images, "a check needs images"
    output = output or Output()
    confusion_KK = np.zeros((num_classes, num_classes), np.int64)
    differing: dict[str, float] = {}
    for sample in images:
        height_px, width_px = affordable((sample.image_HWC.shape[0], sample.image_HWC.shape[1]), num_classes)
        frames_1HWC = fit(sample.image_HWC, profile)[None]
        input_1CHW = normalise(frames_1HWC, profile.levels())
        scores = functools.partial(
            Scores, height_px=height_px, width_px=width_px, profile=profile, output=output, num_classes=num_classes
        )
        expected = scores(output_KHW=reference(input_1CHW)[0])
        if session.fused:
            found_HW = session.run_fused(frames_1HWC, height_px=height_px, width_px=width_px)[0][0].astype(np.intp)
        else:
            output_KHW = session.run(input_1CHW)[0]
            if not np.isfinite(output_KHW).all():
                return _not_finite(variant, num_classes, sample.name, limits)
            found_HW = scores(output_KHW=output_KHW).class_map
        expected_HW = expected.class_map.copy()
        apart = expected_HW != found_HW
        tie = tie_margin(float(np.abs(expected.output_KHW).max()), output, PARITY_LIMITS.noise_share)
        apart[apart] = expected.margins(found_HW) > tie
        expected_HW[~apart] = found_HW[~apart]  # float rounding decides there, so that either is right
        pairs = np.bincount((expected_HW * num_classes + found_HW).ravel(), minlength=num_classes**2)
        confusion_KK += pairs.reshape(num_classes, num_classes)
        differing[sample.name] = float(apart.mean())
    worst = max(differing, key=differing.__getitem__)
    return _within_limits(variant, _ious(confusion_KK), worst, differing[worst], limits)


def _not_finite(variant: str, num_classes: int, name: str, limits: PrecisionLimits) -> PrecisionParity:
    """Return the parity of a model whose output is no number."""
    return PrecisionParity(
        variant=variant,
        mean_iou=0.0,
        class_iou=(0.0,) * num_classes,
        worst_differing_share=1.0,
        worst_picture=name,
        limits=limits,
        violation=f"{variant}: the logits hold NaN or infinity for {name}",
    )


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
