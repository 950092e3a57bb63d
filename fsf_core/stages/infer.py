"""Second stage: the network's inputs to its outputs, one session per actor.

Knows batches and the session; knows no files and no masks.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fsf_core.errors import BundleError
from fsf_core.model import preprocess
from fsf_core.model.bundle import FUSED, Bundle, Signature
from fsf_core.model.bundle_files import load_bundle, read_model
from fsf_core.model.device_model import DEFAULT_BATCH, DeviceModel
from fsf_core.model.fused_split import split
from fsf_core.model.session import Session
from fsf_core.options import Provider, ResolvedProvider
from fsf_core.stages import fused_outputs, units
from fsf_core.stages.device_units import DeviceUnits
from fsf_core.stages.free_sizes import FreeSizes, frame_sizes
from fsf_core.stages.meter import ModelMeter

# N frames, C channels, K classes, H×W pixels

CHUNK_FRAMES = 64
"""Default maximum frames per output table; each table costs Ray a block."""

CPU_BATCH_FRAMES, GPU_BATCH_FRAMES = 4, DEFAULT_BATCH
"""Frames per call where no number is given and none is measured."""

MAX_OUTPUT_BYTES = 256 << 20
"""Maximum bytes of outputs per table, unless one unit has more."""

MAX_DEVICE_OUTPUT_BYTES = 512 << 20
"""The same beside a GPU: class maps of 128 images of 4 megapixels, or scores of one batch, so that calls are full."""


def probe(
    bundle_uri: str, bundle_sha256: str, *, variant: str, provider: Provider, engine_cache: str | None = None
) -> tuple[ResolvedProvider, str]:
    """Load the model as an actor would, and release it.

    Args:
        bundle_uri: the bundle's folder, reachable from this process.
        bundle_sha256: identity of the bundle that the job was started with.
        variant: model of the bundle.
        provider: execution provider.
        engine_cache: folder on this node for TensorRT's engines.

    Returns:
        The provider that runs it, and the reason for the choice of `auto`.

    Raises:
        BundleError: the bundle is not the one that the job was started with.
        ProviderError: the provider is not available.
    """
    model = read_model(_load_bundle_of_job(bundle_uri, bundle_sha256), variant)
    loaded = Session(model, provider=provider, trt_cache_dir=engine_cache)
    return loaded.provider, loaded.provider_note


class Infer:
    """Runs a bundle's model over units; batches are filled across items.

    Attributes:
        meter: counts the calls of the model.
    """

    def __init__(  # noqa: PLR0913 - what an actor is started with, by name
        self,
        *,
        bundle_uri: str,
        bundle_sha256: str,
        variant: str,
        provider: Provider,
        threads: int,
        batch_frames: int | None,
        memory_bytes: int | None = None,
        engine_cache: str | None = None,
        chunk_frames: int = CHUNK_FRAMES,
        planes: bool = False,
        on_device: bool | None = None,
    ) -> None:
        """Load the model and verify its provider.

        Args:
            bundle_uri: the bundle's folder, reachable from this process.
            bundle_sha256: identity of the bundle that the job was started with.
            variant: model of the bundle; plain ones return logits, fused ones class maps.
            provider: execution provider; verified.
            threads: CPU threads of the session.
            batch_frames: frames per call of the model; None for what is measured on a GPU, and few on a CPU.
            memory_bytes: limit of the model's memory on a GPU; None for none.
            engine_cache: folder on this node for TensorRT's engines.
            chunk_frames: maximum frames per output table, unless a unit or a batch is larger.
            planes: whether a fused model returns the winners on its grid too, of which regions take their probability.
            on_device: whether calls are those of a GPU, of one size and with buffers that stay; None for that on a GPU
                alone. Models whose input depends on the image have others.

        Raises:
            BundleError: the bundle is not the one that the job was started with.
            ProviderError: the provider is not available.
        """
        self.meter = ModelMeter()
        self._on_card: DeviceModel | None = None
        bundle = _load_bundle_of_job(bundle_uri, bundle_sha256)
        self._profile = bundle.profile
        self._levels_C256 = bundle.profile.levels()
        model = read_model(bundle, variant)
        free = bundle.signature.has_free_size
        as_on_gpu = provider not in {"cpu", "auto"} if on_device is None else on_device
        halves = split(model) if as_on_gpu and variant.endswith(FUSED) else None
        self._units: Callable[[pa.Table], Iterator[pa.Table]] = self._with_equal_sizes
        if as_on_gpu and not free and (halves or not variant.endswith(FUSED)):
            assert provider != "auto", "resolved before"
            self._on_card = loaded = DeviceModel(
                halves or model,
                profile=bundle.profile,
                provider=provider,
                num_classes=bundle.num_classes,
                batch_frames=batch_frames,
                threads=threads,
                memory_bytes=memory_bytes,
                engine_cache=engine_cache,
                planes=planes,
                meter=self.meter.call,
            )
            self._units = DeviceUnits(
                model=loaded,
                input_hw=(bundle.profile.height_px, bundle.profile.width_px),
                num_classes=bundle.num_classes,
                max_frames=chunk_frames,
                max_bytes=MAX_DEVICE_OUTPUT_BYTES,
                planes=planes and loaded.has_figures,
            )
            return
        self._session = Session(
            model,
            provider=provider,
            threads=threads,
            trt_cache_dir=engine_cache,
            free_sizes=free,
            memory_bytes=memory_bytes,
        )
        batch_frames = batch_frames or (CPU_BATCH_FRAMES if self._session.provider == "cpu" else GPU_BATCH_FRAMES)
        self._planes = planes and self._session.has_figures
        fixed = self._session.fixed_batch or 1  # only full calls, or as many frames as asked for are run for nothing
        self._batch_frames = -(-batch_frames // fixed) * fixed
        self._max_frames = max(self._batch_frames, chunk_frames)
        self._logits_KHW = (bundle.signature.output_shape[1], *(bundle.signature.grid_hw or (0, 0)))
        self._logit_bytes = int(np.prod(self._logits_KHW)) * np.dtype(np.float32).itemsize
        grid_bytes = int(np.prod(self._logits_KHW[1:])) * fused_outputs.CELL_BYTES
        self._plane_bytes = grid_bytes if self._planes else 0
        if free:
            self._units = self._with_free_sizes(bundle.signature)

    def _with_free_sizes(self, signature: Signature) -> FreeSizes:
        """Return what runs the model where the size of its input depends on the image."""
        return FreeSizes(
            session=self._session,
            profile=self._profile,
            signature=signature,
            meter=self.meter,
            batch_frames=self._batch_frames,
            max_frames=self._max_frames,
            max_bytes=MAX_OUTPUT_BYTES,
            planes=self._planes,
        )

    @property
    def batch_frames(self) -> int:
        """Return the frames of a call. Where the memory of a card is full, they become fewer."""
        return self._on_card.batch_frames if self._on_card else self._batch_frames

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units.

        Args:
            table: units with `inputs`.

        Yields:
            The same units in order, in chunks, without `inputs`, with `outputs`, the bytes of float32 logits_NKHW, or
            with one class map per frame at its original size, and its figures, in the columns of fused_outputs; beside
            GPUs with either (see DeviceUnits). Where the size of the network's input depends on the image, also `grids`
            (see FreeSizes). Units without frames pass through.
        """
        yield from self._units(table)

    def _with_equal_sizes(self, table: pa.Table) -> Iterator[pa.Table]:
        """Run the model over units whose frames have inputs of one size."""
        counts = units.frame_counts(table)
        shape = (self._profile.height_px, self._profile.width_px, 3)
        frames_NHWC = units.as_array(table.column("inputs"), np.uint8, shape)
        rest = table.drop_columns(["inputs"])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        for chunk in units.chunks(counts, self._frames_per_chunk(table)):
            chosen = frames_NHWC[offsets[chunk.start] : offsets[chunk.stop]]
            part = rest.slice(chunk.start, chunk.stop - chunk.start)
            run = self._run_fused if self._session.fused else self._run_plain
            for name, column in run(chosen, part).items():
                part = part.append_column(name, column)
            yield part

    def _frames_per_chunk(self, table: pa.Table) -> int:
        """Return the frames per output table: full batches within MAX_OUTPUT_BYTES, or as much of one batch.

        This bounds the memory: a frame of 1,000 classes on a grid of 224×224 has 200 MB of logits.
        """
        frame_bytes = self._logit_bytes
        if self._session.fused:
            sizes = pc.list_flatten(table.column("frames"))
            pixels = pc.multiply(pc.struct_field(sizes, "height_px"), pc.struct_field(sizes, "width_px"))
            frame_bytes = 2 * (pc.max(pixels).as_py() or 1)  # a class map has 1 or 2 bytes per pixel
            frame_bytes += self._plane_bytes
        frames = min(max(1, MAX_OUTPUT_BYTES // frame_bytes), self._max_frames)
        return frames // self._batch_frames * self._batch_frames or frames

    def _run_plain(self, frames_NHWC: NDArray[np.uint8], part: pa.Table) -> dict[str, pa.LargeBinaryArray]:
        """Return the logits of units, from a plain model."""
        outputs = units.allocate(self._logit_bytes * len(frames_NHWC))
        logits_NKHW = outputs.view(np.float32).reshape(-1, *self._logits_KHW)
        for start in range(0, len(frames_NHWC), self._batch_frames):
            chosen = slice(start, start + self._batch_frames)
            batch_NCHW = preprocess.normalise(frames_NHWC[chosen], self._levels_C256)
            with self.meter.call(len(batch_NCHW)):
                self._session.run_into(batch_NCHW, logits_NKHW[chosen])
        lengths = [count * self._logit_bytes for count in units.frame_counts(part)]
        return {"outputs": units.from_bytes(outputs, lengths)}

    def _run_fused(self, frames_NHWC: NDArray[np.uint8], part: pa.Table) -> dict[str, pa.LargeBinaryArray]:
        """Return class maps and figures of units, from a fused model; a batch has frames of one original size."""
        sizes = frame_sizes(part)
        maps: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(sizes)
        figures: dict[str, NDArray[Any]] = {}
        for (height_px, width_px), members in groupby(
            sorted(range(len(sizes)), key=sizes.__getitem__), sizes.__getitem__
        ):
            chosen = list(members)
            for start in range(0, len(chosen), self._batch_frames):
                batch = chosen[start : start + self._batch_frames]
                frames = frames_NHWC[batch]
                with self.meter.call(len(batch)):
                    class_maps_NHW, found = self._session.run_figures(
                        frames, height_px=height_px, width_px=width_px, planes=self._planes
                    )
                for name, values in found.items():
                    whole = figures.setdefault(name, np.empty((len(sizes), *values.shape[1:]), values.dtype))
                    whole[batch] = values
                for at, class_map_HW in zip(batch, class_maps_NHW, strict=True):
                    maps[at] = class_map_HW.reshape(-1).view(np.uint8)
        counts, lengths, at = units.frame_counts(part), [], 0
        for count in counts:
            lengths.append(sum(len(class_map) for class_map in maps[at : at + count]))
            at += count
        whole = np.concatenate([np.empty(0, np.uint8), *maps])
        columns = {fused_outputs.CLASS_MAPS: units.from_bytes(whole, lengths)}
        if self._session.has_figures:
            columns |= fused_outputs.to_columns(figures, counts, planes=self._planes)
        return columns


def _load_bundle_of_job(uri: str, expected_sha256: str) -> Bundle:
    """Load the bundle that the job was started with; a replaced one would mix two models in one run.

    Raises:
        BundleError: the bundle is another, or invalid.
    """
    bundle = load_bundle(uri)
    if bundle.sha256 != expected_sha256:
        raise BundleError(
            f"{uri} holds bundle {bundle.sha256[:12]}, the job was started with {expected_sha256[:12]}; restore that "
            "bundle, or start a new run"
        )
    return bundle
