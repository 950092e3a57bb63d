"""The job beside its own model, on this machine and on the user's own pictures: what share of the bare session is left.

Knows the job and the session; what others would reach, tests/bench/ measures.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fsf_core import runs, storage
from fsf_core.config import BenchConfig, ScoreConfig
from fsf_core.errors import ConfigError
from fsf_core.manifest import open_manifest
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.model.bundle_files import load_bundle, read_model
from fsf_core.model.session import Session
from fsf_core.options import ResolvedProvider
from fsf_core.score.job import score

BARE_SECONDS = 10.0
WARM_SECONDS = 2.0
PART_UNITS = 16
LEAST_COMMITS = 4
"""Between fewer commits there is no steady state."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One comparison."""

    frames: int
    provider: ResolvedProvider
    sessions: int
    """How many processes hold the model, in the job and bare."""
    bare_frames_per_s: float
    """All sessions together, on inputs that lie ready."""
    steady_frames_per_s: float
    """The job, while it commits."""
    whole_frames_per_s: float
    """The job, with the start of its actors."""

    @property
    def efficiency(self) -> float:
        """Share of the bare session that the job keeps in steady state."""
        return self.steady_frames_per_s / self.bare_frames_per_s


def measure(config: BenchConfig) -> Measured:
    """Score the first items of a manifest into a folder that is thrown away, then run the bare session as often.

    Raises:
        ConfigError: too few frames to tell.
        RunError: as the job raises.
    """
    bundle = load_bundle(storage.absolute(config.bundle))
    with tempfile.TemporaryDirectory(prefix="fsf-bench-") as folder:
        out = str(Path(folder) / "run")
        summary = score(
            ScoreConfig(
                bundle=bundle.uri,
                manifest=_first(config.manifest, config.frames, Path(folder) / "manifest.parquet"),
                out=out,
                precision=config.precision,
                provider=config.provider,
                batch_frames=config.batch_frames,
                actors=config.actors,
                threads=config.threads,
                part_units=PART_UNITS,
            )
        )
        done = commits(out)
    if len(done) < LEAST_COMMITS:
        raise ConfigError(
            f"found {summary['frames']} frames in {len(done)} parts, expected {LEAST_COMMITS} parts of {PART_UNITS} "
            "items or more; give a longer manifest, or more --frames"
        )
    return Measured(
        frames=summary["frames"],
        provider=summary["provider"],
        sessions=summary["actors"],
        bare_frames_per_s=bare_rate(
            bundle,
            variant=variant_of(config.precision, fused=False),
            provider=summary["provider"],
            sessions=summary["actors"],
            batch_frames=summary["batch_frames"],
            threads=config.threads,
        ),
        steady_frames_per_s=steady_rate(done),
        whole_frames_per_s=summary["frames"] / summary["scoring_seconds"],
    )


def commits(out: str) -> list[tuple[float, int]]:
    """When each part of a local run was committed, in seconds of the epoch, and its frames; in order."""
    folder = Path(out) / "receipts"
    return sorted(((folder / f"{one.part}.arrow").stat().st_mtime, one.frames) for one in runs.receipts(out))


def steady_rate(done: list[tuple[float, int]]) -> float:
    """Frames/s between the first results and the last: the slope of their sum over time, by least squares.

    Results come in bursts; their number over the time from first to last would count one burst too many.
    """
    times = np.asarray([moment for moment, _ in done])
    total = np.cumsum([frames for _, frames in done])
    spread = times - times.mean()
    return float((spread * (total - total.mean())).sum() / max(1e-9, (spread**2).sum()))


def bare_rate(
    bundle: Bundle, *, variant: str, provider: ResolvedProvider, sessions: int, batch_frames: int, threads: int
) -> float:
    """Frames/s of so many sessions at once, each in a process of its own, on inputs that lie ready."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(sessions)
    model = read_model(bundle, variant)
    shape = (batch_frames, *bundle.signature.input_shape[1:])
    with ProcessPoolExecutor(sessions, context, initializer=_wait_for, initargs=(start,)) as pool:
        rates = [pool.submit(_bare, model, provider, threads, shape) for _ in range(sessions)]
        return sum(rate.result() for rate in rates)


def _first(manifest_uri: str, items: int, path: Path) -> str:
    """A manifest of the first items of another."""
    found = pa.concat_tables(list(open_manifest(manifest_uri).batches())).slice(0, items)
    columns = {"id": found["item_id"], "uri": found["uri"], "kind": found["kind"]}
    pq.write_table(pa.table(columns), path)
    return str(path)


_START: list[Barrier] = []
"""What the sessions of this process wait for; a barrier can only be inherited."""


def _wait_for(barrier: Barrier) -> None:
    _START.append(barrier)


def _bare(model: bytes, provider: ResolvedProvider, threads: int, shape: tuple[int, ...]) -> float:
    """One session, beginning when all others do."""
    session = Session(model, provider=provider, threads=threads)
    batch_NCHW = np.random.default_rng(0).random(shape, np.float32)
    _START[0].wait()
    _frames_in(session, batch_NCHW, WARM_SECONDS)
    return _frames_in(session, batch_NCHW, BARE_SECONDS) / BARE_SECONDS


def _frames_in(session: Session, batch_NCHW: NDArray[np.float32], seconds: float) -> float:
    """Frames that it answers in so many seconds, the last batch by the share that lies inside."""
    started, frames = time.perf_counter(), 0
    while True:
        session.run(batch_NCHW)
        frames += len(batch_NCHW)
        spent = time.perf_counter() - started
        if spent >= seconds:
            return frames * seconds / spent
