"""The scoring job: check, lock the folder, score what is pending, reconcile, publish.

What the options mean on this cluster is decided in `plan`.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from fsf_core import __version__, logs, runs, storage
from fsf_core.config import ScoreConfig
from fsf_core.errors import ClusterError, DamagedPartError
from fsf_core.keys import KEY_BYTES
from fsf_core.manifest import Manifest, column_types, kind_by_name, open_manifest
from fsf_core.model.bundle import Bundle
from fsf_core.model.bundle_files import load_bundle
from fsf_core.nights.template import is_range
from fsf_core.publish import delta
from fsf_core.runs.compaction import compact
from fsf_core.runs.lease import Lease, look_at
from fsf_core.runs.ledger import attempt_of
from fsf_core.score import placement, plan
from fsf_core.score.actor_starts import explained_failures
from fsf_core.score.against import find_reference, reference_record
from fsf_core.score.changes import as_recorded, require_same_values, row_keys_of
from fsf_core.score.cluster import connected_cluster, joins_cluster, on_this_node, unwrap_worker_errors
from fsf_core.score.finish import Work, keys_of, load_ledger, publish, summarize
from fsf_core.score.gate_names import NEEDS
from fsf_core.score.gates import available_needs, failed_gates, parse_gates, require_known_names
from fsf_core.score.metric_table import BATCH_FRAMES, FRAMES
from fsf_core.score.metrics import RunMetrics, exported_metrics
from fsf_core.score.nights import NightJob, find_reused, plan_nights, reuse_record, score_nights, still_reusable
from fsf_core.score.opened import count_cards
from fsf_core.score.preflight import require_reachable_stores, require_ready
from fsf_core.score.progress import show_progress
from fsf_core.score.resumable import resumable
from fsf_core.score.reuse import EarlierRun, reuse_unchanged
from fsf_core.score.tracker import JobTracker
from fsf_core.score.work import WorkMeter
from fsf_core.stages.reuse import ReuseSettings

_trackers = itertools.count(1)
"""Numbers of this process's trackers; the names that the dashboard shows are unique among those of a job."""

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
        The summary, as it is written to the run; `gates.failed_gates` judges it. For a range of dates a dictionary
        with the key nights: an entry for each of them.

    Raises:
        RunError: the options or their input are wrong; no model was called, and the folder is unchanged.
        GateError: almost all of the first items failed.
        InterruptedRunError: a signal ended the job; the run can be resumed.
    """
    nights = plan_nights(config)
    if not is_range(config.date):
        return _score_run(nights[0])
    _require_known_gates(config, nights)
    return score_nights(nights, _score_run)


def _require_known_gates(config: ScoreConfig, nights: Sequence[NightJob]) -> None:
    """Check the names of gates before the first of several nights: a wrong one would refuse each night by itself.

    Raises:
        ConfigError: a name is unknown.
    """
    gates = parse_gates(config.fail_if)
    if not gates:
        return
    if all(runs.is_finished(night.out) for night in nights):
        names = tuple(runs.read_fingerprint(nights[0].out)["classes"])
    elif config.bundle:
        names = plan.class_appearance(config, load_bundle(storage.absolute(config.bundle))).names
    else:
        names = config.classes
    require_known_names(gates, names, NEEDS)  # whether a night has what a figure needs depends on its list


def _score_run(night: NightJob) -> dict[str, Any]:
    """Score one run; returns and raises as `score`."""
    config, out, meter = night.config, night.out, WorkMeter()
    gates = parse_gates(config.fail_if)
    logs.set_fields()  # those of the night before
    if night.series:
        log.info("event=out_expanded template=%r out=%r", night.series.template.uri, storage.redact(out))
    runs.require_usable(out)
    manifest = _open_list(config, out)
    available = available_needs(config, plan.optional_tables(config, manifest))
    if config.checkpoint:  # the export takes minutes
        require_known_names(gates, config.classes, available)
    with contextlib.ExitStack() as stack:
        bundle, lease = _bundle_and_lease(night, stack)
        plan.require_precision(config, bundle)
        appearance = plan.class_appearance(config, bundle)
        facts = plan.fingerprint(config, bundle, manifest, appearance)
        facts_there = as_recorded(facts, manifest, out)
        require_same_values(facts_there, manifest, out)
        runs.require_same(out, facts_there)
        require_known_names(gates, appearance.names, available)
        reference = find_reference(night, appearance.names)
        done, changes = _compare(config, manifest, out)
        pending = manifest.items - changes.finished_items
        metrics = _connect(night, stack, needed=bool(pending or config.render))
        placed = _place(config, out, bundle, manifest) if pending else None
        earlier = find_reused(night, facts) if pending else None
        # Whatever can refuse the job comes before this line, and whatever changes the folder after it.
        stack.enter_context(resumable(out))
        details = _details(config, bundle, out) | reuse_record(earlier) | reference_record(config.against, reference)
        attempt = _begin_attempt(night, lease, facts, details)
        earlier = still_reusable(earlier)
        bundle = plan.keep_bundle(bundle, out)
        _report_lost(done)
        work = Work(
            config=config,
            bundle=bundle,
            manifest=manifest,
            appearance=appearance,
            attempt=attempt,
            superseded=changes.superseded,
            metrics=metrics,
            meter=meter,
            gates=gates,
            reference=reference,
            tables=runs.tables_of(facts),
            night=night.path,
        )
        metrics.begin(
            run_id=attempt.run_id,
            provider=placed.provider if placed else "",
            items=manifest.items,
            resumed=changes.finished_items,
        )
        _begin_changes(work, changes)
        scoring: dict[str, Any] = {
            "provider": config.provider,
            "reused_items": 0,
            "scoring_seconds": 0.0,
            "gpus": [],
            "resumed_items": changes.finished_items,
            "changed_items": changes.changed_items,
            "reused_run": storage.redact(earlier.uri) if earlier else None,
            "night": night.path or None,
        }
        attempts = {} if config.keep_failures else runs.count_attempts(runs.load_ledger(out))
        if placed:
            scoring |= _score_pending(work, placed, done=done, attempts=attempts, pending=pending, earlier=earlier)
        ledger, summary = _settle(work, stack)
        gpus = scoring.pop("gpus")
        summary |= {**scoring, "bundle_sha256": bundle.sha256, "precision": config.precision}
        if done.lost:
            summary["removed"]["lost_parts"] = len(done.lost)
        publish(work, ledger, summary, provider=scoring["provider"] if placed else None, gpus=gpus)
        if night.series:
            night.series.advance()
        if config.delta:
            summary["delta_versions"] = delta.publish_delta(out, storage.absolute(config.delta))
        metrics.finish(summary, failed=bool(failed_gates(summary, max_failed_share=config.max_failed_share)))
        return summary


def _open_list(config: ScoreConfig, out: str) -> Manifest:
    """Open the manifest, and check that its stores can be reached and that the Delta tables can take its rows."""
    outputs = [out, *([storage.absolute(config.delta)] if config.delta else [])]
    types = column_types.parse(config.column_types)
    manifest = open_manifest(config.manifest, plan.selection(config), outputs=outputs, column_types=types)
    plan.require_labels_fit(config, manifest)
    require_reachable_stores(manifest)
    if config.delta:
        delta.require_tables(
            storage.absolute(config.delta),
            run_uri=out,
            extra=manifest.extra,
            items=manifest.batches,
            tables=runs.tables_of({"tables": plan.optional_tables(config, manifest)}),
        )
    return manifest


def _begin_attempt(night: NightJob, lease: Lease, facts: dict[str, Any], details: dict[str, Any]) -> runs.Attempt:
    """Begin an attempt, and bring the pointer of the series up to date: an earlier job may have been killed before."""
    attempt = runs.begin_attempt(night.out, lease, fingerprint=facts, details=details)
    logs.set_fields(run_id=attempt.run_id)
    if night.series:
        night.series.report_unfinished(night.path)
        night.series.advance()
    return attempt


def _bundle_and_lease(night: NightJob, stack: contextlib.ExitStack) -> tuple[Bundle, Lease]:
    """Load the bundle, exported first for --checkpoint, and lock the series and the folder of the run."""
    config, out = night.config, night.out
    bundle = load_bundle(storage.absolute(config.bundle)) if config.bundle else None
    if not bundle:
        stack.enter_context(connected_cluster(config.ray_address, out=out))
        placement.require_gpu(config)
    if night.series:
        look_at(out)
        stack.enter_context(night.series.locked())
    if bundle:
        return bundle, stack.enter_context(runs.lock_run(out))
    lease = stack.enter_context(runs.lock_run(out))  # two jobs would export to the same folder
    return load_bundle(stack.enter_context(plan.exported_bundle(config, out))), lease


def _connect(night: NightJob, stack: contextlib.ExitStack, *, needed: bool) -> RunMetrics:
    """Connect to Ray unless --checkpoint did, and export metrics from here on if its cluster serves them.

    A job with nothing left to score connects for its metrics alone, if it can: it is a success that is waited for.

    Raises:
        ClusterError: the cluster is needed, and cannot be reached.
    """
    config = night.config
    joins = joins_cluster(config.ray_address)
    if not config.checkpoint and (needed or joins):
        with contextlib.nullcontext() if needed else contextlib.suppress(ClusterError):
            stack.enter_context(connected_cluster(config.ray_address, out=night.out))
    return stack.enter_context(exported_metrics(night.given, joined=joins and ray.is_initialized()))


def _place(config: ScoreConfig, out: str, bundle: Bundle, manifest: Manifest) -> placement.Placement:
    """Check that the job can run on the cluster, and choose where its model runs.

    Raises:
        RunError: it cannot.
    """
    require_ready(config, out, bundle, manifest)
    return placement.place(config, bundle, images=_count_few_images(config, manifest))


def _count_few_images(config: ScoreConfig, manifest: Manifest) -> int | None:
    """Return the number of items of a short list, if all of them seem to be images of one frame by their names."""
    # Scored in windows, one image may take minutes; and one of pages is as long as a video.
    if config.tile or config.pages == "all" or manifest.items > placement.FEW_IMAGES:
        return None
    columns = [(batch.column("kind").to_pylist(), batch.column("uri").to_pylist()) for batch in manifest.batches()]
    kinds = [kind or kind_by_name(uri) for found in columns for kind, uri in zip(*found, strict=True)]
    return len(kinds) if all(kind == "image" for kind in kinds) else None


def _compare(config: ScoreConfig, manifest: Manifest, out: str) -> tuple[runs.Completed, runs.Changes]:
    """Compare the manifest with the committed work; returns what of that is still current, and what has changed."""
    ledger = load_ledger(config, out, before=runs.ALL_FAILURES)
    done = runs.find_completed(ledger)
    # A new run need not read its manifest again.
    changes = runs.find_changes(done, row_keys_of(manifest) if len(done.rows) or done.segments else ())
    if len(changes.superseded):
        ledger.superseded = changes.superseded
        done = runs.find_completed(ledger)
        changes = replace(changes, finished_items=_count_done(manifest, done))
    return done, changes


def _begin_changes(work: Work, changes: runs.Changes) -> None:
    """Report the items whose rows have changed; files beside the tables are replaced: the completion mark leaves."""
    if changes.changed_items:
        log.info("event=items_changed items=%d", changes.changed_items)
        if work.config.overlays or work.config.tile:
            work.attempt.unpublish()


def _report_lost(done: runs.Completed) -> None:
    """Log the parts whose files were lost: their items are scored again."""
    for reason in done.lost.values():
        log.warning("event=part_lost error=%r do='its items are scored again'", reason)


def _settle(work: Work, stack: contextlib.ExitStack) -> tuple[runs.Ledger, dict[str, Any]]:
    """Reconcile, count and compact; score the items of damaged parts again as often as one is found.

    Returns:
        The ledger to publish, and the entries of the summary that follow from it.

    Raises:
        ResumableError: an item of the manifest has no result and no failure.
    """
    config, attempt = work.config, work.attempt
    damaged: set[str] = set()
    while True:
        # What this attempt has scored again may have the name of its part that was damaged, whose receipt is gone.
        ledger = work.load_ledger(without={part for part in damaged if attempt_of(part) != attempt.number})
        try:
            summary = summarize(work, ledger)
            if config.delta:
                runs.require_sound(ledger, before=attempt.number)
            if config.compact_mb:
                summary["joined_parts"] = compact(attempt.staging, ledger, target_bytes=config.compact_mb << 20)
        except DamagedPartError as error:
            log.warning("event=part_damaged error=%r do='its items are scored again'", str(error))
            damaged.add(error.part)
            storage.remove(attempt.staging.uri(runs.receipt_path(error.part)))
            _score_again(work, stack, damaged)
        else:
            if damaged:
                summary["removed"]["damaged_parts"] = len(damaged)
            return ledger, summary


def _score_again(work: Work, stack: contextlib.ExitStack, damaged: Collection[str]) -> None:
    """Score the items of damaged parts."""
    ledger = work.load_ledger(without=damaged)
    done = runs.find_completed(ledger)
    stack.enter_context(connected_cluster(work.config.ray_address, out=work.out))
    placed = placement.place(work.config, work.bundle)
    pending = work.manifest.items - _count_done(work.manifest, done)
    _score_pending(work, placed, done=done, attempts={}, pending=pending, earlier=None, committed=ledger.parts)


def _score_pending(
    work: Work,
    placed: placement.Placement,
    *,
    done: runs.Completed,
    attempts: dict[bytes, int],
    pending: int,
    earlier: EarlierRun | None,
    committed: Collection[str] = (),
) -> dict[str, Any]:
    """Copy unchanged results from an earlier run, and score the rest.

    Args:
        work: of the job.
        placed: where the model runs.
        done: what is finished.
        attempts: by item key, earlier attempts that failed.
        pending: number of items that are not finished.
        earlier: to copy from; None without --reuse.
        committed: parts of the run so far, where this attempt has committed some.

    Returns:
        Entries of the summary.

    Raises:
        FSFError: what a worker raised, without Ray's wrapper.
    """
    started = time.monotonic()
    config, manifest = work.config, work.manifest
    spec = plan.plan_pipeline(
        config,
        bundle=work.bundle,
        manifest=manifest,
        appearance=work.appearance,
        placement=placed,
        attempt=work.attempt,
        pending=pending,
    )
    # Only a new run is judged by its first items; a resumed one may begin with nothing but its old failures.
    is_new = not (len(done.rows) or done.segments or attempts)
    reused = 0
    if earlier:
        settings = ReuseSettings(
            earlier_uri=earlier.uri, same_by=config.reuse_by, access=spec.decode.access, write=spec.write
        )
        reused = reuse_unchanged(_pending_items(manifest, done, attempts), earlier, settings)
        log.info("event=items_reused items=%d run=%s", reused, storage.redact(earlier.uri))
        ledger = work.load_ledger()
        done, committed = runs.find_completed(ledger), ledger.parts
    start_tracker: Any = ray.remote(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=on_this_node()
    )(JobTracker).options(name=f"fsf-score-{work.attempt.run_id}-{next(_trackers)}")
    tracker = start_tracker.remote(
        early_items=config.early_items if is_new else None,
        early_failed_share=config.early_failed_share,
        earlier_segments=done.segments,
    )
    born = tracker.counted.remote()  # from its first process
    from fsf_core.score.pipeline import execute  # imported in the meantime: see cluster.local_cluster

    work.metrics.track(tracker, reused=reused, actors=spec.actors, batch_frames=spec.batch_frames)
    with show_progress(tracker, pending - reused), explained_failures(tracker), unwrap_worker_errors():
        execute(_pending_items(manifest, done, attempts), spec, tracker)
    work.metrics.enter("finishing")
    seconds = time.monotonic() - started
    with unwrap_worker_errors():
        (first, _), (last, counted), progress = ray.get([born, tracker.counted.remote(), tracker.progress.remote()])
    if last != first:
        log.warning("event=tracker_restarted lost='CPU and GPU seconds, model calls and bytes until now'")
        counted = {**counted, (FRAMES.name,): work.count_frames(without=committed)}
    work.meter.add(counted, seconds=seconds, provider=spec.provider)
    return {
        "provider": spec.provider,
        "actors": spec.actors,
        "batch_frames": spec.batch_frames or int(counted.get((BATCH_FRAMES.name,), 0)) or None,
        "gpus": count_cards(progress.opened.values()),
        "reused_items": reused,
        "scoring_seconds": round(seconds, 3),
    }


def _count_done(manifest: Manifest, done: runs.Completed) -> int:
    """Return how many items of the manifest are finished."""
    return int(sum(done.holds(keys_of(batch)).sum() for batch in manifest.batches()))


def _pending_items(manifest: Manifest, done: runs.Completed, attempts: dict[bytes, int]) -> Iterator[pa.Table]:
    """Yield the items that are not finished, with the number of this attempt and the segments that are committed.

    Args:
        manifest: all items.
        done: what is finished.
        attempts: by item key, earlier attempts that failed.
    """
    for listed in manifest.batches():
        batch = listed.append_column("row_digest", manifest.digests(listed))
        if not (len(done.rows) or done.segments or attempts):
            rows = batch.append_column("attempt", pa.array(np.ones(batch.num_rows, np.int32)))
            yield rows.append_column("done_segments", pa.nulls(batch.num_rows, pa.list_(pa.int32())))
            continue
        keys = keys_of(batch)
        pending = np.flatnonzero(~done.holds(keys))
        pending_keys = [bytes(key).ljust(KEY_BYTES, b"\0") for key in keys[pending]]
        rows = batch.take(pa.array(pending))
        rows = rows.append_column("attempt", pa.array([attempts.get(key, 0) + 1 for key in pending_keys], pa.int32()))
        segments = [sorted(done.segments.get(key, ())) for key in pending_keys]
        yield rows.append_column("done_segments", pa.array(segments, pa.list_(pa.int32())))


def _details(config: ScoreConfig, bundle: Bundle, out: str) -> dict[str, Any]:
    """Return facts about this attempt that readers of the run need beside its fingerprint."""
    return {
        "fsf_version": __version__,
        "bundle": storage.redact(plan.bundle_home(bundle, out)),
        "provider": config.provider,
        "honour_exif": bundle.profile.honour_exif,
    }
