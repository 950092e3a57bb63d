"""What to look at or label next in a run: candidates, scores, a choice without near duplicates, and its file.

Knows committed rows of runs. Knows no model, no Ray and no annotation tool.
"""

from fsf_core.analysis.selection.changes import select_changed
from fsf_core.analysis.selection.choose import Choice, Pick, Request, as_exclusion, select
from fsf_core.analysis.selection.file import as_table, encode, formula_cells, require_suffix, unlisted

__all__ = [
    "Choice",
    "Pick",
    "Request",
    "as_exclusion",
    "as_table",
    "encode",
    "formula_cells",
    "require_suffix",
    "select",
    "select_changed",
    "unlisted",
]
