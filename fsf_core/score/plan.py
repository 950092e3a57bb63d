"""What a job's options come to, here and now: which items, which bundle, which provider, how many actors.

Knows the options, the bundle and the cluster; runs nothing but the export that was asked for and a probe of the model.
"""

import dataclasses
import importlib
import logging
import os
from typing import Any

import numpy as np
import ray

from fsf_core import runs, storage
from fsf_core.config import Colours, ExportConfig, ModelOptions, ScoreConfig, parse_colours, parse_shard
from fsf_core.errors import BundleError, ClusterError, ConfigError, ProviderError
from fsf_core.manifest import Manifest, Selection
from fsf_core.media import images, video
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.options import Provider, ResolvedProvider
from fsf_core.score.cluster import describe_resources, joins_cluster, largest_node_cpus, resources, unwrap_worker_errors
from fsf_core.score.spec import GPU_PROVIDERS, PipelineSpec, cpus_of_other_stages
from fsf_core.stages.decode_settings import TASK_SEGMENTS, DecodeSettings
from fsf_core.stages.infer import MAX_OUTPUT_BYTES, probe
from fsf_core.stages.isolated_decode import ChildLimits
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.write import WriteSettings

log = logging.getLogger("fsf")


def plan_pipeline(
    config: ScoreConfig, *, bundle: Bundle, manifest: Manifest, opened: runs.Run, pending: int
) -> PipelineSpec:
    """Decide how the stages run here.

    Raises:
        ClusterError: the cluster cannot hold the job.
        ProviderError: the provider cannot be had.
    """
    provider = _provider(config, bundle)
    gpu = provider in GPU_PROVIDERS
    fused = gpu and config.mask_size == "original" and variant_of(config.precision, fused=True) in bundle.variants
    rows_columns = bundle.signature.output_shape[2:]
    segment_frames = _segment_frames(config, bundle)
    limits = images.ImageLimits(
        max_bytes=config.max_bytes, max_pixels=config.max_pixels, max_side_px=config.max_side_px
    )
    return PipelineSpec(
        bundle=bundle,
        variant=variant_of(config.precision, fused=fused),
        provider=provider,
        actors=_actor_count(config, provider),
        separate_stages=gpu,
        owns_cluster=not joins_cluster(config.ray_address),
        batch_frames=config.batch_frames or (32 if gpu else 4),
        threads=config.threads,
        engine_cache=config.engine_cache,
        part_units=config.part_units or max(64, min(4096, pending // 256)),
        decode=DecodeSettings(
            profile=bundle.profile,
            limits=limits,
            extra=manifest.extra,
            segment_frames=segment_frames,
            task_segments=TASK_SEGMENTS * config.segment_frames // segment_frames,
            overlays=config.overlays,
            schemes=config.schemes,
            sampling=config.sampling(),
            max_frames=config.max_frames,
        ),
        child=ChildLimits(item_s=config.item_seconds, memory_bytes=config.item_memory_mb << 20),
        mask=MaskSettings(
            profile=bundle.profile,
            num_classes=bundle.num_classes,
            palette_K3=np.asarray(appearance(config, bundle)[1], np.uint8),
            grid_hw=None if fused else (rows_columns[0], rows_columns[1]),
            mask_size=config.mask_size,
            limits=limits,
            clear_background=config.clear_background,
        ),
        write=WriteSettings(
            run_uri=opened.uri,
            run_id=opened.run_id,
            bundle_sha256=bundle.sha256,
            class_names=appearance(config, bundle)[0],
            extra=manifest.extra,
        ),
    )


def appearance(config: ScoreConfig, bundle: Bundle) -> tuple[tuple[str, ...], Colours]:
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


def fingerprint(config: ScoreConfig, bundle: Bundle, manifest: Manifest) -> dict[str, Any]:
    """All that defines the result. Workers, batches and providers are left out: they must not change it."""
    chosen, sampling = selection(config).facts(), config.sampling()
    return {
        "bundle_sha256": bundle.sha256,
        "precision": config.precision,
        "manifest": storage.redact(config.manifest.rstrip("/")),
        "classes": list(appearance(config, bundle)[0]),
        "palette": [list(colour) for colour in appearance(config, bundle)[1]],
        "columns": {field.name: str(field.type) for field in manifest.extra},
        "mask_size": config.mask_size,
        "overlays": config.overlays,
        "clear_background": config.clear_background,
        "segment_frames": _segment_frames(config, bundle),
        **({"selection": chosen} if chosen else {}),
        **({"sampling": sampling.to_json()} if sampling != video.EVERY_FRAME else {}),
    }


def _segment_frames(config: ScoreConfig, bundle: Bundle) -> int:
    """Frames of one unit: as asked, or as many as have room with all their answers, which stay together."""
    frame_bytes = int(np.prod(bundle.signature.output_shape[1:])) * np.dtype(np.float32).itemsize
    return max(1, min(config.segment_frames, MAX_OUTPUT_BYTES // frame_bytes))


def require_precision(config: ScoreConfig, bundle: Bundle) -> None:
    """A precision is a promise, as a provider is.

    Raises:
        BundleError: the bundle lacks it.
    """
    if variant_of(config.precision, fused=False) not in bundle.variants:
        raise BundleError(
            f"asked for {config.precision}, {bundle.uri} holds {', '.join(sorted(bundle.variants))}; export it with "
            f"--precisions {config.precision}, or leave --precision out"
        )


def _provider(config: ScoreConfig, bundle: Bundle) -> ResolvedProvider:
    """Load the model once where an actor would, so that a promise that cannot be kept ends the job before it begins."""
    wants_gpu = config.provider in GPU_PROVIDERS
    has_gpu = resources()["GPU"] >= 1
    if wants_gpu and not has_gpu:
        raise ProviderError(
            f"asked for {config.provider}, found no GPU in the cluster ({describe_resources()}); add a GPU node or "
            "pass --provider cpu"
        )
    asked = (bundle.uri, bundle.sha256, variant_of(config.precision, fused=False), config.provider)
    with_gpu = has_gpu and config.provider != "cpu"
    if with_gpu or joins_cluster(config.ray_address):
        remote: Any = ray.remote(num_cpus=1, num_gpus=int(with_gpu), max_retries=0)(_probe)
        with unwrap_worker_errors():
            found: tuple[ResolvedProvider, str] = ray.get(remote.remote(*asked))
    else:
        found = _probe(*asked)  # here is where the actors will be
    provider, note = found
    if config.provider == "auto":
        log.info("event=provider asked=auto took=%s note=%r", provider, note)
    return provider


def _probe(uri: str, sha256: str, variant: str, provider: Provider) -> tuple[ResolvedProvider, str]:
    return probe(uri, sha256, variant=variant, provider=provider)


def _actor_count(config: ScoreConfig, provider: ResolvedProvider) -> int:
    """How many actors fit beside the other stages; a pool that left those no CPU would wait for itself for ever.

    Raises:
        ClusterError: they do not fit.
    """
    others = cpus_of_other_stages(provider)
    room = int(resources()["CPU"] - others)
    if provider in GPU_PROVIDERS:
        wanted = config.actors or min(room, int(resources()["GPU"]))
    elif joins_cluster(config.ray_address):
        # Actors of a lost node start again elsewhere, and would wait for ever where there is no room. So by default the
        # largest node is left out.
        wanted = config.actors or min(room, max(1, int(room - largest_node_cpus())))
    else:
        wanted = config.actors or min(room, os.cpu_count() or 1)
    if wanted < 1 or wanted > room:
        beside = f" beside the other stages, which need {others:g} CPUs" if others else ""
        raise ClusterError(
            f"found room for {room} actors{beside} ({describe_resources()}), "
            f"expected {max(wanted, 1)}; add CPUs or pass a smaller --actors"
        )
    return wanted


def exported(config: ScoreConfig, out: str) -> str:
    """Export --checkpoint as a Ray task on a node that has torch; returns the bundle's folder, inside the run."""
    folder = storage.join(out, runs.BUNDLE_FOLDER)
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(ModelOptions)}
    options["checkpoint"] = storage.absolute(str(config.checkpoint))  # the worker's current folder is another
    precisions = () if config.precision == "fp32" else (config.precision,)
    task = ray.remote(num_cpus=1, max_retries=0)(_export)
    with unwrap_worker_errors():
        ray.get(task.remote(ExportConfig(**options, out=folder, precisions=precisions)))
    return folder


def _export(config: ExportConfig) -> None:
    """Export on a worker. Imported by name: scoring must not import torch, not even through the export job."""
    importlib.import_module("fsf_core.export.job").export(config)


def selection(config: ScoreConfig) -> Selection:
    """Which items of the manifest are meant."""
    return Selection(
        where=config.where,
        shard=parse_shard(config.shard),
        sample=config.sample,
        sample_seed=config.sample_seed,
        limit=config.limit,
    )
