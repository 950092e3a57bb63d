"""Removing old runs of series; see `retention` for the rules and `runs.removal` for the steps.

All runs that may go are withdrawn first. Then the unfinished runs are read once more: a job that began in the meantime
either recorded before that it reuses one of them, which is brought back, or finds it withdrawn and reuses none.
"""

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsf_core import runs, storage
from fsf_core.errors import ConfigError, FetchError, OutputError, ResumableError, StorageError
from fsf_core.nights import retention
from fsf_core.nights.series import STATE, Series
from fsf_core.nights.states import NightState, find_series, other_series, read_states
from fsf_core.runs import latest, removal
from fsf_core.runs.lease import lease

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What became of the runs of a folder."""

    removed: list[dict[str, Any]] = field(default_factory=list)
    """run and bytes of each."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    """run and reason of each."""

    @property
    def bytes(self) -> int:
        """Bytes of the removed runs."""
        return sum(int(each["bytes"]) for each in self.removed)


def prune(text: str, *, keep: str | None, keep_last: int | None, dry_run: bool = False) -> Pruned:
    """Remove the runs of series that no rule keeps. Delta tables stay as they are.

    Args:
        text: a template, or the folder above the runs.
        keep: age of a night from which on its run may go, such as 30d.
        keep_last: number of the newest finished runs of each series that stay.
        dry_run: whether nothing is changed.

    Raises:
        ConfigError: an option is wrong, or no runs are meant.
        OutputError: another command removes runs there.
        StorageError: the store refuses.
        ResumableError: the store or the disk failed when runs were being removed already.
    """
    if keep is None and keep_last is None:
        raise ConfigError("nothing says what is kept; pass --keep 30d, or --keep-last 10, or both")
    if keep_last is not None and keep_last < 1:
        raise ConfigError(f"--keep-last is {keep_last}, expected at least 1")
    rules = retention.Retention(keep=retention.parse_keep(keep), keep_last=keep_last, now=dt.datetime.now(dt.UTC))
    _require_harmless(text)
    root, series = find_series(text)
    others = other_series(root, series)
    if dry_run:
        return _Pruning(root, series, others, rules).plan()
    with lease(storage.join(root, STATE, "prune"), name=f"the retention of {storage.redact(root)}"):
        return _Pruning(root, series, others, rules).run()


def _require_harmless(text: str) -> None:
    """Refuse a folder in which no one keeps runs, and much else.

    Raises:
        ConfigError: it is the root of a disk, a home folder, or the root of a store.
    """
    uri = storage.absolute(text)
    local = storage.is_local(uri) and storage.local_path(uri).resolve() in {Path("/"), Path.home()}
    if local or (not uri.partition("://")[2].strip("/") and not storage.is_local(uri)):
        raise ConfigError(f"{storage.redact(text)} is no folder of runs; give the folder above the runs of a series")


class _Pruning:
    """One pass over the series of a folder."""

    def __init__(
        self, root: str, series: Sequence[Series], others: Sequence[Series], rules: retention.Retention
    ) -> None:
        self.root, self.series, self.others, self.rules = root, series, others, rules
        self.state = storage.join(root, STATE)
        self.done = Pruned()

    def plan(self) -> Pruned:
        """Return what would be removed, and what is in use now."""
        for state in self._candidates():
            holder, alive = runs.find_holder(state.night.uri)
            if holder and alive:
                self._keep(state.night.path, f"it is in use by {holder}")
            elif state.state != "leases":
                size_bytes = removal.size_of(storage.list_files(state.night.uri, hidden=True))
                self.done.removed.append({"run": state.night.path, "bytes": size_bytes})
        return self.done

    def run(self) -> Pruned:
        """Remove the runs that may go, and what an interrupted pass has left.

        Raises:
            ResumableError: the store or the disk failed.
        """
        withdrawn = [*removal.find_withdrawn(self.root, state=self.state)]
        candidates = self._candidates()
        try:
            withdrawn += filter(None, map(self._withdraw, candidates))
            reused = retention.reuses(self._all_states()) if withdrawn else {}
            for each in withdrawn:
                self._finish(each, reused)
        except (StorageError, FetchError) as error:
            raise ResumableError(f"{error}; the same command goes on") from error
        return self.done

    def _all_states(self) -> list[NightState]:
        """Read the states of all nights of the folder."""
        return [state for series in (*self.series, *self.others) for state in read_states(series.nights())]

    def _candidates(self) -> list[NightState]:
        """Return the runs that no rule keeps, and those whose removal was interrupted."""
        states = {series: read_states(series.nights()) for series in (*self.series, *self.others)}
        everything = [state for found in states.values() for state in found]
        reused, bundles = retention.reuses(everything), retention.used_bundles(everything)
        chosen: dict[str, NightState] = {}
        for series in self.series:
            pointer = latest.read_pointer(self.root, series.template.pointer + latest.SUFFIX) or {}
            uses = retention.Uses(reused=reused, bundles=bundles, named=str(pointer.get("run", "")))
            kept = retention.reasons_to_keep(states[series], self.rules, uses)
            for path, reason in kept.items():
                self._keep(path, reason)
            for state in states[series]:
                if state.night.path not in kept and state.state != "none":
                    chosen.setdefault(state.night.path, state)
        return [*chosen.values()]

    def _withdraw(self, state: NightState) -> removal.Withdrawn | None:
        """Withdraw a run; None where that is refused, or where a removal has left nothing but leases."""
        try:
            if state.state == "leases":
                removal.sweep(state.night.uri)
                return None
            return removal.withdraw(self.root, state.night.path, state=self.state)
        except (OutputError, removal.KeptRunError) as error:
            self._keep(state.night.path, str(error))
            return None

    def _finish(self, withdrawn: removal.Withdrawn, reused: Mapping[str, str]) -> None:
        """Bring a withdrawn run back if an unfinished one reuses it; otherwise delete it."""
        user = reused.get(withdrawn.run_id)
        try:
            if user and removal.restore(withdrawn):
                self._keep(withdrawn.path, f"{user} has not finished and needs it")
                return
            size_bytes = removal.destroy(withdrawn)
        except OutputError as error:  # a job that is being refused has its lock for a moment
            self._keep(withdrawn.path, f"{error}; the same command goes on")
            return
        self.done.removed.append({"run": withdrawn.path, "bytes": size_bytes})
        log.info("event=run_removed run=%s bytes=%d", storage.redact(withdrawn.uri), size_bytes)

    def _keep(self, path: str, reason: str) -> None:
        self.done.kept.append({"run": path, "reason": reason})
