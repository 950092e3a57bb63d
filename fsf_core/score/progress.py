"""Progress of a job on stderr: one line that is rewritten on a terminal, key=value lines elsewhere."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray

from fsf_core import logs
from fsf_core.score.actor_starts import describe
from fsf_core.score.findings import SAME_EVERYWHERE
from fsf_core.score.tracker import Progress

TERMINAL_INTERVAL_S, LOG_INTERVAL_S = 1.0, 10.0
TRACKER_TIMEOUT_S = 1.0

log = logging.getLogger("fsf")


@contextlib.contextmanager
def show_progress(tracker: Any, items: int) -> Iterator[None]:
    """Show what the job commits for as long as the block lasts.

    Args:
        tracker: handle of a JobTracker.
        items: number of items that the job has to score.
    """
    with _terminal(items) if sys.stderr.isatty() and not logs.is_json() else _log_lines(items) as (show, interval_s):
        stopped = threading.Event()
        thread = threading.Thread(target=_poll, args=(tracker, show, interval_s, stopped), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(timeout=5)


def _poll(tracker: Any, show: Callable[[Progress, float], None], interval_s: float, stopped: threading.Event) -> None:
    """Show the tracker's progress at intervals, and once more when stopped."""
    started = time.monotonic()
    latest = Progress()
    reported: set[str] = set()
    differing: set[str] = set()
    opened: dict[str, object] = {}
    while True:
        last = stopped.wait(interval_s)
        with contextlib.suppress(Exception):  # a display must never end a run; it shows the last known state
            latest = ray.get(tracker.progress.remote(), timeout=TRACKER_TIMEOUT_S)
        for node in sorted({*latest.failed_nodes} - reported):
            reported.add(node)
            log.warning("event=actor_not_started error=%r", describe({node: latest.failed_nodes[node]}))
        for node in sorted({*latest.other_nodes} - differing):
            differing.add(node)
            log.warning(
                "event=node_differs check=versions node=%r found=%r do=%r",
                node, f"fsf of other code, {latest.other_nodes[node]}, on a node that joined", SAME_EVERYWHERE,
            )  # fmt: skip
        for actor, model in sorted(latest.opened.items()):
            if opened.get(actor) != model:
                opened[actor] = model
                model.log()
        show(latest, time.monotonic() - started)
        if last:
            return


@contextlib.contextmanager
def _log_lines(items: int) -> Iterator[tuple[Callable[[Progress, float], None], float]]:
    """Yield a function that logs the progress, and its interval."""

    def show(now: Progress, seconds: float) -> None:
        log.info(
            "event=progress items=%d of_items=%d failed_items=%d segments=%d frames=%d frames_per_s=%.1f seconds=%.0f",
            now.items, items, now.failed_items, now.segments, now.frames, now.frames / seconds, seconds,
        )  # fmt: skip

    yield show, LOG_INTERVAL_S


@contextlib.contextmanager
def _terminal(items: int) -> Iterator[tuple[Callable[[Progress, float], None], float]]:
    """Yield a function that redraws a progress bar, and its interval."""
    from rich import progress  # 0.1 s of CPU, which a job of a scheduler does not need
    from rich.console import Console
    from rich.table import Column

    columns = (
        progress.BarColumn(bar_width=20),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
    )
    bar = progress.Progress(*columns, console=Console(stderr=True), expand=True)
    with bar, _logging_above(sys.stderr):
        task = bar.add_task("starting", total=items)

        def show(now: Progress, seconds: float) -> None:
            segments = f" · {now.segments:,} segments" if now.segments else ""
            bar.update(
                task,
                completed=now.item_shares,
                description=f"{now.items:,} of {items:,} items · {now.failed_items:,} failed{segments} · "
                f"{now.frames:,} frames · {now.frames / seconds:.1f} frames/s",
            )

        yield show, TERMINAL_INTERVAL_S


@contextlib.contextmanager
def _logging_above(stream: Any) -> Iterator[None]:
    """Write log lines to rich's stream, which prints them above the bar."""
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    previous = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, old in zip(handlers, previous, strict=True):
            handler.setStream(old or handler.stream)
