"""One run of the job: check, claim the folder, score what is pending, settle the books, publish."""

import contextlib
import datetime as dt
import importlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

# Before ray: it reads its environment when it is imported.
from fsf_core.score.cluster import cluster, in_words, joined, largest_node_cpus, our_error, resources  # isort: split

import ray

from fsf_core import __version__, ids, images, masks, render, run, session, storage, timeline, video
from fsf_core.bundle import Bundle, load_bundle, variant_of
from fsf_core.carry import CarrySettings
from fsf_core.compaction import compact
from fsf_core.config import Colours, ScoreConfig, filled_in, parse_colours, parse_shard
from fsf_core.errors import BundleError, ClusterError, ConfigError, FSFError, ProviderError
from fsf_core.isolation import ChildLimits
from fsf_core.manifest import Manifest, Selection, open_manifest
from fsf_core.score.films import draw_films
from fsf_core.score.pipeline import DECODE_CPUS, GPU_PROVIDERS, MASK_CPUS, WRITE_CPUS, Flow, run_wave
from fsf_core.score.reuse import carry_forward, why_nothing
from fsf_core.score.watch import Watch, progress
from fsf_core.stages.decode import DecodeSettings
from fsf_core.stages.infer import probe
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.write import WriteSettings

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
    run.require_usable(out)
    manifest = open_manifest(config.manifest, _selection(config))
    _require_stores(manifest)
    with contextlib.ExitStack() as stack:
        if config.checkpoint:
            stack.enter_context(cluster(config.ray_address))
        bundle = load_bundle(_exported(config, out) if config.checkpoint else storage.absolute(str(config.bundle)))
        _require_precision(config, bundle)
        claim = run.open_run(out, fingerprint=_fingerprint(config, bundle, manifest), details=_details(config, bundle))
        opened = stack.enter_context(claim)
        tried = {} if config.keep_failures else run.forget_failures(out)
        done = run.done(out)
        pending = manifest.items - _done_items(manifest, done)
        how: dict[str, Any] = {"provider": config.provider}
        scoring_s, reused = 0.0, 0
        if pending:
            run.unpublish(out)
            if not config.checkpoint:
                stack.enter_context(cluster(config.ray_address))
            flow = _flow(config, bundle=bundle, manifest=manifest, opened=opened, pending=pending)
            how = {"provider": flow.provider, "actors": flow.actors, "batch_frames": flow.batch_frames}
            scoring = time.monotonic()
            # A resumed run may begin with nothing but its old failures; only a new one is judged by its first items.
            fresh = not len(done.items) and not done.segments and not tried
            if config.reuse:
                reused = _reuse(config, flow, _pending_rows(manifest, done, tried), out=out)
                done = run.done(out)
            watch = Watch.remote(  # type: ignore[attr-defined] # added by the decorator
                early_units=config.early_items if fresh else NEVER, early_share=config.early_failed_share
            )
            _score_pending(flow, _pending_rows(manifest, done, tried), pending=pending - reused, watch=watch)
            scoring_s = time.monotonic() - scoring
        summary = _summary(out, manifest=manifest, bundle=bundle, names=_appearance(config, bundle)[0], opened=opened)
        if config.compact_mb:
            summary["joined_parts"] = compact(out, target_bytes=config.compact_mb << 20)
        if config.render:
            if not (config.checkpoint or pending):
                stack.enter_context(cluster(config.ray_address))
            summary["videos"] = _films(config, bundle, out)
        render.settle(out)
        others = [*timeline.write_video_stats(out), *render.listed(out)]
        summary |= {
            **how,
            "precision": config.precision,
            "resumed_items": manifest.items - pending,
            "reused_items": reused,
        }
        summary |= {"seconds": round(time.monotonic() - started, 3), "scoring_seconds": round(scoring_s, 3)}
        run.publish(out, summary, success=True, others=others)
        return summary


def _films(config: ScoreConfig, bundle: Bundle, out: str) -> dict[str, Any]:
    """Films of all videos of a settled run; what is told of them."""
    names, palette = _appearance(config, bundle)
    assert config.render
    look = render.Look(
        style=config.render,
        legend=config.legend,
        clear_background=config.clear_background,
        names=tuple(names),
        palette=palette,
    )
    drawn = draw_films(out, render.video_items(out), look, frame_s=config.item_seconds)
    return {"made": len(drawn.films), "failed": drawn.failed}


def _reuse(config: ScoreConfig, flow: Flow, rows: Iterator[pa.Table], *, out: str) -> int:
    """Carry forward what an earlier run found of items that have not changed; returns how many items.

    Raises:
        ConfigError: it is this run.
        OutputError: no run is there.
    """
    earlier = storage.absolute(str(config.reuse))
    if earlier.rstrip("/") == out.rstrip("/"):
        raise ConfigError(f"--reuse is {config.reuse}, which is --out too; resuming needs no --reuse, leave it out")
    why = why_nothing(earlier, run.fingerprint(out))
    if why:
        log.info("event=reused items=0 run=%s reason=%r", storage.redact(earlier), why)
        return 0
    settings = CarrySettings(earlier_uri=earlier, same_by=config.reuse_by, schemes=config.schemes, write=flow.write)
    items = carry_forward(rows, settings)
    log.info("event=reused items=%d run=%s", items, storage.redact(earlier))
    return items


def _done_items(manifest: Manifest, done: run.Done) -> int:
    if not len(done.items):  # a new run need not read its list again
        return 0
    return int(sum(done.holds(_keys(batch)).sum() for batch in manifest.batches()))


def _out(config: ScoreConfig) -> str:
    """The folder of the run; a template is filled in once, and what came of it is said."""
    out = storage.absolute(filled_in(config.out, dt.datetime.now(dt.UTC)))
    if out != storage.absolute(config.out):
        log.info("event=out template=%r out=%r", storage.redact(config.out), storage.redact(out))
    return out


def _selection(config: ScoreConfig) -> Selection:
    return Selection(
        where=config.where,
        shard=parse_shard(config.shard),
        sample=config.sample,
        sample_seed=config.sample_seed,
        limit=config.limit,
    )


def _require_stores(manifest: Manifest) -> None:
    """Ask every store of the first items once, so that wrong credentials end the job and not item after item.

    Raises:
        StorageError: a store refuses altogether.
    """
    first: dict[str, str] = {}
    for uri in next(manifest.batches()).column("uri").slice(0, ASKED_ITEMS).to_pylist():
        if not storage.is_local(storage.holder(uri)):
            first.setdefault(storage.holder(uri).split("/", 3)[2], storage.holder(uri))
    for uri in first.values():
        storage.require_known(uri)


def _score_pending(flow: Flow, rows: Iterator[pa.Table], *, pending: int, watch: Any) -> None:
    """Push all pending items through the pipeline, wave by wave.

    Raises:
        FSFError: what a worker raised, without what Ray wrapped around it.
    """
    with progress(watch, pending):
        for wave in _waves(rows):
            try:
                run_wave(wave, flow, watch)
            except ray.exceptions.RayError as error:
                raise our_error(error) or error from None


def _pending_rows(manifest: Manifest, done: run.Done, tried: dict[bytes, int]) -> Iterator[pa.Table]:
    """The items that are not done, with what is known of earlier attempts."""
    for batch in manifest.batches():
        if not len(done.items) and not done.segments and not tried:
            rows = batch.append_column("attempt", pa.array(np.ones(batch.num_rows, np.int32)))
            yield rows.append_column("done_segments", pa.nulls(batch.num_rows, pa.list_(pa.int32())))
            continue
        keys = _keys(batch)
        wanted = np.flatnonzero(~done.holds(keys))
        chosen = [bytes(key).ljust(ids.KEY_BYTES, b"\0") for key in keys[wanted]]
        rows = batch.take(pa.array(wanted))
        rows = rows.append_column("attempt", pa.array([tried.get(key, 0) + 1 for key in chosen], pa.int32()))
        finished = [sorted(done.segments.get(key, ())) for key in chosen]
        yield rows.append_column("done_segments", pa.array(finished, pa.list_(pa.int32())))


def _keys(batch: pa.Table) -> ids.Keys:
    return ids.item_keys(batch.column("item_id").to_pylist())


def _waves(rows: Iterator[pa.Table]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    for table in rows:
        held.append(table)
        if sum(part.num_rows for part in held) >= WAVE_ITEMS:
            yield pa.concat_tables(held)
            held = []
    if sum(part.num_rows for part in held):
        yield pa.concat_tables(held)


def _flow(config: ScoreConfig, *, bundle: Bundle, manifest: Manifest, opened: run.Run, pending: int) -> Flow:
    """Decide how the stages run here.

    Raises:
        ClusterError: the cluster cannot hold the job.
        ProviderError: the provider cannot be had.
    """
    provider = _provider(config, bundle)
    gpu = provider in GPU_PROVIDERS
    fused = gpu and config.mask_size == "original" and variant_of(config.precision, fused=True) in bundle.variants
    rows_columns = bundle.signature.output_shape[2:]
    limits = images.Limits(max_bytes=config.max_bytes, max_pixels=config.max_pixels, max_side_px=config.max_side_px)
    return Flow(
        bundle=bundle,
        variant=variant_of(config.precision, fused=fused),
        provider=provider,
        actors=_actor_count(config, gpu=gpu),
        batch_frames=config.batch_frames or (32 if gpu else 8),
        threads=config.threads,
        engine_cache=config.engine_cache,
        part_units=config.part_units or max(32, min(4096, pending // 256)),
        decode=DecodeSettings(
            profile=bundle.profile,
            limits=limits,
            extra=manifest.extra,
            segment_frames=config.segment_frames,
            overlays=config.overlays,
            schemes=config.schemes,
            sampling=config.sampling(),
            max_frames=config.max_frames,
        ),
        child=ChildLimits(item_s=config.item_seconds, memory_bytes=config.item_memory_mb << 20),
        mask=MaskSettings(
            profile=bundle.profile,
            num_classes=bundle.num_classes,
            palette_K3=np.asarray(_appearance(config, bundle)[1], np.uint8),
            grid_hw=None if fused else (rows_columns[0], rows_columns[1]),
            mask_size=config.mask_size,
            limits=limits,
            clear_background=config.clear_background,
        ),
        write=WriteSettings(
            run_uri=opened.uri,
            run_id=opened.run_id,
            bundle_sha256=bundle.sha256,
            class_names=_appearance(config, bundle)[0],
            extra=manifest.extra,
        ),
    )


def _appearance(config: ScoreConfig, bundle: Bundle) -> tuple[tuple[str, ...], Colours]:
    """Names and colours of the classes: the bundle's, or those that were given.

    Raises:
        ConfigError: not one for every class.
    """
    names, colours = config.classes or bundle.classes, parse_colours(config.palette) or bundle.palette
    for option, given in (("--classes", names), ("--palette", colours)):
        if len(given) != bundle.num_classes or (option == "--classes" and len({*given}) != len(given)):
            raise ConfigError(
                f"{option} has {len({*given})} different entries, expected one for each of the bundle's "
                f"{bundle.num_classes} classes ({', '.join(bundle.classes)})"
            )
    return names, colours


def _fingerprint(config: ScoreConfig, bundle: Bundle, manifest: Manifest) -> dict[str, Any]:
    """All that defines the result. Workers, batches and providers are left out: they must not change it."""
    chosen, sampling = _selection(config).facts(), config.sampling()
    return {
        "bundle_sha256": bundle.sha256,
        "precision": config.precision,
        "manifest": storage.redact(config.manifest.rstrip("/")),
        "classes": list(_appearance(config, bundle)[0]),
        "palette": [list(colour) for colour in _appearance(config, bundle)[1]],
        "columns": {field.name: str(field.type) for field in manifest.extra},
        "mask_size": config.mask_size,
        "overlays": config.overlays,
        "clear_background": config.clear_background,
        "segment_frames": config.segment_frames,
        **({"selection": chosen} if chosen else {}),
        **({"sampling": asdict(sampling)} if sampling != video.EVERY_FRAME else {}),
    }


def _require_precision(config: ScoreConfig, bundle: Bundle) -> None:
    """A precision is a promise, as a provider is.

    Raises:
        BundleError: the bundle lacks it.
    """
    if variant_of(config.precision, fused=False) not in bundle.variants:
        raise BundleError(
            f"asked for {config.precision}, {bundle.uri} holds {', '.join(sorted(bundle.variants))}; export it with "
            f"--precisions {config.precision}, or leave --precision out"
        )


def _details(config: ScoreConfig, bundle: Bundle) -> dict[str, Any]:
    """What readers of the run need to know beside its fingerprint."""
    return {
        "fsf_version": __version__,
        "bundle": storage.redact(bundle.uri),
        "provider": config.provider,
        "honour_exif": bundle.profile.honour_exif,
    }


def _provider(config: ScoreConfig, bundle: Bundle) -> session.Provider:
    """Load the model once where an actor would, so that a promise that cannot be kept ends the job before it begins."""
    wants_gpu = config.provider in GPU_PROVIDERS
    has_gpu = resources()["GPU"] >= 1
    if wants_gpu and not has_gpu:
        raise ProviderError(
            f"asked for {config.provider}, found no GPU in the cluster ({in_words()}); add a GPU node or pass "
            "--provider cpu"
        )
    with_gpu = has_gpu and config.provider != "cpu"
    if with_gpu or joined(config.ray_address):
        remote: Any = ray.remote(num_cpus=1, num_gpus=int(with_gpu), max_retries=0)(_probe)
        try:
            found: tuple[session.Provider, str] = ray.get(remote.remote(bundle.uri, bundle.sha256, config.provider))
        except ray.exceptions.RayError as error:
            raise our_error(error) or error from None
    else:
        found = _probe(bundle.uri, bundle.sha256, config.provider)  # here is where the actors will be
    provider, note = found
    if config.provider == "auto":
        log.info("event=provider asked=auto took=%s note=%r", provider, note)
    return provider


def _probe(uri: str, sha256: str, provider: session.Asked) -> tuple[session.Provider, str]:
    return probe(uri, sha256, provider=provider)


def _actor_count(config: ScoreConfig, *, gpu: bool) -> int:
    """How many actors fit beside the other stages; a pool that takes every CPU would wait for itself for ever.

    Raises:
        ClusterError: they do not fit.
    """
    others = DECODE_CPUS + MASK_CPUS + WRITE_CPUS
    room = int(resources()["CPU"] - others)
    if gpu:
        wanted = config.actors or min(room, int(resources()["GPU"]))
    elif joined(config.ray_address):
        # Actors of a lost node start again elsewhere and take CPUs before tasks do. So by default the largest node is
        # left out: the others must still hold all actors beside the other stages.
        wanted = config.actors or min(room, max(1, int(room - largest_node_cpus())))
    else:
        wanted = config.actors or min(room, os.cpu_count() or 1)
    if wanted < 1 or wanted > room:
        raise ClusterError(
            f"found room for {room} actors beside the other stages, which need {others:g} CPUs ({in_words()}), "
            f"expected {max(wanted, 1)}; add CPUs or pass a smaller --actors"
        )
    return wanted


def _exported(config: ScoreConfig, out: str) -> str:
    """Export --checkpoint as a Ray task, where torch is; returns the bundle's folder, inside the run."""
    folder = storage.join(out, run.BUNDLE_FOLDER)
    request = {
        "net": config.net,
        "checkpoint": storage.absolute(str(config.checkpoint)),
        "classes": config.classes,
        "palette": parse_colours(config.palette) or masks.voc_colours(len(config.classes)),
        "profile": config.profile,
        "pyramid": config.pyramid,
        "cnn_branch": config.cnn_branch,
        "precisions": () if config.precision == "fp32" else (config.precision,),
    }
    task = ray.remote(num_cpus=1, max_retries=0)(_export)
    try:
        ray.get(task.remote(request, folder))
    except ray.exceptions.RayError as error:
        raise our_error(error) or error from None
    return folder


def _export(request: dict[str, Any], folder: str) -> None:
    """Runs on a worker. By name, because scoring must not import torch, not even through the export job."""
    wanted = importlib.import_module("fsf_core.export.request").Request(**request)
    importlib.import_module("fsf_core.export.flow").export(wanted, out=folder)


def _summary(
    out: str, *, manifest: Manifest, bundle: Bundle, names: tuple[str, ...], opened: run.Run
) -> dict[str, Any]:
    """Settle the books and count.

    Raises:
        FSFError: an item of the manifest has no result and no failure; the run is not published.
    """
    removed = run.settle(out)
    totals = run.totals(out, (_keys(batch) for batch in manifest.batches()))
    if totals.missing_items:
        raise FSFError(
            f"{totals.missing_items} of {manifest.items} items have neither a result nor a failure; start the same "
            "command again, and report this if it stays"
        )
    pixels = np.zeros(bundle.num_classes, np.int64)
    pixels[: len(totals.pixels)] = totals.pixels
    return {
        "run_id": opened.run_id,
        "out": out,
        "attempt": opened.attempt,
        "bundle_sha256": bundle.sha256,
        "items": {
            "total": manifest.items,
            "scored": manifest.items - totals.failed_items,
            "failed": totals.failed_items,
            "not_in_manifest": totals.foreign_items,
        },
        "files_left_out": manifest.left_out,
        "frames": totals.frames,
        "failures": dict(run.failure_kinds(out)),
        "classes": [
            {"id": k, "name": name, "pixels": int(pixels[k]), "ratio": float(pixels[k] / max(1, pixels.sum()))}
            for k, name in enumerate(names)
        ],
        "removed": dict(removed),
    }
