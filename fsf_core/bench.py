"""`fsf bench`: the frame rate of the job beside that of its bare model, on this machine and on the user's images.

Comparisons with other tools are in tests/bench/.
"""

import itertools
import math
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core import runs, storage
from fsf_core.config import BenchConfig, ScoreConfig
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.model.bundle_files import load_bundle, read_model
from fsf_core.model.preprocess import input_hw
from fsf_core.model.session import Session
from fsf_core.options import ResolvedProvider
from fsf_core.score.job import score
from fsf_core.score.placement import FEW_IMAGES
from fsf_core.stages.free_sizes import frames_per_call
from fsf_core.stages.infer import GPU_BATCH_FRAMES

WARM_UP_S = 2.0
MEASURED_S = 10.0
PART_UNITS = 16
MIN_COMMITS = 4
"""Fewer commits per session have no steady state."""
MIN_STEADY_S = 5.0
"""In a shorter time, what was decoded before the model was loaded is too large a share of the frames."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Frames per second of a job and of its bare sessions."""

    frames: int
    provider: ResolvedProvider
    sessions: int
    """Processes that hold the model, in the job as in the bare measurement."""
    bare_frames_per_s: float
    """Of all sessions together, on inputs in memory."""
    steady_frames_per_s: float | None
    """Of the job, between its first and its last commit; None where there are too few of them to tell."""
    total_frames_per_s: float
    """Of the job, including the start of its actors."""
    sufficient_frames: int
    """Frames for which there would be a steady rate, about twice as many as the least; 0 where there is one."""

    @property
    def efficiency(self) -> float | None:
        """Steady rate of the job as a share of the bare rate; None where there are too few frames to tell."""
        return None if self.steady_frames_per_s is None else self.steady_frames_per_s / self.bare_frames_per_s


def measure(config: BenchConfig) -> Measured:
    """Score the first items of a manifest into a temporary folder, then run the bare sessions.

    Raises:
        RunError: as `score` raises.
    """
    bundle = load_bundle(storage.absolute(config.bundle))
    with tempfile.TemporaryDirectory(prefix="fsf-bench-") as folder:
        out = str(Path(folder) / "run")
        summary = score(
            ScoreConfig(
                bundle=bundle.uri,
                manifest=config.manifest,
                limit=config.frames,
                exclude=config.exclude,
                tar_ids=config.tar_ids,
                image_column=config.image_column,
                out=out,
                precision=config.precision,
                provider=config.provider,
                batch_frames=config.batch_frames,
                actors=config.actors,
                threads=config.threads,
                part_units=PART_UNITS,
                http_hosts=config.http_hosts,
            )
        )
        done = commits(out)
        shapes = call_shapes(bundle, out, summary["batch_frames"] or GPU_BATCH_FRAMES)
    sessions = summary["actors"]
    bare = bare_rate(
        bundle,
        variant=variant_of(config.precision, fused=False),
        provider=summary["provider"],
        sessions=sessions,
        shapes=shapes,
        threads=config.threads,
    )
    is_steady, usual = has_steady_rate(done, sessions), sessions_of_a_longer_list(config, summary)
    return Measured(
        frames=summary["frames"],
        provider=summary["provider"],
        sessions=sessions,
        bare_frames_per_s=bare,
        steady_frames_per_s=steady_rate(done) if is_steady else None,
        total_frames_per_s=summary["frames"] / summary["scoring_seconds"],
        sufficient_frames=0 if is_steady else sufficient_frames(bare * usual / sessions, usual),
    )


def sessions_of_a_longer_list(config: BenchConfig, summary: dict[str, Any]) -> int:
    """Return how many sessions score a list that is not as short as one that a single actor scores on all CPUs."""
    is_short = not config.actors and summary["provider"] == "cpu" and summary["frames"] <= FEW_IMAGES
    return (os.cpu_count() or 1) if is_short else int(summary["actors"])


def commits(out: str) -> list[tuple[float, int]]:
    """Return the time of each commit of a local run, in seconds since the epoch, and its frames; in order."""
    folder = Path(out) / "receipts"
    return sorted(((folder / f"{one.part}.arrow").stat().st_mtime, one.frames) for one in runs.receipts(out))


def has_steady_rate(done: list[tuple[float, int]], sessions: int) -> bool:
    """Return whether there are enough commits, over enough time, for a rate."""
    return len(done) >= MIN_COMMITS * sessions and done[-1][0] - done[0][0] >= MIN_STEADY_S


def sufficient_frames(bare_frames_per_s: float, sessions: int) -> int:
    """Return how many frames have a steady rate, with twice the time and the commits that it takes, in hundreds.

    Args:
        bare_frames_per_s: of all sessions, which the job does not exceed.
        sessions: number of them.
    """
    least = max(MIN_COMMITS * sessions * PART_UNITS, MIN_STEADY_S * bare_frames_per_s)
    return 100 * math.ceil(2 * least / 100)


def steady_rate(done: list[tuple[float, int]]) -> float:
    """Return the frames per second between first and last commit: the slope of their sum by least squares.

    Commits come in bursts; the sum divided by the time from first to last would count one burst too many.
    """
    times = np.asarray([moment for moment, _ in done])
    total = np.cumsum([frames for _, frames in done])
    spread = times - times.mean()
    return float((spread * (total - total.mean())).sum() / max(1e-9, (spread**2).sum()))


def bare_rate(
    bundle: Bundle,
    *,
    variant: str,
    provider: ResolvedProvider,
    sessions: int,
    shapes: list[tuple[int, ...]],
    threads: int,
) -> float:
    """Return the frames per second of several sessions together, each in its own process, on inputs in memory.

    Args:
        bundle: its model is measured.
        variant: of the model.
        provider: of the sessions.
        sessions: number of processes.
        shapes: of the calls, which are repeated in this order.
        threads: CPU threads per session.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(sessions)
    model = read_model(bundle, variant)
    with ProcessPoolExecutor(sessions, context, initializer=_set_barrier, initargs=(start,)) as pool:
        rates = [pool.submit(_run_session, model, provider, threads, shapes) for _ in range(sessions)]
        return sum(rate.result() for rate in rates)


def call_shapes(bundle: Bundle, out: str, batch_frames: int) -> list[tuple[int, ...]]:
    """Return the shapes of a model's calls: one, or where sizes depend on the images, those of a run, shuffled.

    Args:
        bundle: that scored the run.
        out: the run.
        batch_frames: frames per call.
    """
    if not bundle.signature.has_free_size:
        return [(batch_frames, 3, bundle.profile.height_px, bundle.profile.width_px)]
    rows = (
        row
        for batch in runs.open_run(out).iter_batches("masks", columns=["height_px", "width_px"], batch_rows=4096)
        for row in batch.to_pylist()
    )
    sizes = Counter(input_hw(row["height_px"], row["width_px"], bundle.profile) for row in rows)
    shapes: list[tuple[int, ...]] = []
    for (height_px, width_px), frames in sorted(sizes.items()):
        step = frames_per_call(height_px * width_px, batch_frames, bundle.signature.input_shape[0])
        shapes += [(min(step, frames - start), 3, height_px, width_px) for start in range(0, frames, step)]
    return [shapes[at] for at in np.random.default_rng(0).permutation(len(shapes))]


_BARRIER: list[Barrier] = []
"""The barrier at which the sessions of all processes start; it can only be inherited."""


def _set_barrier(barrier: Barrier) -> None:
    """Store the barrier in a new process."""
    _BARRIER.append(barrier)


def _run_session(model: bytes, provider: ResolvedProvider, threads: int, shapes: list[tuple[int, ...]]) -> float:
    """Return the frames per second of one session, started together with all others."""
    session = Session(model, provider=provider, threads=threads, free_sizes=len(shapes) > 1)
    values = np.random.default_rng(0).random(max(map(math.prod, shapes)), np.float32)
    batches = itertools.cycle([values[: math.prod(shape)].reshape(shape) for shape in shapes])
    _BARRIER[0].wait()
    _count_frames(session, batches, WARM_UP_S)
    return _count_frames(session, batches, MEASURED_S) / MEASURED_S


def _count_frames(session: Session, batches: Iterator[NDArray[np.float32]], seconds: float) -> float:
    """Return the frames that a session infers in a time, with a share of the last batch."""
    started, frames = time.perf_counter(), 0
    while True:
        batch_NCHW = next(batches)
        session.run(batch_NCHW)
        frames += len(batch_NCHW)
        spent = time.perf_counter() - started
        if spent >= seconds:
            return frames * seconds / spent
