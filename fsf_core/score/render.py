"""Films of a run as Ray tasks: one that orders and joins, and as many as there are pieces."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from fsf_core import render, runs
from fsf_core.errors import FSFError
from fsf_core.manifest import Manifest, unredacted_uris
from fsf_core.options import Style
from fsf_core.runs import video_stats
from fsf_core.score.cluster import connected_cluster
from fsf_core.stages.isolated_decode import watchdog

ORDER_CPUS, PIECE_CPUS = 0.25, 1
FILMS_IN_FLIGHT = 32
RETRIES = 2
"""A node may be lost; what ends its process every time is a failure of its film."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class RenderOutcome:
    """What came of the films that were asked for."""

    films: tuple[render.RenderedVideo, ...]
    failed: dict[str, str]
    """Item id to the reason."""


FRAME_S = 120.0
"""Longest time for one frame where a job has no limit of its own."""


def render_run(
    run_uri: str,
    item: str | None,
    *,
    style: Style,
    legend: bool,
    clear: bool,
    address: str | None,
    listed: Manifest | None = None,
) -> RenderOutcome:
    """Make the films of a finished run, or of one item of it, and list them with its files.

    Args:
        run_uri: the run.
        item: id of a video; None for all.
        style: as in Look, and so are the next two.
        legend: whether there is one.
        clear: whether class 0 is left clear.
        address: a running cluster.
        listed: a list with the addresses of the videos, where those hold credentials.

    Raises:
        OutputError: the run has not finished, or a job is at it.
        ClusterError: there is no such cluster.
    """
    with runs.locked_finished_run(run_uri), connected_cluster(address):
        facts = runs.read_document(run_uri, "run.json")["fingerprint"]
        look = render.RenderStyle(
            style=style,
            legend=legend,
            clear_background=clear,
            names=tuple(facts["classes"]),
            palette=tuple((int(r), int(g), int(b)) for r, g, b in facts["palette"]),
        )
        items = [item] if item is not None else render.video_item_ids(run_uri)
        sources = unredacted_uris(listed, items) if listed else {}
        drawn = render_videos(run_uri, items, look, frame_s=FRAME_S, sources=sources)
        render.remove_stale(run_uri)
        others = [*video_stats.manifest_entries(run_uri), *render.manifest_entries(run_uri)]
        runs.publish(run_uri, runs.read_document(run_uri, "summary.json"), others=others)
    return drawn


def render_videos(
    run_uri: str, items: list[str], look: render.RenderStyle, *, frame_s: float, sources: Mapping[str, str]
) -> RenderOutcome:
    """Make the films of some videos of a run; those that are there and still right are left alone.

    Args:
        run_uri: a run without units that are in two parts.
        items: ids of videos that have frames.
        look: how they are drawn.
        frame_s: longest time for one frame.
        sources: addresses of those that the tables do not hold whole, by item id.
    """
    right = {film.item_id: film for film in render.up_to_date(run_uri, look=look)}
    wanted = [item for item in items if item not in right]
    made: list[render.RenderedVideo] = [right[item] for item in items if item in right]
    failed: dict[str, str] = {}
    for item, outcome in _outcomes(run_uri, wanted, look, frame_s, sources):
        if isinstance(outcome, str):
            failed[item] = outcome
            log.warning("event=no_film item=%r error=%r", item, outcome)
        else:
            made.append(outcome)
            log.info("event=film item=%r path=%s frames=%d sound=%r", item, outcome.path, outcome.frames, outcome.sound)
    return RenderOutcome(films=tuple(made), failed=failed)


def _outcomes(
    run_uri: str, items: list[str], look: render.RenderStyle, frame_s: float, sources: Mapping[str, str]
) -> Iterator[tuple[str, render.RenderedVideo | str]]:
    """Each item with its film, or with the reason why there is none."""
    task: Any = ray.remote(num_cpus=ORDER_CPUS, max_retries=RETRIES)(_film)
    units = render.locate_frames(run_uri, items)
    refs: list[Any] = []
    for at, item in enumerate(items):
        ahead = items[len(refs) : at + FILMS_IN_FLIGHT]
        refs += [task.remote(run_uri, each, units.get(each, ()), look, frame_s, sources.get(each)) for each in ahead]
        try:
            yield item, ray.get(refs[at])
        except ray.exceptions.RayError as error:
            yield item, f"{type(error).__name__}: a task of this film ended its process {RETRIES + 1} times"


def _film(
    run_uri: str,
    item_id: str,
    units: tuple[render.ScoredSpan, ...],
    look: render.RenderStyle,
    frame_s: float,
    source: str | None,
) -> render.RenderedVideo | str:
    """Runs on a worker, waiting for the pieces most of its time, without a CPU then."""
    try:
        wanted = render.plan_render(run_uri, item_id, units, look, source=source)
        task: Any = ray.remote(num_cpus=PIECE_CPUS, max_retries=RETRIES)(_pieces)
        shared = ray.put(wanted)
        reasons = [
            reason for reason in ray.get([task.remote(shared, share, frame_s) for share in wanted.shares()]) if reason
        ]
        return reasons[0] if reasons else render.assemble(wanted)
    except (FSFError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def _pieces(wanted: render.RenderPlan, share: tuple[render.Piece, ...], frame_s: float) -> str | None:
    """Runs on a worker; returns the reason why they could not be made, if so."""
    try:
        render.encode_pieces(wanted, share, tick=lambda: watchdog(frame_s, running=True))
    except (FSFError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        watchdog(frame_s, running=False)
    return None
