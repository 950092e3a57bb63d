"""Choose what to look at or label next in a run, with the reason of each frame.

fsf select runs/today --by uncertainty --n 50 --out next.csv
"""

import logging
from typing import TYPE_CHECKING

from fsf_core.config import SelectConfig
from fsf_core.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from fsf_core.analysis.selection import Choice, Pick, Request

log = logging.getLogger("fsf")

ABSENT_SHOWN = 5
"""Excluded items and frames that a log line names, of those that the run does not have."""

MAX_SHOWN = 200
"""Most frames that are printed for people."""


def run(run_folder: str, config: SelectConfig) -> int:
    """Choose, print and write; returns the exit code.

    Raises:
        ConfigError: the file's ending is unknown, or the file is also one of --exclude.
    """
    from fsf_core import storage
    from fsf_core.analysis import selection
    from fsf_core.cli.output import print_json, show
    from fsf_core.runs import open_run

    out = None if config.out is None else storage.absolute(config.out)
    suffix = None if out is None else selection.require_suffix(out)
    excluded = [storage.absolute(uri) for uri in config.exclude]
    if out is not None and storage.canonical(out) in map(storage.canonical, excluded):
        raise ConfigError(f"--out is {config.out}, which --exclude reads, expected another file; name a new one")
    reader = open_run(run_folder)
    request = _request(config, excluded)
    if config.against is None:
        choice = selection.select(reader, request)
    else:
        choice = selection.select_changed(reader, open_run(config.against), request)
    for rank, pick in enumerate(choice.picks[:MAX_SHOWN], 1):
        show(f"{rank:>4}. {_name(pick)}: {pick.reason}")
    if len(choice.picks) > MAX_SHOWN:
        show(f"… and {len(choice.picks) - MAX_SHOWN} more")
    _log_shortfall(choice, config)
    if choice.not_in_run:
        log.warning(
            "event=excluded_not_in_run rows=%d first=%r", len(choice.not_in_run), choice.not_in_run[:ABSENT_SHOWN]
        )
    if out is not None and suffix is not None:
        table = selection.as_table(reader, choice.picks)
        storage.write_bytes(out, selection.encode(table, suffix))
        _log_limits(table, suffix)
        show(f"wrote {storage.redact(out)} ({len(choice.picks)} rows)")
    print_json(
        {
            "selected": len(choice.picks),
            "by": config.by,
            "run": storage.redact(reader.uri),
            "run_id": reader.run_id,
            "measure": choice.measure,
            "seed": config.seed,
            "candidates": choice.candidates,
            "left_out": dict(choice.left_out),
            "failed_items": choice.failed_items,
            "excluded_not_in_run": len(choice.not_in_run),
            "out": None if out is None else storage.redact(out),
            "items": [
                {
                    "id": pick.item_id,
                    "frame_index": pick.frame_index,
                    "time_s": pick.time_s,
                    "score": pick.score,
                    "reason": pick.reason,
                }
                for pick in choice.picks
            ],
        }
    )
    return 0


def _request(config: SelectConfig, excluded: list[str]) -> "Request":
    from fsf_core.analysis.selection import Request, as_exclusion
    from fsf_core.manifest import read_chosen

    return Request(
        by=config.by,
        count=config.n,
        seed=config.seed,
        gap_s=config.min_gap_s,
        diverse=config.diverse,
        where=config.where,
        excluded=as_exclusion(chosen for uri in excluded for chosen in read_chosen(uri)),
        unlabelled=config.unlabelled,
    )


def _name(pick: "Pick") -> str:
    at = "" if pick.time_s is None else f" at {pick.time_s:.2f} s"
    return f"{pick.item_id}, frame {pick.frame_index}{at}" if at or pick.frame_index else pick.item_id


def _log_shortfall(choice: "Choice", config: SelectConfig) -> None:
    """Log why fewer frames were chosen than asked for."""
    if len(choice.picks) < config.n:
        log.warning(
            "event=fewer_selected wanted=%d selected=%d candidates=%d left_out=%s failed_items=%d",
            config.n,
            len(choice.picks),
            choice.candidates,
            dict(choice.left_out),
            choice.failed_items,
        )


def _log_limits(table: "pa.Table", suffix: str) -> None:
    """Log what other programs cannot do with the rows."""
    from fsf_core.analysis.selection import formula_cells, unlisted

    formulas = formula_cells(table) if suffix == ".csv" else []
    if formulas:
        log.warning(
            "event=cells_look_like_formulas cells=%d first=%r do='import the file as text, or write .parquet'",
            len(formulas),
            formulas[0],
        )
    if hidden := unlisted(table):
        log.warning(
            "event=addresses_not_listable rows=%d first=%r reason='members of archives, cells of tables and addresses "
            "with credentials cannot be scored from this list' do='score the original list with --where on its ids'",
            len(hidden),
            hidden[0],
        )
