"""How two runs differ: class and input drift with limits, changed pixels, data distinguished from model. Knows runs."""

from fsf_core.analysis.drift.compare import compare_runs
from fsf_core.analysis.drift.pixels import PixelChanges, changed_pixels
from fsf_core.analysis.drift.verdict import Rescored, describe_verdict, is_judged

__all__ = ["PixelChanges", "Rescored", "changed_pixels", "compare_runs", "describe_verdict", "is_judged"]
