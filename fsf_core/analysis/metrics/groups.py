"""The same document for groups of items that share values of columns. Knows no files and no runs."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.analysis.metrics.figures import DRAWS, metrics_document
from fsf_core.errors import ConfigError

MAX_GROUPS = 1000
"""Most groups of one document; a column with more values is an id, not a property."""


def grouped_documents(
    confusion: pa.Table,
    values: pa.Table,
    classes: Sequence[str],
    *,
    by: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the metrics of each group of items with equal values, ordered by them; null is a value, and comes last.

    Empty text is null, because a CSV file has no other way to leave a value out, and so is NaN.

    Args:
        confusion: as for `metrics_document`.
        values: item_id and the columns of `by`, one row per item; an item without a row has nulls.
        classes: names in the order of the ids.
        by: the columns.
        draws: samples for the intervals of each group.
        seed: of the samples; the same in every group.

    Returns:
        Metrics, each with "by": the value of each column, as text, number, boolean or None.

    Raises:
        ConfigError: there are too many groups, or values that cannot be compared.
    """
    require_groupable(values.schema, by)
    ids = pc.unique(confusion.column("item_id"))
    rows = pc.index_in(ids, value_set=values.column("item_id").combine_chunks())
    keys = pa.table(
        {name: pc.take(_with_nulls(values.column(name).combine_chunks()), rows) for name in by}
    ).append_column("\0item_id", ids)
    groups = keys.group_by(list(by), use_threads=False).aggregate([("\0item_id", "list")])
    if groups.num_rows > MAX_GROUPS:
        raise ConfigError(
            f"--by {','.join(by)} makes {groups.num_rows} groups, expected at most {MAX_GROUPS}; choose columns with "
            "fewer values"
        )
    groups = groups.sort_by([(name, "ascending") for name in by])
    documents = []
    for group in range(groups.num_rows):
        chosen = groups.column("\0item_id_list")[group].values
        rows_of_group = confusion.filter(pc.is_in(confusion.column("item_id"), value_set=chosen))
        key = {name: _plain(groups.column(name)[group].as_py()) for name in by}
        documents.append({"by": key, **metrics_document(rows_of_group, classes, draws=draws, seed=seed)})
    return documents


def require_groupable(schema: pa.Schema, by: Sequence[str]) -> None:
    """Check that columns hold values of which groups can be made.

    Raises:
        ConfigError: one holds lists or records.
    """
    for name in by:
        kind = schema.field(name).type
        if pa.types.is_nested(kind):
            raise ConfigError(
                f"--by has {name}, which holds values of type {kind}, expected text, numbers, times or true and false; "
                "leave it out"
            )


def _with_nulls(column: pa.Array) -> pa.Array:
    """Return a column with null for empty text and NaN."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; times, decimals and infinity become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
