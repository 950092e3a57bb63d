"""Pictures of any size at their own scale, window by window: all stages but the last, one picture at a time.

A pixel of the picture is a pixel of the network's input; nothing is resized on the way in. A picture smaller than a
window is mirrored at its right and lower border. The picture passes in bands, as wide as it is and as high as a window,
and its mask leaves in blocks of rows, so that memory grows with its width and not with its area. Knows the stages and
the run's folder; knows no cluster.
"""

# H×W pixels, K classes, h×w cells of a window's grid

import contextlib
import hashlib
import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import masks, runs, storage
from fsf_core.errors import FetchError, FSFError, ItemError, LabelError, LimitError, MaskError
from fsf_core.keys import file_stem
from fsf_core.manifest import LABEL_COLUMN, members
from fsf_core.media import images, rasters
from fsf_core.model import preprocess
from fsf_core.model.input_figures import InputFigures, input_figures
from fsf_core.stages import units
from fsf_core.stages.decode import labels_of, no_watchdog
from fsf_core.stages.decode_row import failures_for_rest, is_video, unit_of_row
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.isolated_decode import CrashError
from fsf_core.stages.label_counts import count_label
from fsf_core.stages.mask import MAX_JPEG_SIDE_PX, MaskSettings, blank_columns, draw_overlay, resized_scores, with_masks
from fsf_core.stages.units import Frame, Unit
from fsf_core.stages.whole_files import read_whole, size_of

OVERLAY_SIDE_PX = 4096
"""Longest side of the overlay of a picture above the limit of pixels or of JPEG; it shows every n-th pixel."""

MAX_WINDOWS, MAX_OUTPUT_BYTES = 16, 64 << 20
"""Windows that the model gets at a time, unless its batch is larger, and the bytes of their scores."""

DIGEST_BYTES = 16 << 20
"""Bytes of a file that are digested at a time."""

InferStage = Callable[[pa.Table], Iterator[pa.Table]]
"""Units with `inputs` to units with `outputs`."""

Timed = Callable[[str], contextlib.AbstractContextManager[Any]]
"""Counts the time of a block for a stage."""


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """Settings of pictures scored in windows."""

    overlap_px: int
    """Pixels that neighbouring windows share at least."""
    batch_frames: int
    """Windows per call of the model."""
    decode: DecodeSettings
    mask: MaskSettings
    staging: runs.Staging
    """Where masks as TIFF are written."""


def score_tiled(
    rows: pa.Table,
    infer: InferStage,
    settings: TileSettings,
    *,
    watchdog: Callable[[bool], None] = no_watchdog,
    timed: Timed = contextlib.nullcontext,
) -> Iterator[pa.Table]:
    """Score pictures in windows.

    Args:
        rows: as for `decode`.
        infer: the infer stage, with a plain model of scores.
        settings: settings of the stage.
        watchdog: called with True when a picture is about to be opened, or its label or a band of it to be read, and
            with False when that is done.
        timed: counts the time of the stages.

    Yields:
        Every item as the mask stage returns its unit, with `mask_paths`: for every frame the path of its mask as TIFF
        inside the run, null where it has none. The mask of a picture above the limit of pixels has no PNG.
    """
    items = rows.to_pylist()
    openers = members.open_prefetched([row["uri"] for row in items], settings.decode.access)
    labels = labels_of(items, settings.decode)
    for row, opener, with_label in zip(items, openers, labels, strict=True):
        picture = _Picture(row=row, unit=unit_of_row(row), settings=settings, watchdog=watchdog, timed=timed)
        watchdog(True)
        try:
            with opener() as file:
                done = picture.score(file, with_label, infer)
        except (ItemError, OSError, MemoryError) as error:
            stage = "mask" if isinstance(error, MaskError) else "label" if isinstance(error, LabelError) else "decode"
            table = _lost(row, _as_item_error(error), settings, stage=stage, version=picture.unit.item_version)
        else:
            table = _as_table(picture.unit, done, settings)
        finally:
            watchdog(False)
        yield table


def tiled_failures(rows: pa.Table, settings: TileSettings, *, times: int) -> pa.Table:
    """Return a failure for every item of rows that ended their process repeatedly, as `score_tiled` yields it."""
    error = CrashError(
        f"scoring this item ended its process {times} times; check the node's memory, and give each actor more of it"
    )
    return pa.concat_tables([_lost(row, error, settings) for row in rows.to_pylist()])


def _lost(
    row: Mapping[str, Any],
    error: ItemError | OSError,
    settings: TileSettings,
    *,
    stage: str = "decode",
    version: str | None = None,
) -> pa.Table:
    """Return the failure of an item."""
    lost = failures_for_rest(row, set(), None, error, stage=stage)
    failed = [replace(unit, item_version=version) for unit in lost]
    return pa.concat_tables([_as_table(unit, blank_columns(unit.failure), settings) for unit in failed])


def _as_table(unit: Unit, done: dict[str, Any], settings: TileSettings) -> pa.Table:
    """Return a unit with what was computed of it."""
    decode = settings.decode
    table = units.to_table([unit], extra=decode.extra, labelled=decode.labelled).drop_columns(["inputs"])
    masked = with_masks(table, [done], settings.mask)
    return masked.append_column("mask_paths", pa.array([done.get("mask_paths", [])], pa.list_(pa.string())))


def _as_item_error(error: ItemError | OSError | MemoryError) -> ItemError | OSError:
    """Return an error as one of an item."""
    if isinstance(error, MemoryError):
        return LimitError("the picture does not fit into memory; give the actor more memory, or a smaller --max-pixels")
    return error


@dataclass(kw_only=True)
class _Picture:
    """One item while it is scored."""

    row: Mapping[str, Any]
    unit: Unit
    settings: TileSettings
    watchdog: Callable[[bool], None]
    timed: Timed
    by_windows: bool = False
    """Whether the file is read while windows are scored."""

    def score(self, file: BinaryIO, with_label: Callable[[Unit], Unit], infer: InferStage) -> dict[str, Any]:
        """Score the picture; returns the columns of the mask stage, and completes the unit.

        Raises:
            ItemError, OSError: it cannot be.
        """
        self.unit = replace(self.unit, item_version=storage.etag_or_mtime(file))
        with self._reading():
            raster = self._open(file)
        limit_px = self.settings.decode.limits.max_pixels
        is_large = raster.height_px * raster.width_px > limit_px
        if is_large and self.row.get(LABEL_COLUMN):
            raise LabelError(
                f"the picture has {raster.width_px}×{raster.height_px} pixels, and labels are counted up to "
                f"{limit_px:,}; leave label_uri empty, or raise --max-pixels if the memory holds both as a whole"
            )
        frame = Frame(frame_index=0, pts_s=None, height_px=raster.height_px, width_px=raster.width_px)
        with self._reading():
            labelled = with_label(replace(self.unit, frames=[frame]))
        if labelled.failure:
            self.unit = labelled
            return blank_columns(labelled.failure)
        with contextlib.ExitStack() as stack:
            scoring = _Scoring.begin(raster, self, stack, is_large=is_large)
            for window, output_Khw in self._inferred(scoring, infer):
                with self.timed("mask"):
                    scoring.add(window, output_Khw)
            if self.by_windows:
                self._require_unchanged(file)
            with self.timed("mask"):  # before its TIFF enters the run: a failure leaves none behind
                done = scoring.end(labelled)
        self.unit = replace(labelled, notes="; ".join([*raster.notes, *scoring.notes()]))
        return done

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Limit the time of a block that reads, and let an unexpected error cost only the item that raised it.

        Raises:
            CrashError: an error that reading should not raise.
        """
        self.watchdog(True)
        try:
            with self.timed("decode"):
                yield
        except (FSFError, OSError, MemoryError):
            raise
        except Exception as error:
            reason = units.failure("decode", error).error_message
            raise CrashError(f"reading this item raised {reason}; copy it again from its source") from error
        finally:
            self.watchdog(False)

    def _open(self, file: BinaryIO) -> rasters.Raster:
        """Open the picture: a TIFF by windows, another format whole.

        Raises:
            ItemError: it is no picture, or a damaged or too large one.
        """
        uri, limits = self.row["uri"], self.settings.decode.limits
        honour_exif = self.settings.decode.profile.honour_exif
        size, head = size_of(file), file.read(images.HEAD_BYTES)
        if is_video(head, self.row["kind"]):
            raise LimitError("found a video, and --tile scores images; leave it out, or score it without --tile")
        if images.sniff(head) == "tiff" and size is not None:
            if storage.is_local(uri) or isinstance(file, io.BytesIO):
                self.unit = replace(self.unit, item_sha256=self._digest(file))
            self.by_windows = True
            return rasters.open_raster(file, honour_exif=honour_exif, limits=limits)
        data = read_whole(file, uri, size=size, max_bytes=limits.max_bytes, head=head)
        self.unit = replace(self.unit, item_sha256=hashlib.sha256(data).hexdigest())
        if images.sniff(head) == "tiff":  # of a web server that cannot seek
            return rasters.open_raster(io.BytesIO(data), honour_exif=honour_exif, limits=limits)
        image_HWC, notes = images.decode_image(data, honour_exif=honour_exif, limits=limits)
        return rasters.whole(image_HWC, notes=(notes,) if notes else ())

    def _require_unchanged(self, file: BinaryIO) -> None:
        """Check that the windows are of one version of a file; a store is asked again.

        A web server is not: some of those that share an address give one file different tags.

        Raises:
            FetchError: the file was written or replaced meanwhile, or is gone.
        """
        if self.unit.item_version is None:
            return
        with self._reading():
            now = storage.version_now(file)
        if now != self.unit.item_version:
            raise FetchError(
                f"{storage.redact(self.row['uri'])} has changed while it was read; is it still being written? Copy it, "
                "or leave it out of the manifest"
            )

    def _digest(self, file: BinaryIO) -> str:
        """Return the digest of a whole file, which may take longer to read than a picture may take to decode."""
        digest = hashlib.sha256()
        file.seek(0)
        while piece := file.read(DIGEST_BYTES):
            digest.update(piece)
            self.watchdog(True)
        return digest.hexdigest()

    def _inferred(self, scoring: "_Scoring", infer: InferStage) -> Iterator[tuple["_Window", NDArray[np.float32]]]:
        """Yield every window with its scores on the network's grid."""
        windows = self._windows(scoring)
        grid_Khw = (self.settings.mask.num_classes, *(self.settings.mask.grid_hw or (0, 0)))
        batch = self.settings.batch_frames
        most = max(batch, min(MAX_WINDOWS, MAX_OUTPUT_BYTES // (4 * math.prod(grid_Khw))) // batch * batch)
        while held := [*itertools.islice(windows, most)]:
            frames = [Frame(frame_index=0, pts_s=None, height_px=0, width_px=0)] * len(held)
            inputs = [window.input_HWC for window in held]
            unit = Unit(item_id=self.unit.item_id, uri="", frames=frames, inputs_HWC=inputs)
            [table] = infer(units.to_table([unit], extra=pa.schema([])))
            yield from zip(held, units.as_array(table.column("outputs"), np.float32, grid_Khw), strict=True)

    def _windows(self, scoring: "_Scoring") -> Iterator["_Window"]:
        """Yield the windows of the picture, row by row."""
        raster, profile = scoring.raster, self.settings.decode.profile
        window_hw = (profile.height_px, profile.width_px)
        for row, top in enumerate(scoring.rows.starts):
            with self._reading():
                height_px = min(window_hw[0], raster.height_px - top)
                band_HWC = raster.read(top, 0, height_px, raster.width_px)
                if scoring.preview:
                    scoring.preview.add_image(top, band_HWC)
                band_HWC = _at_least(band_HWC, *window_hw)
            for column, left in enumerate(scoring.columns.starts):
                with self.timed("decode"):
                    input_HWC = preprocess.fit(band_HWC[:, left : left + window_hw[1]], profile)
                yield _Window(row=row, column=column, input_HWC=input_HWC)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Window:
    """One window of a picture."""

    row: int
    column: int
    input_HWC: NDArray[np.uint8]
    """As the network takes it."""


@dataclass(kw_only=True)
class _Scoring:
    """The mask and the statistics of one picture, while its windows come."""

    raster: rasters.Raster
    settings: TileSettings
    rows: masks.Side
    columns: masks.Side
    blend: masks.WindowBlend
    scan: masks.RowScan
    whole_HW: masks.ClassMap | None
    """The whole class map, of a picture within the limit of pixels."""
    write_tiff: Callable[[int, masks.ClassMap], None] | None
    """Writes it as TIFF, of a picture above that limit or with a place on the ground."""
    path: str | None
    """Of that TIFF inside the run."""
    preview: "_Preview | None"
    """What the overlay is drawn from."""
    figures: "_Figures"

    @classmethod
    def begin(
        cls, raster: rasters.Raster, picture: _Picture, stack: contextlib.ExitStack, *, is_large: bool
    ) -> "_Scoring":
        """Plan the windows, and open what is written while they come; `stack` closes it."""
        settings, size = picture.settings, (raster.height_px, raster.width_px)
        profile, classes = settings.decode.profile, settings.mask.num_classes
        overlap_px = settings.overlap_px
        rows = masks.plan_side(size[0], window_px=profile.height_px, overlap_px=overlap_px)
        columns = masks.plan_side(size[1], window_px=profile.width_px, overlap_px=overlap_px)
        write_tiff, path = None, None
        if is_large or raster.georeference is not None:
            path = f"{runs.MASK_FILES}/{file_stem(picture.unit.item_id, 0)}.tif"
            write_tiff = stack.enter_context(
                _tiff_written(
                    settings.staging,
                    path,
                    height_px=size[0],
                    width_px=size[1],
                    num_classes=classes,
                    palette_K3=settings.mask.palette_K3,
                    georeference=raster.georeference,
                )
            )
        step = -(-max(size) // OVERLAY_SIDE_PX) if is_large or max(size) > MAX_JPEG_SIDE_PX else 1
        return cls(
            raster=raster,
            settings=settings,
            rows=rows,
            columns=columns,
            blend=masks.WindowBlend(rows, columns, num_classes=classes, corners=settings.mask.output.corners),
            scan=masks.RowScan(width_px=size[1], num_classes=classes, min_region_px=settings.mask.min_region_px),
            whole_HW=None if is_large else np.empty(size, masks.class_map_dtype(classes)),
            write_tiff=write_tiff,
            path=path,
            preview=_Preview(*size, step) if settings.decode.overlays else None,
            figures=_Figures(num_classes=classes),
        )

    def add(self, window: _Window, output_Khw: NDArray[np.float32]) -> None:
        """Add a window and its scores on the network's grid.

        Raises:
            MaskError: a score is no finite number.
        """
        output = self.settings.mask.output
        probabilities_Khw = masks.softmax(output_Khw) if output.holds_logits else output_Khw
        scores_Khw = resized_scores(output_Khw, output)
        mask = masks.make_mask(
            probabilities_Khw,
            height_px=self.rows.window_px,
            width_px=self.columns.window_px,
            keep_grid=True,
            scores_Khw=scores_Khw,
            corners=output.corners,
        )
        self._add_figures(window, mask, probabilities_Khw, scores_Khw)
        drawn_Khw = probabilities_Khw if scores_Khw is None else scores_Khw
        for top, rows_HW in self.blend.add(window.row, window.column, mask.class_map_HW, drawn_Khw):
            # What was mirrored is cut off.
            self._write(top, np.ascontiguousarray(rows_HW[: self.raster.height_px - top, : self.raster.width_px]))

    def _add_figures(
        self,
        window: _Window,
        mask: masks.FrameMask,
        probabilities_Khw: NDArray[np.float32],
        scores_Khw: NDArray[np.float32] | None,
    ) -> None:
        """Count the figures of a window; of a mirrored one those of the cells whose centres are in the picture."""
        rows, columns = (
            min(cells, math.ceil(cells * size / window_px - 0.5))
            for cells, size, window_px in (
                (probabilities_Khw.shape[1], self.raster.height_px, self.rows.window_px),
                (probabilities_Khw.shape[2], self.raster.width_px, self.columns.window_px),
            )
        )
        seen = (slice(None), slice(max(1, rows)), slice(max(1, columns)))
        part_Khw = probabilities_Khw[seen]
        if part_Khw.shape != probabilities_Khw.shape:
            scores_Khw = None if scores_Khw is None else scores_Khw[seen]
            mask = masks.make_mask(part_Khw, height_px=1, width_px=1, keep_grid=True, scores_Khw=scores_Khw)
        self.figures.add(mask, input_figures(window.input_HWC, self.settings.decode.profile.channel_order))

    def _write(self, top: int, rows_HW: Any) -> None:
        """Take rows of the class map, which come from top to bottom."""
        if not len(rows_HW):
            return
        self.scan.add(rows_HW)
        if self.whole_HW is not None:
            self.whole_HW[top : top + len(rows_HW)] = rows_HW
        if self.write_tiff:
            self.write_tiff(top, rows_HW)
        if self.preview:
            self.preview.add_map(top, rows_HW)

    def end(self, unit: Unit) -> dict[str, Any]:
        """Return the columns of the mask stage for a unit of one frame.

        Raises:
            LabelError: its label cannot be counted.
        """
        settings, counts = self.settings.mask, self.scan.end()
        frame = unit.frames[0]
        label = unit.labels[0] if unit.labels else None
        cells = None
        if label and self.whole_HW is not None:
            cells = count_label(label.data, self.whole_HW, settings.palette_K3)
        return blank_columns(None) | {
            "frames": [units.frame_to_dict(replace(frame, figures=self.figures.of_inputs())) | self.figures.of_grids()],
            "masks": [None if self.whole_HW is None else masks.encode_png(self.whole_HW, settings.palette_K3)],
            "mask_paths": [self.path],
            "overlays": [draw_overlay(*self.preview.both(), settings)] if self.preview else [],
            "regions": [] if counts.regions is None else [(0, counts.regions)],
            "counts": [cells],
            "pixels": counts.pixels_K.tolist(),
            "components": counts.components_K.tolist(),
            "largest_component_px": counts.largest_component_px_K.tolist(),
            "mean_probability": self.figures.mean_probability().tolist(),
        }

    def notes(self) -> Sequence[str]:
        """Return what was done with the picture."""
        window = f"{self.columns.window_px}×{self.rows.window_px}"
        number = len(self.rows.starts) * len(self.columns.starts)
        found = [f"scored in {number} window{'' if number == 1 else 's'} of {window} pixels"]
        if self.raster.height_px < self.rows.window_px or self.raster.width_px < self.columns.window_px:
            found.append("smaller than a window, so mirrored at its right and lower border")
        if self.preview and self.preview.step > 1:
            found.append(f"the overlay shows every {self.preview.step}th pixel")
        return found


@contextlib.contextmanager
def _tiff_written(staging: runs.Staging, path: str, **mask: Any) -> Iterator[Callable[[int, masks.ClassMap], None]]:
    """Give what writes the next rows of a mask as TIFF, which is in the run once the block has ended without an error.

    Args:
        staging: where the attempt writes.
        path: of the TIFF inside the run.
        mask: arguments of MaskWriter.

    Raises:
        StorageError: the disk is full, or refuses.
    """

    @contextlib.contextmanager
    def failing() -> Iterator[None]:
        try:
            yield
        except OSError:  # a memory that does not hold the rows of a picture is a failure of that picture
            with storage.as_storage_error(storage.join(staging.run_uri, path), "written"):
                raise

    with staging.replacing(path) as local, contextlib.ExitStack() as stack:
        with failing():
            writer = stack.enter_context(rasters.MaskWriter(local, **mask))

        def write(top: int, rows_HW: masks.ClassMap) -> None:
            with failing():
                writer.write(top, rows_HW)

        yield write
        with failing():
            stack.close()


@dataclass(kw_only=True)
class _Figures:
    """Figures of the windows of one picture, added up; cells and pixels in overlaps count once for each window."""

    num_classes: int
    windows: int = 0
    cells: int = 0
    uncertain: float = 0.0
    wins_K: NDArray[np.int64] = field(init=False)
    summed_K: NDArray[np.float64] = field(init=False)
    luma: float = 0.0
    luma_squared: float = 0.0
    sharpness: float = 0.0

    def __post_init__(self) -> None:
        self.wins_K = np.zeros(self.num_classes, np.int64)
        self.summed_K = np.zeros(self.num_classes)

    def add(self, mask: masks.FrameMask, inputs: InputFigures) -> None:
        """Add the figures of a window."""
        assert mask.grid is not None, "kept"
        wins_K = np.bincount(mask.grid.winner_hw.reshape(-1), minlength=self.num_classes)
        self.wins_K += wins_K
        self.summed_K += np.where(wins_K > 0, mask.mean_probability_K, 0) * wins_K
        self.cells += mask.grid.winner_hw.size
        self.uncertain += round(mask.uncertain_share * mask.grid.winner_hw.size)
        self.windows += 1
        self.luma += inputs.brightness
        self.luma_squared += inputs.contrast**2 + inputs.brightness**2
        self.sharpness += inputs.sharpness

    def of_inputs(self) -> InputFigures:
        """Return mean and deviation of the luma of all windows, and the mean of their sharpness."""
        brightness = self.luma / self.windows
        variance = self.luma_squared / self.windows - brightness**2
        return InputFigures(brightness, math.sqrt(max(0.0, variance)), self.sharpness / self.windows)

    def of_grids(self) -> dict[str, float]:
        """Return the figures that the mask stage adds to a frame."""
        return {
            "confidence": float(self.summed_K.sum() / self.cells),
            "uncertain_share": self.uncertain / self.cells,
        }

    def mean_probability(self) -> NDArray[np.float64]:
        """Return the mean probability of each class over the cells that have it; NaN where it wins none."""
        means_K = np.full(self.num_classes, np.nan)
        np.divide(self.summed_K, self.wins_K, out=means_K, where=self.wins_K > 0)
        return means_K


class _Preview:
    """Every n-th pixel of a picture and of its class map."""

    def __init__(self, height_px: int, width_px: int, step: int) -> None:
        self.step = step
        self._image_HWC = np.empty((-(-height_px // step), -(-width_px // step), 3), np.uint8)
        self._map_HW: NDArray[Any] | None = None

    def add_image(self, top: int, band_HWC: NDArray[np.uint8]) -> None:
        """Take rows of the picture."""
        first = -top % self.step
        chosen = band_HWC[first :: self.step, :: self.step]
        at = (top + first) // self.step
        self._image_HWC[at : at + len(chosen)] = chosen

    def add_map(self, top: int, rows_HW: masks.ClassMap) -> None:
        """Take rows of the class map."""
        if self._map_HW is None:
            self._map_HW = np.empty(self._image_HWC.shape[:2], rows_HW.dtype)
        first = -top % self.step
        chosen = rows_HW[first :: self.step, :: self.step]
        at = (top + first) // self.step
        self._map_HW[at : at + len(chosen)] = chosen

    def both(self) -> tuple[NDArray[np.uint8], masks.ClassMap]:
        """Return the pixels of both."""
        assert self._map_HW is not None, "complete"
        return self._image_HWC, self._map_HW


def _at_least(band_HWC: NDArray[np.uint8], height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return a band that is at least as large as a window: a smaller one is mirrored, without its edge."""
    below, right = max(0, height_px - band_HWC.shape[0]), max(0, width_px - band_HWC.shape[1])
    if not (below or right):
        return band_HWC
    return np.asarray(cv2.copyMakeBorder(band_HWC, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)
