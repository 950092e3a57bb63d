"""Figures of masks against labels: pure functions of confusion tables, and the comparison of masks that exist already.

Knows tables and arrays; knows no options and no Ray.
"""

from fsf_core.analysis.metrics.figures import DRAWS, LEVEL, item_figures, metrics_document
from fsf_core.analysis.metrics.groups import MAX_GROUPS, grouped_documents

__all__ = ["DRAWS", "LEVEL", "MAX_GROUPS", "grouped_documents", "item_figures", "metrics_document"]
