"""One run of the job: check, claim the folder, score what is pending, settle the books, publish.

What the options come to here and now, plan knows.
"""

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fsf_core import __version__, render, runs, storage
from fsf_core.config import ScoreConfig, expand_template
from fsf_core.errors import ConfigError, FSFError
from fsf_core.keys import KEY_BYTES, Keys, item_keys
from fsf_core.manifest import Manifest, open_manifest, unredacted_uris
from fsf_core.model.bundle import Bundle, load_bundle
from fsf_core.runs import delta, video_stats
from fsf_core.runs.compaction import compact
from fsf_core.score import plan
from fsf_core.score.cluster import connected_cluster, unwrap_worker_errors
from fsf_core.score.render import render_videos
from fsf_core.score.reuse import reuse_unchanged, why_not_reusable
from fsf_core.score.spec import PipelineSpec
from fsf_core.score.tracker import JobTracker, show_progress
from fsf_core.stages.reuse import ReuseSettings

WAVE_ITEMS = 250_000
"""Items of one Ray Data execution: bounds the driver's memory, and costs one start of the actors a wave."""

ASKED_ITEMS = 1_000
"""Items whose buckets are asked for before the run begins."""

NEVER = 1 << 62
"""Units after which the early gate judges, where it should not."""

log = logging.getLogger("fsf")


def score(config: ScoreConfig) -> dict[str, Any]:
    """Run the scoring job, new or resumed.

    Returns:
        The summary, as it is written to the run.

    Raises:
        RunError: the command or its input is wrong; no model was called.
        InterruptedRunError: a signal came; the run can be resumed.
    """
    started = time.monotonic()
    out = _out(config)
    runs.require_usable(out)
    if config.delta:
        delta.require_delta()
    manifest = open_manifest(config.manifest, plan.selection(config))
    _require_stores(manifest)
    with contextlib.ExitStack() as stack:
        if config.checkpoint:
            stack.enter_context(connected_cluster(config.ray_address))
        bundle = load_bundle(plan.exported(config, out) if config.checkpoint else storage.absolute(str(config.bundle)))
        plan.require_precision(config, bundle)
        facts = plan.fingerprint(config, bundle, manifest)
        opened = stack.enter_context(runs.claim_run(out, fingerprint=facts, details=_details(config, bundle)))
        tried = {} if config.keep_failures else runs.retract_failed_parts(out)
        done = runs.find_completed(out)
        pending = manifest.items - _done_items(manifest, done)
        if not config.checkpoint and (pending or config.render):
            stack.enter_context(connected_cluster(config.ray_address))
        told: dict[str, Any] = {"provider": config.provider, "reused_items": 0, "scoring_seconds": 0.0}
        if pending:
            runs.unpublish(out)
            spec = plan.plan_pipeline(config, bundle=bundle, manifest=manifest, opened=opened, pending=pending)
            told = _score_pending(config, spec, manifest, done=done, tried=tried, pending=pending)
        summary = _summary(out, manifest, opened=opened, names=plan.appearance(config, bundle)[0])
        summary |= {**told, "bundle_sha256": bundle.sha256, "precision": config.precision}
        summary["resumed_items"] = manifest.items - pending
        if config.compact_mb:
            summary["joined_parts"] = compact(out, target_bytes=config.compact_mb << 20)
        if config.render:
            summary["videos"] = _films(config, bundle, out, manifest)
        render.remove_stale(out)
        others = [*video_stats.write_video_stats(out), *render.manifest_entries(out)]
        summary["seconds"] = round(time.monotonic() - started, 3)
        runs.publish(out, summary, others=others)
        if config.delta:
            summary["delta_versions"] = delta.publish_delta(out, storage.absolute(config.delta))
        return summary


def _score_pending(
    config: ScoreConfig,
    spec: PipelineSpec,
    manifest: Manifest,
    *,
    done: runs.Completed,
    tried: dict[bytes, int],
    pending: int,
) -> dict[str, Any]:
    """Carry forward what has not changed, and push the rest through the pipeline, wave by wave.

    Returns:
        How it was done, for the summary.

    Raises:
        FSFError: what a worker raised, without what Ray wrapped around it.
    """
    started = time.monotonic()
    # A resumed run may begin with nothing but its old failures; only a new one is judged by its first items.
    fresh = not len(done.items) and not done.segments and not tried
    reused = 0
    if config.reuse:
        reused = _reuse(config, spec, _pending_rows(manifest, done, tried))
        done = runs.find_completed(spec.write.run_uri)
    watch = JobTracker.remote(  # type: ignore[attr-defined] # added by the decorator
        early_units=config.early_items if fresh else NEVER, early_share=config.early_failed_share
    )
    from fsf_core.score.pipeline import run_wave  # by now it is imported: see cluster.start_local_cluster

    with show_progress(watch, pending - reused):
        for wave in _waves(_pending_rows(manifest, done, tried)):
            with unwrap_worker_errors():
                run_wave(wave, spec, watch)
    return {
        "provider": spec.provider,
        "actors": spec.actors,
        "batch_frames": spec.batch_frames,
        "reused_items": reused,
        "scoring_seconds": round(time.monotonic() - started, 3),
    }


def _films(config: ScoreConfig, bundle: Bundle, out: str, manifest: Manifest) -> dict[str, Any]:
    """Films of all videos of a settled run; what is told of them."""
    names, palette = plan.appearance(config, bundle)
    assert config.render
    look = render.RenderStyle(
        style=config.render,
        legend=config.legend,
        clear_background=config.clear_background,
        names=tuple(names),
        palette=palette,
    )
    items = render.video_item_ids(out)
    sources = unredacted_uris(manifest, items)
    drawn = render_videos(out, items, look, frame_s=config.item_seconds, sources=sources)
    return {"made": len(drawn.films), "failed": drawn.failed}


def _reuse(config: ScoreConfig, spec: PipelineSpec, rows: Iterator[pa.Table]) -> int:
    """Carry forward what an earlier run found of items that have not changed; returns how many items.

    Raises:
        ConfigError: it is this run.
        OutputError: no run is there.
    """
    earlier, out = storage.absolute(str(config.reuse)), spec.write.run_uri
    if earlier.rstrip("/") == out.rstrip("/"):
        raise ConfigError(f"--reuse is {config.reuse}, which is --out too; resuming needs no --reuse, leave it out")
    why = why_not_reusable(earlier, runs.read_fingerprint(out))
    if why:
        log.info("event=reused items=0 run=%s reason=%r", storage.redact(earlier), why)
        return 0
    settings = ReuseSettings(earlier_uri=earlier, same_by=config.reuse_by, schemes=config.schemes, write=spec.write)
    items = reuse_unchanged(rows, settings)
    log.info("event=reused items=%d run=%s", items, storage.redact(earlier))
    return items


def _done_items(manifest: Manifest, done: runs.Completed) -> int:
    if not len(done.items):  # a new run need not read its list again
        return 0
    return int(sum(done.holds(_keys(batch)).sum() for batch in manifest.batches()))


def _out(config: ScoreConfig) -> str:
    """The folder of the run; a template is filled in once, and what came of it is said."""
    out = storage.absolute(expand_template(config.out, dt.datetime.now(dt.UTC)))
    if out != storage.absolute(config.out):
        log.info("event=out template=%r out=%r", storage.redact(config.out), storage.redact(out))
    return out


def _require_stores(manifest: Manifest) -> None:
    """Ask every store of the first items once, so that wrong credentials end the job and not item after item.

    Raises:
        StorageError: a store refuses altogether.
    """
    first: dict[str, str] = {}
    for uri in next(manifest.batches()).column("uri").slice(0, ASKED_ITEMS).to_pylist():
        if not storage.is_local(storage.container_of(uri)):
            first.setdefault(storage.container_of(uri).split("/", 3)[2], storage.container_of(uri))
    for uri in first.values():
        storage.require_bucket(uri)


def _pending_rows(manifest: Manifest, done: runs.Completed, tried: dict[bytes, int]) -> Iterator[pa.Table]:
    """The items that are not done, with what is known of earlier attempts."""
    for batch in manifest.batches():
        if not len(done.items) and not done.segments and not tried:
            rows = batch.append_column("attempt", pa.array(np.ones(batch.num_rows, np.int32)))
            yield rows.append_column("done_segments", pa.nulls(batch.num_rows, pa.list_(pa.int32())))
            continue
        keys = _keys(batch)
        wanted = np.flatnonzero(~done.holds(keys))
        chosen = [bytes(key).ljust(KEY_BYTES, b"\0") for key in keys[wanted]]
        rows = batch.take(pa.array(wanted))
        rows = rows.append_column("attempt", pa.array([tried.get(key, 0) + 1 for key in chosen], pa.int32()))
        finished = [sorted(done.segments.get(key, ())) for key in chosen]
        yield rows.append_column("done_segments", pa.array(finished, pa.list_(pa.int32())))


def _keys(batch: pa.Table) -> Keys:
    return item_keys(batch.column("item_id").to_pylist())


def _waves(rows: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for table in rows:
        held.append(table)
        if sum(part.num_rows for part in held) >= WAVE_ITEMS:
            yield pa.concat_tables(held)
            held = []
    if sum(part.num_rows for part in held):
        yield pa.concat_tables(held)


def _details(config: ScoreConfig, bundle: Bundle) -> dict[str, Any]:
    """What readers of the run need to know beside its fingerprint."""
    return {
        "fsf_version": __version__,
        "bundle": storage.redact(bundle.uri),
        "provider": config.provider,
        "honour_exif": bundle.profile.honour_exif,
    }


def _summary(out: str, manifest: Manifest, *, opened: runs.Run, names: tuple[str, ...]) -> dict[str, Any]:
    """Settle the books and count.

    Raises:
        FSFError: an item of the manifest has no result and no failure; the run is not published.
    """
    removed = runs.reconcile(out)
    totals = runs.count_totals(out, (_keys(batch) for batch in manifest.batches()))
    if totals.missing_items:
        raise FSFError(
            f"{totals.missing_items} of {manifest.items} items have neither a result nor a failure; start the same "
            "command again, and report this if it stays"
        )
    pixels = np.zeros(len(names), np.int64)
    pixels[: len(totals.pixels)] = totals.pixels
    return {
        "run_id": opened.run_id,
        "out": out,
        "attempt": opened.attempt,
        "items": {
            "total": manifest.items,
            "scored": manifest.items - totals.failed_items,
            "failed": totals.failed_items,
            "not_in_manifest": totals.foreign_items,
        },
        "files_left_out": manifest.left_out,
        "frames": totals.frames,
        "failures": dict(runs.failure_kinds(out)),
        "classes": [
            {"id": k, "name": name, "pixels": int(pixels[k]), "ratio": float(pixels[k] / max(1, pixels.sum()))}
            for k, name in enumerate(names)
        ],
        "removed": dict(removed),
    }
