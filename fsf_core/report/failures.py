"""The failures of a run, grouped by reason: one advice helps all items of a group."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fsf_core import runs

BATCH_ROWS = 4096
MAX_GROUPS = 40
MAX_IDS = 8
"""Ids that a group names."""
MAX_REASONS = 10_000
"""Different reasons that are counted apart; more of them are counted together."""


@dataclass
class FailureGroup:
    """Failures of one type in one stage with one advice."""

    stage: str
    error_type: str
    advice: str
    """What to do, from the end of the message; empty if it says none."""
    example: str
    """What was found, in the first failure."""
    count: int = 0
    ids: list[str] = field(default_factory=list)
    """The first items."""


def group_failures(run: runs.RunReader) -> tuple[list[FailureGroup], int]:
    """Return the groups, the largest first, at most MAX_GROUPS, and the number of failures of all groups."""
    groups: dict[tuple[str, str, str], FailureGroup] = {}
    total = 0
    for row in _rows(run):
        found, advice = split_advice(row["error_message"])
        key = (row["stage"], row["error_type"], advice)
        if key not in groups and len(groups) >= MAX_REASONS:
            key = (row["stage"], row["error_type"], "")
        group = groups.setdefault(key, FailureGroup(stage=key[0], error_type=key[1], advice=key[2], example=found))
        group.count += 1
        total += 1
        if len(group.ids) < MAX_IDS:
            group.ids.append(row["item_id"])
    ordered = sorted(groups.values(), key=lambda group: (-group.count, group.stage, group.error_type, group.advice))
    return ordered[:MAX_GROUPS], total


def split_advice(message: str) -> tuple[str, str]:
    """Return what a message found and what it advises: the part behind its last semicolon."""
    found, mark, advice = message.rpartition(";")
    return (found.strip(), advice.strip()) if mark else (message.strip(), "")


def _rows(run: runs.RunReader) -> Iterator[dict[str, str]]:
    columns = ["item_id", "stage", "error_type", "error_message"]
    for batch in run.iter_batches("failures", columns=columns, batch_rows=BATCH_ROWS):
        yield from batch.to_pylist()
