"""Rendering the videos of a run as Ray tasks: one per video that plans and joins, and one per share of its pieces."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from fsf_core import render, runs, storage
from fsf_core.errors import FSFError
from fsf_core.manifest import Manifest, unredacted_uris
from fsf_core.options import Style
from fsf_core.runs import video_stats
from fsf_core.safe_text import redact_message
from fsf_core.score.capacity import wait_for
from fsf_core.score.cluster import connected_cluster
from fsf_core.score.resumable import resumable
from fsf_core.stages.watchdog import watchdog

VIDEO_CPUS, PIECE_CPUS = 0.25, 1
VIDEOS_IN_FLIGHT = 32
NODE_WAIT_S = 900.0
"""Longest time to wait for a node that the cluster's autoscaler may add."""

MAX_RETRIES = 2
"""Of a task whose process died: a node may be lost. A video that ends its process every time is a failure."""

_PROCESS_ENDED = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
)

FRAME_TIMEOUT_S = 120.0
"""Maximum time for one frame where no job sets another limit."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class RenderOutcome:
    """The result of a request to render videos."""

    videos: tuple[render.RenderedVideo, ...]
    """Rendered now or before, and up to date."""
    failed: dict[str, str]
    """Item id to the reason."""


def render_run(
    run_uri: str,
    item: str | None,
    *,
    style: Style,
    legend: bool,
    clear: bool,
    address: str | None,
    listed: Manifest | None = None,
    access: storage.Access | None = None,
) -> RenderOutcome:
    """Render the videos of a finished run, or one of them, and list them with the run's files.

    Args:
        run_uri: the run.
        item: id of a video; None for all.
        style: how a frame is drawn.
        legend: whether class names and shares are written into the frames.
        clear: whether class 0 is left undrawn.
        address: a running cluster; None for a local one.
        listed: a manifest with the full URIs of the videos, where those hold credentials.
        access: which addresses of videos may be opened; None for any.

    Raises:
        OutputError: the run has not finished, or a job is using it.
        ClusterError: the cluster cannot be reached, or has no CPU.
        ResumableError: a store, a disk or the cluster failed.
    """
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(runs.locked_run(run_uri, finished=True))
        stack.enter_context(connected_cluster(address))
        wait_for([{"CPU": PIECE_CPUS}], limit_s=NODE_WAIT_S)
        facts = runs.read_document(run_uri, "run.json")["fingerprint"]
        render_style = render.RenderStyle(
            style=style,
            legend=legend,
            clear_background=clear,
            names=tuple(facts["classes"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in facts["palette"]),
        )
        ledger = runs.load_ledger(run_uri, strict=True, staged=False)
        items = [item] if item is not None else render.video_item_ids(ledger)
        sources = unredacted_uris(listed, items) if listed else {}
        finished, summary = runs.is_finished(run_uri), runs.read_summary(run_uri)
        stack.enter_context(resumable(run_uri))
        attempt = runs.begin_change(run_uri, lease)
        ledger = runs.load_ledger(run_uri, strict=True, staged=False)  # files of this run may have a new folder
        outcome = render_videos(
            attempt.staging, ledger, items, render_style, frame_s=FRAME_TIMEOUT_S, sources=sources, access=access
        )
        seconds = (
            video_stats.published_video_stats(run_uri)
            if finished
            else video_stats.write_video_stats(attempt.staging, ledger)
        )
        derived = [*seconds, *render.derived_videos(ledger, look=render_style)]
        runs.publish(attempt, ledger, summary, derived=derived, keep_staged=True)
    return outcome


def render_videos(
    staging: runs.Staging,
    ledger: runs.Ledger,
    items: list[str],
    style: render.RenderStyle,
    *,
    frame_s: float,
    sources: Mapping[str, str],
    access: storage.Access | None,
) -> RenderOutcome:
    """Render videos of a run, except those that are up to date.

    Args:
        staging: where the attempt writes.
        ledger: of the run, reconciled.
        items: ids of videos that have frames.
        style: how they are drawn.
        frame_s: maximum time for one frame.
        sources: by item id, full URIs of the videos whose URIs in the tables are redacted.
        access: which addresses of videos may be opened; None for any.
    """
    up_to_date = {found.video.item_id: found.video for found in render.up_to_date(ledger, look=style)}
    videos = [up_to_date[item] for item in items if item in up_to_date]
    failed: dict[str, str] = {}
    for item, outcome in _outcomes(
        staging, ledger, [item for item in items if item not in up_to_date], style, frame_s, sources, access
    ):
        if isinstance(outcome, str):
            failed[item] = outcome
            log.warning("event=render_failed item=%r error=%r", item, outcome)
        else:
            videos.append(outcome)
            log.info(
                "event=video_rendered item=%r path=%s frames=%d sound=%r",
                item, outcome.path, outcome.frames, outcome.sound,
            )  # fmt: skip
    return RenderOutcome(videos=tuple(videos), failed=failed)


def _outcomes(
    staging: runs.Staging,
    ledger: runs.Ledger,
    items: list[str],
    style: render.RenderStyle,
    frame_s: float,
    sources: Mapping[str, str],
    access: storage.Access | None,
) -> Iterator[tuple[str, render.RenderedVideo | str]]:
    """Yield each item with its rendered video, or with the reason why there is none."""
    task: Any = ray.remote(num_cpus=VIDEO_CPUS, max_retries=MAX_RETRIES)(_render_video)
    units = render.locate_frames(ledger, items)
    refs: list[Any] = []
    for number, item in enumerate(items):
        started = items[len(refs) : number + VIDEOS_IN_FLIGHT]
        refs += [
            task.remote(staging, each, units.get(each, ()), style, frame_s, sources.get(each), access)
            for each in started
        ]
        try:
            yield item, ray.get(refs[number])
        except ray.exceptions.RayError as error:
            yield item, describe_failure(error)


def describe_failure(error: ray.exceptions.RayError) -> str:
    """Return why a task failed: what it raised below Ray's wrappers, or that its process ended."""
    cause: BaseException = error
    while isinstance(cause, ray.exceptions.RayTaskError):
        cause = cause.cause
    if isinstance(cause, _PROCESS_ENDED):
        return (
            f"{type(cause).__name__}: a task of this video ended its process {MAX_RETRIES + 1} times; check the memory "
            "of its node, then run `fsf render` again"
        )
    return redact_message(f"{type(cause).__name__}: {cause}")


def _render_video(
    staging: runs.Staging,
    item_id: str,
    units: tuple[render.ScoredSpan, ...],
    style: render.RenderStyle,
    frame_s: float,
    source: str | None,
    access: storage.Access | None,
) -> render.RenderedVideo | str:
    """Plan a video, wait for its pieces and join them, on a worker; returns the reason if it fails.

    While it waits for pieces it gives its CPU back.
    """
    try:
        plan = render.plan_render(staging, item_id, units, style, source=source, access=access)
        task: Any = ray.remote(num_cpus=PIECE_CPUS, max_retries=MAX_RETRIES)(_encode_pieces)
        plan_ref = ray.put(plan)
        results = ray.get([task.remote(plan_ref, pieces, frame_s) for pieces in plan.tasks()])
        reasons = [reason for reason in results if reason]
        return reasons[0] if reasons else render.assemble(plan)
    except (FSFError, OSError) as error:
        return redact_message(f"{type(error).__name__}: {error}")


def _encode_pieces(plan: render.RenderPlan, pieces: tuple[render.Piece, ...], frame_s: float) -> str | None:
    """Encode pieces of a video on a worker; returns the reason if it fails."""
    try:
        render.encode_pieces(plan, pieces, heartbeat=lambda: watchdog(frame_s, running=True))
    except (FSFError, OSError) as error:
        return redact_message(f"{type(error).__name__}: {error}")
    finally:
        watchdog(frame_s, running=False)
    return None
