"""Expressions that users write: `--where` over the rows of a list, `--fail-if` over the figures of a run.

Parsed by hand and never evaluated as code. `tokens` splits a text and words its errors, `conditions` has what all of
them share: and, or, not and brackets. `figures` is the language of gates; `manifest.row_filter` that of rows.
"""

from fsf_core.expressions.conditions import MAX_CONDITIONS, MAX_DEPTH, Compound, parse_condition
from fsf_core.expressions.tokens import Language, Tokens

__all__ = ["MAX_CONDITIONS", "MAX_DEPTH", "Compound", "Language", "Tokens", "parse_condition"]
