"""Records of the parity check, as parity.json holds them, and all its limits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fsf_core.errors import ParityError
from fsf_core.options import SmallPrecision

Float32Variant = Literal["plain", "fused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityLimits:
    """Limits of the float32 variants. Measured on FastSegFormer P and E, AMD Zen 4, 2026-11."""

    max_differing_share: float = 1e-4
    """Share of one class map's pixels, 0 to 1, ties left out. Float rounding moved at most 8e-6; resizing logits
    instead of probabilities moves 9e-5 to 6e-4 of a photograph, another interpolation of the input 7e-4 and more."""
    max_margin: float = 1e-3
    """Probability by which the original may prefer its class at a pixel that differs: only near-ties may flip. Where
    the logits are so large that rounding alone changes more, the margin of a tie."""
    noise_share: float = 1e-5
    """Error of a logit by float32 rounding, as a share of the largest logit, of the original and of the model together:
    exports stayed below 7e-6. A pixel whose two classes this can swap is a tie: it is decided by rounding, and may
    differ."""
    max_logit_share: float = 1e-4
    """Largest difference of logits, as a share of the largest logit: logits have no unit, so an absolute limit
    would not carry over to another network. Exports stayed below 1e-5; a single damaged weight rarely does."""
    max_own_errors: float = 8.0
    """Largest difference of logits in errors of the original's own arithmetic, its difference from float64 for the same
    image, where that allows more than `max_logit_share`: networks that decide something inside, such as the attention
    masks of Mask2Former, turn rounding into steps. Exports of MaskFormer and Mask2Former stayed below 5.8."""
    max_own_share: float = 0.02
    """Error of the original's own arithmetic, as a share of the largest logit, beyond which it proves nothing: at 0.06,
    8 times as much would let any pixel have any class. Mask2Former with random weights has up to 0.0053."""


PARITY_LIMITS = ParityLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionLimits:
    """Limits of one precision, over all images of the check."""

    min_mean_iou: float
    """Mean over the classes that occur, with the pixels of all images pooled."""
    min_class_iou: float
    """IoU of every class that occurs."""
    max_differing_share: float
    """Share of the worst image's pixels, 0 to 1."""


PRECISION_LIMITS: Mapping[SmallPrecision, PrecisionLimits] = {
    # On 23 photographs FastSegFormer P and E kept a mean IoU of 0.993 and 0.996, and 0.47 % of the worst image
    # differed. A model beyond these limits has overflowed somewhere.
    "fp16": PrecisionLimits(min_mean_iou=0.98, min_class_iou=0.95, max_differing_share=0.01),
    # On the same, P and E kept 0.91 and 0.96, the worst image 0.75, and 1.3 % of its pixels differed. A class below
    # 0.7 has lost or gained about a sixth of its area.
    "int8": PrecisionLimits(min_mean_iou=0.85, min_class_iou=0.70, max_differing_share=0.05),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionParity:
    """Parity of one variant in an extra precision with the original network."""

    variant: str
    """Its name in the bundle."""
    mean_iou: float
    class_iou: tuple[float | None, ...]
    """In the order of the class ids; null where neither predicts the class."""
    worst_differing_share: float
    worst_picture: str
    limits: PrecisionLimits
    violation: str
    """Sentence about the limit that is violated, or empty."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry of parity.json."""
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
            "miss": self.violation,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageParity:
    """Parity of one float32 variant with the original network, on one image."""

    name: str
    variant: Float32Variant
    batch: int
    """Images per model call."""
    height_px: int
    width_px: int
    agreeing_share: float
    """Share of the class map's pixels with the same class, ties included, 0 to 1."""
    differing_px: int
    """Pixels with another class."""
    tied_px: int
    """Those of them at which float rounding decides: the original prefers its class by no more than `tie_margin`."""
    tie_margin: float
    """Difference of two probabilities that float rounding makes: ParityLimits.noise_share of the largest logit of both
    sides, and the last digits of float32."""
    differing_margin: float | None
    """Largest probability by which the original prefers its class at a pixel that differs; null if none differs."""
    logit_difference: float | None
    """Largest absolute difference; null for the fused variant, which outputs no logits, and if the model failed."""
    logit_absmax: float
    """Largest absolute logit of the original."""
    own_error: float | None = None
    """Largest difference between the original in float32 and in float64; null where the other limits hold without it,
    and for an original that has no float64."""
    violation: str = ""
    """Sentence about the limit that is violated, or empty."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry of parity.json."""
        return {
            "name": self.name,
            "variant": self.variant,
            "batch": self.batch,
            "height_px": self.height_px,
            "width_px": self.width_px,
            "agreeing_share": self.agreeing_share,
            "differing_px": self.differing_px,
            "tied_px": self.tied_px,
            "tie_margin": self.tie_margin,
            "differing_margin": self.differing_margin,
            "logit_difference": self.logit_difference,
            "logit_absmax": self.logit_absmax,
            **({} if self.own_error is None else {"own_error": self.own_error}),
            "miss": self.violation,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReport:
    """Result of the parity check."""

    passed: bool
    violations: tuple[str, ...]
    """One sentence per violated limit, or the one reason why the model cannot be compared."""
    warnings: tuple[str, ...]
    """Reasons why a passed check proves little."""
    limits: ParityLimits
    images: tuple[ImageParity, ...]
    precisions: tuple[PrecisionParity, ...] = ()
    """Parity of the extra precisions that were exported."""
    rewrites: Mapping[str, int] = field(default_factory=dict)
    """How often each rule rewrote the graph that was compared."""
    rewrites_refused: str = ""
    """Why the graph was not rewritten, although there are rules for it: the error of the rewritten one."""

    def to_json(self) -> str:
        """Return parity.json. Its keys are names on disk, and stay when fields are renamed."""
        content = {
            "passed": self.passed,
            "misses": self.violations,
            "warnings": self.warnings,
            "limits": {
                "max_differing_share": self.limits.max_differing_share,
                "max_margin": self.limits.max_margin,
                "max_logit_share": self.limits.max_logit_share,
                "noise_share": self.limits.noise_share,
                **(self._own_limits() if any(image.own_error is not None for image in self.images) else {}),
            },
            "pictures": [image.to_json() for image in self.images],
            "precisions": [precision.to_json() for precision in self.precisions],
            **({"rewrites": self.rewrites} if self.rewrites else {}),
            **({"rewrites_refused": self.rewrites_refused} if self.rewrites_refused else {}),
        }
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def _own_limits(self) -> dict[str, float]:
        return {"max_own_errors": self.limits.max_own_errors, "max_own_share": self.limits.max_own_share}


EXPORTED_ANEW = "try another --exporter or --opset, and report the network if both fail"
"""Advice on an exported network that differs from the original."""
ADOPTED = "no option changes that: report it, with the file"
"""Advice on an adopted file that differs from itself."""
OTHER_PICTURES = "give images of your own with --samples, or leave that precision out of --precisions"
"""Advice on a precision beyond its limits."""


class ParityLimitError(ParityError):
    """The exported model violates a limit of parity; `report` holds the measurements."""

    def __init__(self, report: ParityReport, finding: str = "", advice: str = EXPORTED_ANEW) -> None:
        """Name the first violation, or what it comes from.

        Args:
            report: the measurements.
            finding: the cause in one sentence, where it is known.
            advice: what to do.
        """
        more = f" (and {len(report.violations) - 1} more)" if len(report.violations) > 1 else ""
        found = finding or f"the exported model does not equal the original: {report.violations[0]}{more}"
        super().__init__(f"{found}; {advice}")
        self.report = report
        self.finding = finding
