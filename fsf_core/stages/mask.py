"""Third stage: the network's outputs to encoded masks and their statistics.

Softmax, then resize, then argmax: the order is part of the model's contract. Where logits are resized, softmax makes
the figures alone. Probabilities take no softmax, and a class map its nearest cell. Knows no model and no files.
"""

# N frames, K classes, H×W pixels

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.errors import ItemError, LabelError, LimitError, MaskError
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.model.bundle import Output
from fsf_core.options import MaskSize
from fsf_core.stages import fused_outputs, units
from fsf_core.stages.label_counts import append_counts, count_label
from fsf_core.stages.region_rows import region_column
from fsf_core.stages.units import Failure

FRAME_FIGURES = ("confidence", "uncertain_share")
"""What this stage adds to every frame."""

MAX_JPEG_SIDE_PX = 65_500
"""Longest side of an overlay: libjpeg's limit."""

STATISTICS = ("pixels", "components", "largest_component_px", "mean_probability")


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Settings of a mask task."""

    profile: preprocess.Profile
    num_classes: int
    palette_K3: NDArray[np.uint8]
    grid_hw: tuple[int, int] | None
    """Rows and columns of the network's output grid; None where they depend on the image, and units have `grids`."""
    output: Output = field(default_factory=Output)
    """What the outputs on the grid mean, and what is resized."""
    mask_size: MaskSize
    """original is the source image's size; model is the network's grid without padding."""
    limits: images.ImageLimits
    """Limits of the source images, which are decoded again for overlays."""
    clear_background: bool
    """Whether overlays leave class 0 unblended."""
    min_region_px: int | None = None
    """Connected regions of fewer pixels are left out; None where no regions are wanted."""
    uncovered_id: int | None = None
    """Class of the pixels that the profile's crop hides; None where the profile has no such class."""


def mask(table: pa.Table, settings: MaskSettings) -> pa.Table:
    """Turn outputs into masks and statistics.

    Args:
        table: units with `outputs` (float32 on settings.grid_hw), or with the columns of fused_outputs (class maps of
            the images' sizes), each unit with either, and with `grids` where the grid depends on the image.
        settings: settings of the stage.

    Returns:
        The units without outputs and source images, with `masks` (list of PNG), `overlays` (list of JPEG, where there
        were source images), and one list of N·K numbers for each of pixels, components, largest_component_px and
        mean_probability. With settings.min_region_px also `regions`, a list of units.REGION. A frame that cannot be
        masked ends its unit, with the failure. Labels are counted (see `append_counts`), and one that cannot be counted
        ends its unit likewise.
    """
    rows = [_mask_unit(row, table, at, settings) for at, row in enumerate(_small_columns(table))]
    return with_masks(table, rows, settings)


def blank_columns(failure: Failure | None) -> dict[str, Any]:
    """Return what `with_masks` takes of a unit without frames."""
    columns: dict[str, Any] = {name: [] for name in ("frames", "masks", "overlays", "regions", "counts", *STATISTICS)}
    return columns | (_failure_columns(failure) if failure else dict.fromkeys(_FAILURE))


def with_masks(table: pa.Table, rows: Sequence[dict[str, Any]], settings: MaskSettings) -> pa.Table:
    """Return units with their masks and statistics, without what these were made from.

    Args:
        table: the units.
        rows: of each unit what this stage adds, by column.
        settings: settings of the stage.
    """
    inferred = {"outputs", fused_outputs.CLASS_MAPS, *fused_outputs.COLUMNS, "grids"}
    kept = table.drop_columns(["source_images", *_FAILURE, *inferred.intersection(table.column_names)])
    frames = pa.array([row["frames"] for row in rows], pa.list_(units.FRAME))
    kept = kept.set_column(kept.column_names.index("frames"), "frames", frames)
    for name in ("masks", "overlays"):
        kept = kept.append_column(name, pa.array([row[name] for row in rows], pa.list_(pa.large_binary())))
    for name in STATISTICS:
        number = pa.float64() if name == "mean_probability" else pa.int64()
        kept = kept.append_column(name, pa.array([row[name] for row in rows], pa.list_(number)))
    if settings.min_region_px is not None:
        kept = kept.append_column("regions", region_column([row["regions"] for row in rows]))
    for name in _FAILURE:
        kept = kept.append_column(name, pa.array([row[name] for row in rows], table.schema.field(name).type))
    return append_counts(kept, [row["counts"] for row in rows]) if "labels" in table.column_names else kept


_FAILURE = ("failed_stage", "error_type", "error_message", "failed_frame")


def _small_columns(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the columns of each unit that this stage reads, without `outputs`."""
    optional = [name for name in ("labels", "grids") if name in table.column_names]
    yield from table.select(["frames", "source_images", *optional, *_FAILURE]).to_pylist()


def _mask_unit(row: dict[str, Any], table: pa.Table, unit: int, settings: MaskSettings) -> dict[str, Any]:
    """Compute the columns that this stage adds, for one unit."""
    done = blank_columns(None) | {name: row[name] for name in _FAILURE}
    labels = row.get("labels")
    grids = _grids(row, settings)
    mapped = fused_outputs.has_class_maps(table, unit)
    outputs = (
        _class_maps(table, unit, row["frames"], settings.num_classes)
        if mapped
        else _scores_on_grid(table, unit, grids, settings)
    )
    figures = fused_outputs.of_unit(table, unit, grids) if mapped else [None] * len(grids)
    for at, (frame, output, measured) in enumerate(zip(row["frames"], outputs, figures, strict=True)):
        try:
            result = _fused_mask(output, measured, settings) if mapped else _frame_mask(output, frame, settings)
            regions = _regions(result, settings)
            sources = row["source_images"]
            overlay = _overlay(sources[at], result.class_map_HW, settings) if sources else None
            cells = count_label(labels[at], result.class_map_HW, settings.palette_K3) if labels else None
        except (ItemError, ValueError, cv2.error, MemoryError) as error:
            stage = "label" if isinstance(error, LabelError) else "mask"
            done |= _failure_columns(units.failure(stage, error, frame_index=frame["frame_index"]))
            break
        done["counts"].append(cells)
        done["frames"].append(frame | {name: _number_or_null(getattr(result, name)) for name in FRAME_FIGURES})
        if regions is not None:
            done["regions"].append((frame["frame_index"], regions))
        if overlay is not None:
            done["overlays"].append(overlay)
        done["masks"].append(masks.encode_png(result.class_map_HW, settings.palette_K3))
        for name in STATISTICS:
            done[name].extend(getattr(result, f"{name}_K").tolist())
    return done


def _number_or_null(value: float) -> float | None:
    """Return a number; None for NaN, which tables and readers of JSON do not share."""
    return None if np.isnan(value) else value


def _grids(row: dict[str, Any], settings: MaskSettings) -> list[tuple[int, int]]:
    """Return rows and columns of the network's grid for every frame of a unit."""
    if settings.grid_hw is None:
        return [(grid["rows"], grid["columns"]) for grid in row["grids"]]
    return [settings.grid_hw] * len(row["frames"])


def _class_maps(table: pa.Table, unit: int, frames: list[dict[str, Any]], num_classes: int) -> list[NDArray[Any]]:
    """Return the class map of every frame, as views of the unit's bytes."""
    data = units.value(table, fused_outputs.CLASS_MAPS, unit)
    sizes = [(frame["height_px"], frame["width_px"]) for frame in frames]
    return units.split(data, masks.class_map_dtype(num_classes), sizes)


def _scores_on_grid(
    table: pa.Table, unit: int, grids: list[tuple[int, int]], settings: MaskSettings
) -> list[NDArray[Any]]:
    """Return the scores_KHW or class_ids_1HW of every frame, as views of the unit's bytes."""
    data = units.value(table, "outputs", unit) if grids else np.empty(0, np.uint8)
    channels = 1 if settings.output.kind == "class_map" else settings.num_classes
    return units.split(data, np.float32, [(channels, *grid) for grid in grids])


def _frame_mask(output: NDArray[Any], frame: dict[str, Any], settings: MaskSettings) -> masks.FrameMask:
    """Compute the mask of one frame from the output of a plain model."""
    box = preprocess.place(frame["height_px"], frame["width_px"], settings.profile)
    inner_KHW = preprocess.crop(output, box, settings.profile)
    if settings.mask_size == "model":
        return _mask_of(inner_KHW, inner_KHW.shape[1], inner_KHW.shape[2], settings)
    if settings.uncovered_id is not None and box.hides:
        return _cropped_mask(inner_KHW, box, frame, settings)
    return _mask_of(inner_KHW, frame["height_px"], frame["width_px"], settings)


def _cropped_mask(
    inner_KHW: NDArray[np.float32], box: preprocess.Box, frame: dict[str, Any], settings: MaskSettings
) -> masks.FrameMask:
    """Compute the mask of a frame of which the network has seen the centre; figures on the grid are the centre's."""
    assert settings.uncovered_id is not None, "the rest has a class"
    size = (frame["height_px"], frame["width_px"])
    whole = _mask_of(preprocess.uncrop(inner_KHW, box, settings.profile), *size, settings)
    seen = preprocess.shown(box, *size, settings.profile)
    class_map_HW = np.full_like(whole.class_map_HW, settings.uncovered_id)
    class_map_HW[seen] = whole.class_map_HW[seen]
    centre = _mask_of(inner_KHW, inner_KHW.shape[1], inner_KHW.shape[2], settings)
    return replace(
        masks.measure(class_map_HW, num_classes=settings.num_classes),
        mean_probability_K=centre.mean_probability_K,
        confidence=centre.confidence,
        uncertain_share=centre.uncertain_share,
        grid=whole.grid,
    )


def _mask_of(cells_KHW: NDArray[Any], height_px: int, width_px: int, settings: MaskSettings) -> masks.FrameMask:
    """Compute a mask of this size from scores without padding."""
    if settings.output.kind == "class_map":
        class_map_HW = masks.nearest(
            cells_KHW[0],
            height_px=height_px,
            width_px=width_px,
            num_classes=settings.num_classes,
            corners=settings.output.corners,
        )
        return masks.measure(class_map_HW, num_classes=settings.num_classes)
    return masks.make_mask(
        cells_KHW,
        height_px=height_px,
        width_px=width_px,
        keep_grid=settings.min_region_px is not None,
        scores_Khw=resized_scores(cells_KHW, settings.output),
        corners=settings.output.corners,
        logits=settings.output.holds_logits,
    )


def resized_scores(inner_KHW: NDArray[np.float32], output: Output) -> NDArray[np.float32] | None:
    """Return what is resized, where that is not the probabilities."""
    if output.background_bias:
        scores_KHW = inner_KHW.copy()
        scores_KHW[0] += np.float32(output.background_bias)
        return scores_KHW
    return inner_KHW if output.resized == "logits" else None


def _fused_mask(
    class_map_HW: NDArray[Any], figures: fused_outputs.FusedFigures | None, settings: MaskSettings
) -> masks.FrameMask:
    """Return the mask of one frame from the class map of a fused model, and its figures unless it outputs no scores.

    Raises:
        MaskError: a probability of the frame was NaN or infinite, or the map holds what is no class.
    """
    if figures is None:
        return masks.measure(class_map_HW, num_classes=settings.num_classes)
    if not figures.finite:
        raise MaskError(masks.NOT_FINITE)
    return replace(
        masks.measure(class_map_HW, num_classes=settings.num_classes),
        mean_probability_K=figures.mean_probability_K,
        confidence=figures.confidence,
        uncertain_share=figures.uncertain_share,
        grid=figures.grid,
    )


def _regions(mask: masks.FrameMask, settings: MaskSettings) -> masks.Regions | None:
    """Return the regions of a mask; None where none are wanted."""
    return None if settings.min_region_px is None else masks.find_regions(mask, min_px=settings.min_region_px)


def _overlay(source_image: bytes, class_map_HW: NDArray[Any], settings: MaskSettings) -> bytes:
    """Blend the class colours over the source image; a JPEG at its size."""
    image_HWC = images.decode_bgr(source_image, honour_exif=settings.profile.honour_exif, limits=settings.limits)
    return draw_overlay(image_HWC, class_map_HW, settings)


def draw_overlay(image_HWC: NDArray[np.uint8], class_map_HW: NDArray[Any], settings: MaskSettings) -> bytes:
    """Blend the class colours over an image (BGR); a JPEG at its size.

    Raises:
        LimitError: a side is longer than a JPEG's.
    """
    height_px, width_px = image_HWC.shape[:2]
    if class_map_HW.shape != (height_px, width_px):
        class_map_HW = cv2.resize(class_map_HW, (width_px, height_px), interpolation=cv2.INTER_NEAREST)
    if max(height_px, width_px) > MAX_JPEG_SIDE_PX:
        raise LimitError(
            f"found an image of {width_px}x{height_px} pixels, and overlays are JPEGs of at most "
            f"{MAX_JPEG_SIDE_PX:,} a side; score it without --overlays, or make it smaller"
        )
    drawn = masks.overlay(image_HWC, class_map_HW, settings.palette_K3, clear_background=settings.clear_background)
    return bytes(cv2.imencode(".jpg", drawn)[1].tobytes())


def _failure_columns(why: Failure) -> dict[str, Any]:
    """Return the failure as columns of a unit."""
    return {
        "failed_stage": why.stage,
        "error_type": why.error_type,
        "error_message": why.error_message,
        "failed_frame": why.frame_index,
    }
