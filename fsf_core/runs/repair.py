"""Repair of a run: what is damaged leaves it, so that the score command scores it anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fsf_core.runs.attempt import begin_change
from fsf_core.runs.beside import unnamed_files
from fsf_core.runs.folder import is_finished, locked_run, read_summary
from fsf_core.runs.ledger import Ledger, load_ledger
from fsf_core.runs.publish import Derived, publish, withdraw
from fsf_core.runs.reconcile import reconcile
from fsf_core.runs.verify import damaged_parts
from fsf_core.runs.video_stats import write_video_stats


@dataclass(frozen=True, kw_only=True)
class Repair:
    """The outcome of a repair."""

    damaged: dict[str, str]
    """Parts that left the run, with the reason."""
    removed_files: int
    """Files without a part that were deleted."""
    finished: bool
    """Whether the run is whole now; otherwise the score command that began it completes it."""


def repair(run_uri: str, find_videos: Callable[[Ledger], Sequence[Derived]]) -> Repair:
    """Take damaged parts out of a run, and delete files that belong to none.

    A finished run that has lost no part is published again as it was. Otherwise it loses its completion mark, and the
    score command scores the items of the damaged parts.

    Args:
        run_uri: the run.
        find_videos: returns the rendered videos that still match a ledger.

    Raises:
        OutputError: there is no run, or a job is using it.
        StorageError: the store refuses.
    """
    with locked_run(run_uri, finished=False) as lease:
        finished = is_finished(run_uri)
        attempt = begin_change(run_uri, lease)
        ledger = load_ledger(run_uri, staged=not finished)
        damaged = damaged_parts(ledger)
        for part in damaged:
            ledger.drop(part)
        removed = reconcile(attempt.staging, ledger)["orphan_files"]
        whole = finished and not damaged
        removed += len(unnamed_files(ledger, with_staged=whole))
        derived = [*write_video_stats(attempt.staging, ledger), *find_videos(ledger)]
        if whole:
            publish(attempt, ledger, read_summary(run_uri), derived=derived, keep_staged=True)
        else:
            withdraw(attempt, ledger, derived=derived)
    return Repair(damaged=damaged, removed_files=removed, finished=whole)
