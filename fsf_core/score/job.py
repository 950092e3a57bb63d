"""The scoring job: check, lock the folder, score what is pending, reconcile, publish.

What the options mean on this cluster is decided in `plan`.
"""

import contextlib
import datetime as dt
import logging
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from fsf_core import __version__, render, runs, storage
from fsf_core.config import ScoreConfig, expand_template
from fsf_core.errors import ConfigError, FSFError
from fsf_core.keys import KEY_BYTES, Keys, item_keys
from fsf_core.manifest import Manifest, open_manifest, unredacted_uris
from fsf_core.model.bundle import Bundle
from fsf_core.model.bundle_files import load_bundle
from fsf_core.runs import delta, video_stats
from fsf_core.runs.compaction import compact
from fsf_core.score import plan
from fsf_core.score.cluster import connected_cluster, unwrap_worker_errors
from fsf_core.score.progress import show_progress
from fsf_core.score.render import render_videos
from fsf_core.score.reuse import reuse_unchanged, why_not_reusable
from fsf_core.score.spec import PipelineSpec
from fsf_core.score.tracker import JobTracker
from fsf_core.stages.reuse import ReuseSettings

EXECUTION_ITEMS = 250_000
"""Items of one Ray Data execution; bounds the driver's memory. Each execution starts the actors again."""

PROBED_ITEMS = 1_000
"""Items whose stores are contacted before the run begins."""

log = logging.getLogger("fsf")


def score(config: ScoreConfig) -> dict[str, Any]:
    """Run the scoring job, new or resumed.

    Example:
        >>> summary = score(ScoreConfig(bundle="bundles/oranges", manifest="photos/", out="runs/today"))
        >>> summary["items"]
        {'total': 200, 'scored': 199, 'failed': 1, 'not_in_manifest': 0}

    Args:
        config: the options of `fsf score`, under the same names.

    Returns:
        The summary, as it is written to the run; `gates.failed_gates` judges it.

    Raises:
        RunError: the options or their input are wrong; no model was called, and the folder is unchanged.
        GateError: almost all of the first items failed.
        InterruptedRunError: a signal ended the job; the run can be resumed.
    """
    started = time.monotonic()
    out = _resolve_out(config)
    runs.require_usable(out)
    if config.delta:
        delta.require_delta()
    outputs = [out, *([storage.absolute(config.delta)] if config.delta else [])]
    manifest = open_manifest(config.manifest, plan.selection(config), outputs=outputs)
    _require_reachable_stores(manifest)
    with contextlib.ExitStack() as stack:
        if config.checkpoint:
            stack.enter_context(connected_cluster(config.ray_address))
            plan.require_gpu(config)
        bundle = load_bundle(
            plan.export_bundle(config, out) if config.checkpoint else storage.absolute(str(config.bundle))
        )
        plan.require_precision(config, bundle)
        appearance = plan.class_appearance(config, bundle)
        facts = plan.fingerprint(config, bundle, manifest, appearance)
        stack.enter_context(runs.lock_run(out, fingerprint=plan.as_recorded(facts, out)))
        done = runs.find_completed(out, with_failures=config.keep_failures)
        pending = manifest.items - _count_done(manifest, done)
        if not config.checkpoint and (pending or config.render):
            stack.enter_context(connected_cluster(config.ray_address))
        # Whatever can refuse the job comes before this line, and whatever changes the folder after it.
        placement = plan.place(config, bundle) if pending else None
        reuse_uri = _reusable_run(config, out, facts) if pending else None
        opened = runs.begin_attempt(out, fingerprint=facts, details=_details(config, bundle))
        if pending:
            runs.unpublish(out)
        attempts = {} if config.keep_failures else runs.retract_failed_parts(out)
        scoring: dict[str, Any] = {"provider": config.provider, "reused_items": 0, "scoring_seconds": 0.0}
        if placement:
            spec = plan.plan_pipeline(
                config,
                bundle=bundle,
                manifest=manifest,
                appearance=appearance,
                placement=placement,
                opened=opened,
                pending=pending,
            )
            scoring = _score_pending(
                config, spec, manifest, done=done, attempts=attempts, pending=pending, reuse_uri=reuse_uri
            )
        summary = _summarize(out, manifest, opened=opened, names=appearance.names)
        summary |= {**scoring, "bundle_sha256": bundle.sha256, "precision": config.precision}
        summary["resumed_items"] = manifest.items - pending
        if config.compact_mb:
            summary["joined_parts"] = compact(out, target_bytes=config.compact_mb << 20)
        if config.render:
            summary["videos"] = _render(config, appearance, out, manifest)
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
    attempts: dict[bytes, int],
    pending: int,
    reuse_uri: str | None,
) -> dict[str, Any]:
    """Copy unchanged results from an earlier run, and score the rest.

    Returns:
        Entries of the summary.

    Raises:
        FSFError: what a worker raised, without Ray's wrapper.
    """
    started = time.monotonic()
    # Only a new run is judged by its first items; a resumed one may begin with nothing but its old failures.
    is_new = not (len(done.items) or done.segments or attempts)
    reused = 0
    if reuse_uri:
        settings = ReuseSettings(
            earlier_uri=reuse_uri, same_by=config.reuse_by, access=spec.decode.access, write=spec.write
        )
        reused = reuse_unchanged(_pending_items(manifest, done, attempts), settings)
        log.info("event=items_reused items=%d run=%s", reused, storage.redact(reuse_uri))
        done = runs.find_completed(spec.write.run_uri)
    start_tracker: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(JobTracker).remote
    tracker = start_tracker(
        early_items=config.early_items if is_new else None,
        early_failed_share=config.early_failed_share,
        earlier_segments=done.segments,
    )
    from fsf_core.score.pipeline import execute  # imported in the meantime: see cluster.local_cluster

    with show_progress(tracker, pending - reused):
        for items in _group(_pending_items(manifest, done, attempts), EXECUTION_ITEMS):
            with unwrap_worker_errors():
                execute(items, spec, tracker)
    return {
        "provider": spec.provider,
        "actors": spec.actors,
        "batch_frames": spec.batch_frames,
        "reused_items": reused,
        "scoring_seconds": round(time.monotonic() - started, 3),
    }


def _render(config: ScoreConfig, appearance: plan.ClassAppearance, out: str, manifest: Manifest) -> dict[str, Any]:
    """Render all videos of a reconciled run; returns the entry of the summary."""
    assert config.render
    style = render.RenderStyle(
        style=config.render,
        legend=config.legend,
        clear_background=config.clear_background,
        names=appearance.names,
        palette=appearance.palette,
    )
    items = render.video_item_ids(out)
    sources = unredacted_uris(manifest, items)
    rendered = render_videos(out, items, style, frame_s=config.item_seconds, sources=sources)
    return {"made": len(rendered.videos), "failed": rendered.failed}


def _reusable_run(config: ScoreConfig, out: str, facts: dict[str, Any]) -> str | None:
    """Return the run of --reuse, or None if none was given or its results do not apply to this run.

    Raises:
        ConfigError: it is this run.
        OutputError: there is no run.
    """
    if not config.reuse:
        return None
    earlier = storage.absolute(config.reuse)
    if earlier.rstrip("/") == out.rstrip("/"):
        raise ConfigError(f"--reuse is {config.reuse}, which is --out too; resuming needs no --reuse, leave it out")
    reason = why_not_reusable(earlier, facts)
    if reason:
        log.info("event=items_reused items=0 run=%s reason=%r", storage.redact(earlier), reason)
        return None
    return earlier


def _count_done(manifest: Manifest, done: runs.Completed) -> int:
    """Return how many items of the manifest are finished."""
    if not len(done.items):  # a new run need not read its manifest again
        return 0
    return int(sum(done.holds(_keys(batch)).sum() for batch in manifest.batches()))


def _resolve_out(config: ScoreConfig) -> str:
    """Return the absolute folder of the run, with the dates of a template filled in."""
    out = storage.absolute(expand_template(config.out, dt.datetime.now(dt.UTC)))
    if out != storage.absolute(config.out):
        log.info("event=out_expanded template=%r out=%r", storage.redact(config.out), storage.redact(out))
    return out


def _require_reachable_stores(manifest: Manifest) -> None:
    """Contact the store of each of the first items once, so that wrong credentials end the job, not every item.

    Raises:
        StorageError: a store refuses all access.
    """
    first: dict[str, str] = {}
    for uri in next(manifest.batches()).column("uri").slice(0, PROBED_ITEMS).to_pylist():
        if not storage.is_local(storage.container_of(uri)):
            first.setdefault(storage.container_of(uri).split("/", 3)[2], storage.container_of(uri))
    for uri in first.values():
        storage.require_bucket(uri)


def _pending_items(manifest: Manifest, done: runs.Completed, attempts: dict[bytes, int]) -> Iterator[pa.Table]:
    """Yield the items that are not finished, with the number of this attempt and the segments that are committed.

    Args:
        manifest: all items.
        done: what is finished.
        attempts: by item key, earlier attempts that failed.
    """
    for listed in manifest.batches():
        batch = listed.append_column("row_digest", manifest.digests(listed))
        if not (len(done.items) or done.segments or attempts):
            rows = batch.append_column("attempt", pa.array(np.ones(batch.num_rows, np.int32)))
            yield rows.append_column("done_segments", pa.nulls(batch.num_rows, pa.list_(pa.int32())))
            continue
        keys = _keys(batch)
        pending = np.flatnonzero(~done.holds(keys))
        pending_keys = [bytes(key).ljust(KEY_BYTES, b"\0") for key in keys[pending]]
        rows = batch.take(pa.array(pending))
        rows = rows.append_column("attempt", pa.array([attempts.get(key, 0) + 1 for key in pending_keys], pa.int32()))
        segments = [sorted(done.segments.get(key, ())) for key in pending_keys]
        yield rows.append_column("done_segments", pa.array(segments, pa.list_(pa.int32())))


def _keys(batch: pa.Table) -> Keys:
    """Return the keys of manifest rows."""
    return item_keys(batch.column("item_id").to_pylist())


def _group(tables: Iterator[pa.Table], min_rows: int) -> Iterator[pa.Table]:
    """Concatenate tables until they have enough rows; the last group may have fewer."""
    group: list[pa.Table] = []
    for table in tables:
        group.append(table)
        if sum(part.num_rows for part in group) >= min_rows:
            yield pa.concat_tables(group)
            group = []
    if sum(part.num_rows for part in group):
        yield pa.concat_tables(group)


def _details(config: ScoreConfig, bundle: Bundle) -> dict[str, Any]:
    """Return facts about this attempt that readers of the run need beside its fingerprint."""
    return {
        "fsf_version": __version__,
        "bundle": storage.redact(bundle.uri),
        "provider": config.provider,
        "honour_exif": bundle.profile.honour_exif,
    }


def _summarize(out: str, manifest: Manifest, *, opened: runs.Run, names: tuple[str, ...]) -> dict[str, Any]:
    """Reconcile the ledger and count.

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
