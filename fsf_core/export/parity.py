"""The verdict of the export gate and its evidence, as records and as parity.json; and all limits of agreement."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsf_core.errors import ParityError
from fsf_core.options import SmallPrecision


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityLimits:
    """How far a right export may stray; all limits are here. Measured on FastSegFormer P and E, AMD Zen 4, 2026-11."""

    max_differing_share: float = 1e-4
    """Of the pixels of one class map. Float rounding moved at most 8e-6 of them; resizing logits instead of
    probabilities moves 9e-5 to 6e-4 of a photograph, another interpolation of the input 7e-4 and more."""
    max_margin: float = 1e-3
    """Probability by which the original may have preferred its class where the two differ: only near-ties may flip."""
    max_logit_share: float = 1e-4
    """Largest difference of logits, as a share of the largest logit: logits have no unit, so an absolute limit would
    mean nothing to the next network. Exports stayed below 1e-5; a single damaged weight rarely does."""


PARITY_LIMITS = ParityLimits()


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageParity:
    """How one form of the model answers one picture, compared with the original network."""

    name: str
    variant: Literal["plain", "fused"]
    batch: int
    """How many pictures were given at once."""
    height_px: int
    width_px: int
    agreeing_share: float
    """Share of the class map's pixels with the same class."""
    differing_px: int
    differing_margin: float | None
    """Largest probability by which the original preferred its class where the two differ; null if none differ."""
    logit_difference: float | None
    """Largest absolute difference; null for the fused form, which shows no logits, and where no number came."""
    logit_absmax: float
    """Largest absolute logit of the original."""
    miss: str
    """What exceeds a limit, in words; empty if nothing does."""

    def to_json(self) -> dict[str, Any]:
        """Return what parity.json holds of this picture."""
        return {
            "name": self.name,
            "variant": self.variant,
            "batch": self.batch,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "agreeing_share": self.agreeing_share,
            "differing_px": self.differing_px,
            "differing_margin": self.differing_margin,
            "logit_difference": self.logit_difference,
            "logit_absmax": self.logit_absmax,
            "miss": self.miss,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReport:
    """The verdict of the gate and its evidence."""

    passed: bool
    misses: tuple[str, ...]
    """What exceeded a limit, one sentence each."""
    warnings: tuple[str, ...]
    """Why the proof is weaker than it looks, if it is."""
    limits: ParityLimits
    pictures: tuple[ImageParity, ...]
    precisions: tuple[PrecisionParity, ...] = ()
    """How the smaller precisions agree, where they were asked for."""

    def to_json(self) -> str:
        """Return parity.json. Its keys are names on disk: they stay, whatever the fields are called."""
        content = {
            "passed": self.passed,
            "misses": self.misses,
            "warnings": self.warnings,
            "limits": {
                "max_differing_share": self.limits.max_differing_share,
                "max_margin": self.limits.max_margin,
                "max_logit_share": self.limits.max_logit_share,
            },
            "pictures": [picture.to_json() for picture in self.pictures],
            "precisions": [precision.to_json() for precision in self.precisions],
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class ParityMissError(ParityError):
    """The exported model does not equal the original; the evidence is in `report`."""

    def __init__(self, report: ParityReport) -> None:
        more = f" (and {len(report.misses) - 1} more)" if len(report.misses) > 1 else ""
        advice = "try another --exporter or --opset, and report the network if both miss"
        if report.precisions:  # they are judged only when the float32 model has passed
            advice = "give pictures of your own with --samples, or leave that precision out of --precisions"
        super().__init__(f"the exported model does not answer as the original: {report.misses[0]}{more}; {advice}")
        self.report = report
