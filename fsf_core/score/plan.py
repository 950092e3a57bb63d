"""Planning: which items, bundle and pipeline the options mean.

Runs nothing but the export that --checkpoint asks for. Where the model runs is decided in `placement`.
"""

import contextlib
import dataclasses
import importlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsf_core import runs, storage
from fsf_core.config import Colours, ExportConfig, ModelOptions, ScoreConfig, parse_colours, parse_shard
from fsf_core.errors import BundleError, ConfigError
from fsf_core.manifest import Manifest, Selection
from fsf_core.media import images, video
from fsf_core.model import preprocess
from fsf_core.model.batch_choice import power_of_two
from fsf_core.model.bundle import DOCUMENT, Bundle, variant_of
from fsf_core.model.bundle_files import move_bundle, require_free
from fsf_core.score.capacity import wait_for
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.placement import Placement
from fsf_core.score.spec import GPU_PROVIDERS, PipelineSpec, frames_per_table
from fsf_core.score.tiling import window_overlap
from fsf_core.score.waiting import run_task
from fsf_core.stages.decode_settings import TASK_SEGMENTS, DecodeSettings
from fsf_core.stages.infer import CPU_BATCH_FRAMES, MAX_OUTPUT_BYTES
from fsf_core.stages.isolated_decode import ChildLimits
from fsf_core.stages.mask import MaskSettings
from fsf_core.stages.tiles import TileSettings
from fsf_core.stages.write import WriteSettings

EXPORT_FOLDER = ".export"
"""Folder inside the run where --checkpoint is exported until the job begins."""

EXPORT_CPUS, EXPORT_LIMIT_S = 1.0, 2 * 3600.0
"""Logical CPUs of the export, and the longest time from its start."""

ASSUMED_FRAME_HW = (1080, 1920)
"""Size of video frames that segments are cut for where the network's input depends on it: segments are cut before any
video is opened."""

SMALL_JOB_ITEMS, SMALL_JOB_BATCH = 50_000, 64
"""Items below which actors on GPUs do not measure batch sizes, and the size they use, or the largest power of two of
which a table holds the inputs: calls that are not full take as long. On an H100 each size takes 1 to
7 s, and the best one has 12 % more frames/s than 64 with FastSegFormer-P: 50,000 images take 15 s (2026-11-28)."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class ClassAppearance:
    """Names and colours of the classes in this run, in the order of their ids."""

    names: tuple[str, ...]
    palette: Colours


def plan_pipeline(
    config: ScoreConfig,
    *,
    bundle: Bundle,
    manifest: Manifest,
    appearance: ClassAppearance,
    placement: Placement,
    attempt: runs.Attempt,
    pending: int,
) -> PipelineSpec:
    """Return the specification of the pipeline.

    Args:
        config: options of the job.
        bundle: its model.
        manifest: its items.
        appearance: names and colours of the classes.
        placement: where the model runs.
        attempt: that holds the run.
        pending: number of items that are not finished.
    """
    gpu = placement.provider in GPU_PROVIDERS
    overlap_px = window_overlap(config, bundle)
    tiled = overlap_px is not None
    as_map = gpu and not tiled and config.mask_size == "original"
    fused = as_map and variant_of(config.precision, fused=True) in bundle.variants
    segment_frames = _segment_frames(config, bundle)
    limits = images.ImageLimits(
        max_bytes=config.max_bytes, max_pixels=config.max_pixels, max_side_px=config.max_side_px
    )
    batch_frames = config.batch_frames or _default_batch(bundle.profile, gpu=gpu, pending=0 if tiled else pending)
    decode = DecodeSettings(
        profile=bundle.profile,
        limits=limits,
        extra=manifest.extra,
        segment_frames=segment_frames,
        task_segments=TASK_SEGMENTS * config.segment_frames // segment_frames,
        overlays=config.overlays,
        access=item_access(config),
        labelled=manifest.has_labels,
        sampling=config.sampling(),
        max_frames=config.max_frames,
        pages=config.pages,
        max_input_px=config.max_input_px,
    )
    mask = MaskSettings(
        profile=bundle.profile,
        num_classes=bundle.num_classes,
        palette_K3=np.asarray(appearance.palette, np.uint8),
        grid_hw=bundle.signature.grid_hw,
        output=bundle.output,
        uncovered_id=bundle.profile.uncovered_id(bundle.classes),
        mask_size=config.mask_size,
        limits=limits,
        clear_background=config.clear_background,
        min_region_px=config.min_region_px if config.regions else None,
    )
    tile = None
    if overlap_px is not None:
        assert batch_frames, "of a job that measures none"
        tile = TileSettings(
            overlap_px=overlap_px, batch_frames=batch_frames, decode=decode, mask=mask, staging=attempt.staging
        )
    return PipelineSpec(
        bundle=bundle,
        variant=variant_of(config.precision, fused=fused),
        provider=placement.provider,
        actors=placement.actors,
        min_actors=placement.min_actors,
        asked_actors=placement.asked_actors,
        separate_stages=gpu and not tiled,
        owns_cluster=not joins_cluster(config.ray_address),
        batch_frames=batch_frames,
        gpus_per_actor=config.gpus_per_actor,
        threads=placement.threads,
        engine_cache=storage.absolute(config.engine_cache) if config.engine_cache else None,
        part_units=config.part_units or max(64, min(4096, pending // 256)),
        decode=decode,
        child=ChildLimits(item_s=config.item_seconds, memory_bytes=config.item_memory_mb << 20),
        mask=mask,
        write=WriteSettings(
            staging=attempt.staging,
            run_id=attempt.run_id,
            bundle_sha256=bundle.sha256,
            class_names=appearance.names,
            extra=manifest.extra,
        ),
        tile=tile,
    )


def _default_batch(profile: preprocess.Profile, *, gpu: bool, pending: int) -> int | None:
    """Return the frames per call where no number is given; None where every actor measures what is fast."""
    if not gpu:
        return CPU_BATCH_FRAMES
    if pending >= SMALL_JOB_ITEMS:
        return None
    return min(SMALL_JOB_BATCH, power_of_two(frames_per_table(profile)))


def item_access(config: ScoreConfig) -> storage.Access:
    """Return which addresses items may have."""
    return storage.Access(schemes=config.schemes, http_hosts=config.http_hosts)


def class_appearance(config: ScoreConfig, bundle: Bundle) -> ClassAppearance:
    """Return names and colours of the classes: those of the options, or else the bundle's.

    Raises:
        ConfigError: there is not exactly one for each class.
    """
    if config.checkpoint:  # the bundle was exported with the names and colours of these options
        return ClassAppearance(names=bundle.classes, palette=bundle.palette)
    names, colours = config.classes or bundle.classes, parse_colours(config.palette) or bundle.palette
    for option, given in (("--classes", names), ("--palette", colours)):
        if len(given) != bundle.num_classes or (option == "--classes" and len({*given}) != len(given)):
            raise ConfigError(
                f"{option} has {len({*given})} different entries, expected one for each of the bundle's "
                f"{bundle.num_classes} classes ({', '.join(bundle.classes)})"
            )
    return ClassAppearance(names=names, palette=colours)


def fingerprint(config: ScoreConfig, bundle: Bundle, manifest: Manifest, appearance: ClassAppearance) -> dict[str, Any]:
    """Return everything that defines the result; actors, batches and providers must not change it."""
    chosen, sampling, tables = selection(config).facts(), config.sampling(), optional_tables(config, manifest)
    overlap_px = window_overlap(config, bundle)
    return {
        "bundle_sha256": bundle.sha256,
        "precision": config.precision,
        "manifest": manifest.address,
        "classes": list(appearance.names),
        "palette": [list(colour) for colour in appearance.palette],
        "columns": {field.name: str(field.type) for field in manifest.extra},
        "mask_size": config.mask_size,
        "overlays": config.overlays,
        "clear_background": config.clear_background,
        "segment_frames": _segment_frames(config, bundle),
        **({"tables": tables} if tables else {}),
        **({"selection": chosen} if chosen else {}),
        **({"sampling": sampling.to_json()} if sampling != video.EVERY_FRAME else {}),
        **({"pages": config.pages} if config.pages != "first" else {}),
        **({"min_region_px": config.min_region_px} if config.regions else {}),
        **({} if overlap_px is None else {"tile": {"overlap_px": overlap_px}}),
    }


def optional_tables(config: ScoreConfig, manifest: Manifest) -> list[str]:
    """Return the names of the tables that the run has by option, sorted."""
    return [*(["confusion"] if manifest.has_labels else []), *(["regions"] if config.regions else [])]


def require_labels_fit(config: ScoreConfig, manifest: Manifest) -> None:
    """Check that masks have the size of labels, which is that of the images.

    Raises:
        ConfigError: they do not.
    """
    if manifest.has_labels and config.mask_size != "original":
        raise ConfigError(
            f"--mask-size is {config.mask_size} and the manifest names labels, expected masks of the images' sizes: a "
            "label is compared pixel by pixel; pass --mask-size original, or rename the column label_uri"
        )


def _segment_frames(config: ScoreConfig, bundle: Bundle) -> int:
    """Return the frames of one unit: as asked, or as many as have their logits within MAX_OUTPUT_BYTES.

    Where the size of the network's input depends on the frames, those of 1920×1080 count, and their inputs too.
    """
    signature = bundle.signature
    input_hw = preprocess.input_hw(*ASSUMED_FRAME_HW, bundle.profile)
    frame_bytes = signature.output_shape[1] * math.prod(signature.grid_of(input_hw)) * np.dtype(np.float32).itemsize
    if signature.has_free_size:
        frame_bytes = max(frame_bytes, 3 * math.prod(input_hw))
    return max(1, min(config.segment_frames, MAX_OUTPUT_BYTES // frame_bytes))


def require_precision(config: ScoreConfig, bundle: Bundle) -> None:
    """Check that the bundle holds the precision that was asked for.

    Raises:
        BundleError: it does not.
    """
    if variant_of(config.precision, fused=False) not in bundle.variants:
        raise BundleError(
            f"asked for {config.precision}, {bundle.uri} holds {', '.join(sorted(bundle.variants))}; export it with "
            f"--precisions {config.precision}, or leave --precision out"
        )


@contextlib.contextmanager
def exported_bundle(config: ScoreConfig, out: str) -> Iterator[str]:
    """Export --checkpoint as a Ray task on a node that has torch, into a hidden folder of a locked run.

    `keep_bundle` takes the bundle from there once nothing can refuse the job; otherwise it is removed at the end of the
    block. A run that has the bundle already keeps it.

    Yields:
        The folder of the bundle.

    Raises:
        OutputError: the run has the bundle of another request.
        RunError: as the export raises.
    """
    kept, staged = storage.join(out, runs.BUNDLE_FOLDER), storage.join(out, EXPORT_FOLDER, runs.BUNDLE_FOLDER)
    if storage.exists(storage.join(kept, DOCUMENT)):
        _export_on_node(config, kept)
        yield kept
        return
    if storage.is_local(out):
        require_free(kept)
    storage.remove_folder(storage.join(out, EXPORT_FOLDER))  # of a job that was killed
    try:
        _export_on_node(config, staged)
        yield staged
    finally:
        storage.remove_folder(storage.join(out, EXPORT_FOLDER))


def bundle_home(bundle: Bundle, out: str) -> str:
    """Return the folder where a bundle stays: for one that was exported for this run, a folder inside the run."""
    staged = bundle.uri == storage.join(out, EXPORT_FOLDER, runs.BUNDLE_FOLDER)
    return storage.join(out, runs.BUNDLE_FOLDER) if staged else bundle.uri


def keep_bundle(bundle: Bundle, out: str) -> Bundle:
    """Move a bundle that was exported for a run to where it stays.

    Raises:
        StorageError: the folder cannot be written.
    """
    home = bundle_home(bundle, out)
    return bundle if home == bundle.uri else move_bundle(bundle, home)


def _export_on_node(config: ScoreConfig, folder: str) -> None:
    """Export --checkpoint to a folder, or check the bundle that it holds."""
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(ModelOptions)}
    for name in ("checkpoint", "model_config"):  # the worker's current folder is another
        if options[name]:
            options[name] = storage.absolute(options[name])
    precisions = () if config.precision == "fp32" else (config.precision,)
    wait_for([{"CPU": EXPORT_CPUS}], limit_s=config.wait_s)
    request = ExportConfig(**options, out=folder, precisions=precisions)
    limits = {"start_s": config.wait_s, "end_s": EXPORT_LIMIT_S}
    for note in run_task(_export, request, what="the export of the model", needs={"CPU": EXPORT_CPUS}, **limits):
        log.info("event=model_exported note=%r", note)


def _export(config: ExportConfig) -> tuple[str, ...]:
    """Export on a worker. Imported by name: scoring must not import torch, not even through the export job.

    Returns:
        Sentences on choices that were made for the user.
    """
    notes: tuple[str, ...] = importlib.import_module("fsf_core.export.job").export(config).notes
    return notes


def selection(config: ScoreConfig) -> Selection:
    """Return the selection of manifest items."""
    return Selection(
        exclude=config.exclude,
        tar_ids=config.tar_ids,
        image_column=config.image_column,
        where=config.where,
        shard=parse_shard(config.shard),
        sample=config.sample,
        sample_seed=config.sample_seed,
        limit=config.limit,
    )
