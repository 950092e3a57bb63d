"""A model on a card: batches of one size, buffers that are reused, and class maps made where the scores are.

The graph gets the same number of images in every call, because a GPU has other algorithms, and other last bits, for
other numbers. Runs on CPUs too, by the same calls. Knows the session; knows no files and no table.
"""

# N images, C channels, K channels of scores, H×W pixels, h×w cells of the network's grid

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import FSFError, ResumableError
from fsf_core.model import preprocess
from fsf_core.model.batch_choice import choose_batch, power_of_two
from fsf_core.model.device_buffers import Buffers, Device, run_bound
from fsf_core.model.engine_cache import BATCH_RANGE
from fsf_core.model.fused_figures import FIGURES, PLANES
from fsf_core.model.fused_split import SplitModel
from fsf_core.model.runtime_messages import first_line, is_out_of_memory
from fsf_core.model.session import broken_card, failed_card, open_model
from fsf_core.model.warm_up import names_driver
from fsf_core.options import ResolvedProvider

CARD_MAX_PIXELS = 4 << 20
"""Largest class map that the card makes: a larger one has many times the bytes of the scores, of which CPUs make it.
Estimated; `python -m tests.bench.bench_gpu --only forms` measures it."""

MAX_CALL_BYTES, MAX_FRAME_BYTES = 256 << 20, 512 << 20
"""Maximum memory of one call of the tail, unless it is for one frame, and for one frame that the card makes."""

PIXEL_BYTES = 13
"""Of a class map while it is made, besides its resized scores: the winner as int64 and int32, and the class."""

MAX_SCORE_BYTES = 512 << 20
"""Maximum bytes of the scores of one batch, unless it is of one frame."""

MAX_MEASURED_BYTES = 128 << 20
"""Maximum bytes of the frames of a batch that is measured, unless it is of one: the decode stage hands over no more at
once, larger batches would never be full, and each call computes all of its places."""

DEFAULT_BATCH = 32
"""Frames per call where nobody gives a number and none is measured: with TensorRT, which has not been run."""

CONCURRENT_BATCHES = 2
"""Sets of buffers: while the network computes one batch, the next is copied to the card, and class maps of the last
are copied back. The network itself computes one batch at a time, so that the memory of its layers is needed once."""

MEASURED_S, MEASURED_CALLS = 0.25, 3
"""Least time and calls of a measurement of one batch size."""

Size = tuple[int, int]
"""Rows and columns."""

log = logging.getLogger("fsf")


class DeviceModel:
    """A model on a provider, for inputs of one size; several threads may call it.

    Attributes:
        batch_frames: frames of every call. It is halved where the memory is full.
        makes_maps: whether the model makes class maps, or scores alone.
        has_figures: whether it returns figures of the probabilities with class maps.
        scores_shape: K, h and w of the scores of a frame.
    """

    def __init__(  # noqa: PLR0913 - what an actor is started with, by name
        self,
        model: bytes | SplitModel,
        *,
        profile: preprocess.Profile,
        provider: ResolvedProvider,
        num_classes: int,
        batch_frames: int | None,
        threads: int = 1,
        memory_bytes: int | None = None,
        engine_cache: str | None = None,
        planes: bool = False,
        meter: Callable[[int], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        """Load the model, verify its provider, and allocate the buffers.

        Args:
            model: content of a plain model's file, or the halves of a fused one.
            profile: of the model.
            provider: execution provider; verified.
            num_classes: of the class maps.
            batch_frames: frames per call; None for what is measured to be fast.
            threads: CPU threads per operator.
            memory_bytes: limit of the memory on the card; None for none.
            engine_cache: folder for TensorRT's engines.
            planes: whether the outputs PLANES are wanted too.
            meter: counts the block that it is given as a call with this number of frames.

        Raises:
            ProviderError: the provider is not available on this machine.
            BundleError: the model cannot be loaded.
            ResumableError: the memory of the card does not suffice for one frame.
        """
        self._halves = model if isinstance(model, SplitModel) else None
        self._profile, self._levels_C256 = profile, profile.levels()
        self._provider, self._device = provider, _device_of(provider)
        self._meter = meter
        # Inputs have one shape, so that a search of seconds for each shape is made once.
        options: Any = {"threads": threads, "conv_search": "EXHAUSTIVE", "trt_cache_dir": engine_cache}
        tail_bytes = memory_bytes // 4 if memory_bytes is not None and self._halves else None
        head_bytes = memory_bytes - (tail_bytes or 0) if memory_bytes is not None else None
        # Half of the tail's memory is left unused, because free memory is fragmented.
        self._tail_call_bytes = tail_bytes // (2 * CONCURRENT_BATCHES) if tail_bytes is not None else MAX_FRAME_BYTES
        head = model.head if isinstance(model, SplitModel) else model
        self._open_head = partial(open_model, head, provider, memory_bytes=head_bytes, **options)
        # TensorRT would build an engine for every size of class maps.
        beside: ResolvedProvider = "cuda" if provider == "tensorrt" else provider
        options = {"memory_bytes": tail_bytes, "threads": threads, "free_sizes": True}
        self._open_tail = self._halves and partial(open_model, self._halves.tail, beside, **options)
        self._open()
        self._class_map_dtype = np.uint8 if num_classes <= 255 else np.uint16  # noqa: PLR2004 - as fusing has it
        self.makes_maps = self._halves is not None
        self.has_figures = self._halves is not None and self._halves.has_figures
        self._figures = (*FIGURES, *(PLANES if planes else ())) if self.has_figures else ()
        self._raw: str = self._halves.raw if self._halves else self._head.get_outputs()[0].name
        self._network = threading.Lock()
        self._pool = threading.Lock()
        self._failure: Exception | None = None
        self._free: queue.LifoQueue[Buffers | None] = queue.LifoQueue()
        self.batch_frames = self._first_batch(batch_frames)
        self._allocate(self.batch_frames)

    def _open(self) -> None:
        """Open the sessions; after those whose memory was full, which keep what they have reserved in unusable pieces.

        Raises:
            ProviderError: the provider is not available on this machine.
            BundleError: the model cannot be loaded.
        """
        self._head: Any = None
        self._tail: Any = None
        self._head = self._open_head()
        self._tail = self._open_tail and self._open_tail()

    # ------------------------------------------------------------------------------------------------------- results

    def makes_map(self, height_px: int, width_px: int) -> bool:
        """Return whether class maps of this size are made on the device."""
        pixels = height_px * width_px
        limit = min(MAX_FRAME_BYTES, self._tail_call_bytes)
        return self.makes_maps and pixels <= CARD_MAX_PIXELS and self._map_bytes(pixels) <= limit

    def class_maps(
        self,
        frames_NHWC: NDArray[np.uint8],
        chosen: Sequence[int],
        sizes: Sequence[Size],
        *,
        outputs: NDArray[np.uint8],
        starts: Sequence[int],
    ) -> dict[str, NDArray[Any]]:
        """Write class maps of frames.

        Args:
            frames_NHWC: as returned by preprocess.fit.
            chosen: positions of the frames of which class maps are wanted; neighbours of one size share a call.
            sizes: of the class map of every frame.
            outputs: where they are written.
            starts: place of every frame's class map in it.

        Returns:
            The outputs FIGURES, and PLANES if wanted, by name, in the order of `chosen`; none of a model of class maps.

        Raises:
            RuntimeError: onnxruntime rejects a batch.
            ResumableError: the memory of the card does not suffice for one frame, or the card fails.
        """
        figures: dict[str, NDArray[Any]] = {}

        def work(buffers: Buffers, at: int, batch: Sequence[int]) -> None:
            self._fill(buffers, frames_NHWC, batch)
            with self._network:
                buffers.run()
            for size, members in groupby(range(len(batch)), lambda one: sizes[batch[one]]):
                self._write_maps(buffers, [*members], [starts[one] for one in batch], size, outputs)
            for name in self._figures:
                values = buffers.kept(name)
                whole = figures.setdefault(name, np.empty((len(chosen), *values.shape[1:]), values.dtype))
                whole[at : at + len(batch)] = values[: len(batch)]

        self._in_batches(chosen, work)
        return figures

    def scores(self, frames_NHWC: NDArray[np.uint8], chosen: Sequence[int], scores_NKhw: NDArray[np.float32]) -> None:
        """Write the network's outputs of frames, which are those of the plain model.

        Args:
            frames_NHWC: as returned by preprocess.fit.
            chosen: positions of the frames of which outputs are wanted.
            scores_NKhw: float32, C-contiguous, as many images as are chosen; overwritten.

        Raises:
            RuntimeError: onnxruntime rejects a batch.
            ResumableError: the memory of the card does not suffice for one frame, or the card fails.
        """

        def work(buffers: Buffers, at: int, batch: Sequence[int]) -> None:
            self._fill(buffers, frames_NHWC, batch)
            with self._network:
                buffers.run_into(scores_NKhw[at : at + len(batch)])

        self._in_batches(chosen, work)

    def _fill(self, buffers: Buffers, frames_NHWC: NDArray[np.uint8], batch: Sequence[int]) -> None:
        """Copy frames to the device, in the form that the head takes."""
        first, last = batch[0], batch[-1]
        follow = all(after - before == 1 for before, after in pairwise(batch))
        frames = frames_NHWC[first : last + 1] if follow else frames_NHWC[batch]
        buffers.fill(frames if self._halves else preprocess.normalise(frames, self._levels_C256))

    def _write_maps(
        self,
        buffers: Buffers,
        members: Sequence[int],
        starts: Sequence[int],
        size: Size,
        outputs: NDArray[np.uint8],
    ) -> None:
        """Write the class maps of frames of a batch that have one size.

        Args:
            buffers: that hold the scores.
            members: consecutive positions in the batch.
            starts: place of the class map of every frame of the batch.
            size: of these class maps.
            outputs: where they are written.
        """
        pixels = size[0] * size[1]
        frame_bytes = pixels * np.dtype(self._class_map_dtype).itemsize
        step = max(1, min(MAX_CALL_BYTES, self._tail_call_bytes) // self._map_bytes(pixels))
        for begin in range(0, len(members), step):
            call = members[begin : begin + step]
            places = [starts[one] for one in call]
            follow = all(after - before == frame_bytes for before, after in pairwise(places))
            if follow:
                room = outputs[places[0] : places[-1] + frame_bytes].view(self._class_map_dtype)
                self._run_tail(buffers, call, room.reshape(len(call), *size))
                continue
            maps_NHW = np.empty((len(call), *size), self._class_map_dtype)
            self._run_tail(buffers, call, maps_NHW)
            for place, class_map_HW in zip(places, maps_NHW, strict=True):
                outputs[place : place + frame_bytes] = class_map_HW.reshape(-1).view(np.uint8)

    def _run_tail(self, buffers: Buffers, call: Sequence[int], room_NHW: NDArray[Any]) -> None:
        """Make class maps of the scores of consecutive frames of a batch."""
        halves = self._halves
        assert halves is not None, "a plain model has no tail"
        address, (_, *shape) = buffers.value(halves.scores)
        frame_bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        run_bound(
            self._tail,
            self._device,
            values=(halves.scores, address + call[0] * frame_bytes, (len(call), *shape)),
            size=(halves.out_hw, (room_NHW.shape[1], room_NHW.shape[2])),
            output=(halves.class_maps, room_NHW),
        )

    def _map_bytes(self, pixels: int) -> int:
        """Return the memory in which a class map is made."""
        return pixels * (self.scores_shape[0] * np.dtype(np.float32).itemsize + PIXEL_BYTES)

    # ------------------------------------------------------------------------------------------- batches and buffers

    def _in_batches(self, chosen: Sequence[int], work: Callable[[Buffers, int, Sequence[int]], None]) -> None:
        """Do the work for all chosen frames, batch by batch; where the memory is full, in smaller batches.

        Args:
            chosen: positions of frames.
            work: gets the buffers, the place of the batch in `chosen`, and its frames.
        """
        at = 0
        while at < len(chosen):
            done = self._run_batch(chosen, at, work)
            if isinstance(done, _Full):
                self._shrink(done)
            else:
                at += done

    def _run_batch(
        self, chosen: Sequence[int], at: int, work: Callable[[Buffers, int, Sequence[int]], None]
    ) -> "int | _Full":
        """Do the work for one batch; returns its frames.

        Nothing refers to the buffers afterwards, nor to an error whose traceback does: they may be replaced.
        """
        buffers = self._take()
        batch = chosen[at : at + buffers.frames]
        try:
            with self._meter(len(batch)):
                work(buffers, at, batch)
        except FSFError:  # a signal that arrived meanwhile
            raise
        except Exception as error:  # onnxruntime's fourteen exception types share no base but this
            reason = first_line(error)
            if is_out_of_memory(error):
                return _Full(frames=buffers.frames, reason=reason)
            if names_driver(str(error)):
                raise failed_card(reason) from error
            raise RuntimeError(
                f"onnxruntime on {self._provider} rejected a batch of {buffers.frames} frames: {reason}"
            ) from error
        finally:
            self._free.put(buffers)
        return len(batch)

    def _take(self) -> Buffers:
        """Return buffers that are free, once there are some."""
        with self._pool:  # not while they are replaced
            buffers = self._free.get()
        if buffers is None:
            self._free.put(None)
            assert self._failure is not None
            raise self._failure
        return buffers

    def _shrink(self, full: "_Full") -> None:
        """Replace all buffers by smaller ones, unless another thread did it.

        Raises:
            ResumableError: the memory does not suffice for one frame; likewise where another thread found that.
        """
        with self._pool:
            if self._failure is not None:
                raise self._failure
            if self.batch_frames < full.frames:
                return
            for _ in range(CONCURRENT_BATCHES):  # waits for the other threads' calls
                self._free.get()
            try:
                frames = self._half(full)
                self._open()
                self._allocate(frames)
            except Exception as error:
                self._failure = error
                self._free.put(None)  # nobody waits for buffers that do not come
                raise

    def _allocate(self, frames: int) -> None:
        """Allocate all buffers, smaller ones where the memory is full."""
        found: list[Buffers] = []
        while len(found) < CONCURRENT_BATCHES:
            buffers = self._buffers(frames)
            if isinstance(buffers, _Full):
                found.clear()
                frames = self._half(buffers)
                self._open()
            else:
                found.append(buffers)
        self.batch_frames = frames
        self.scores_shape = found[0].copied_shape[1:]
        for buffers in found:
            self._free.put(buffers)

    def _half(self, full: "_Full") -> int:
        """Return half as many frames, and log it.

        Raises:
            ResumableError: there is no smaller batch.
        """
        if full.frames == 1 or self._fixed_batch is not None:
            raise ResumableError(
                f"the memory of the card does not suffice for a batch of {full.frames}: {full.reason}; expected room "
                "for the network's layers; end other programs that use the card (see nvidia-smi), give the actor more "
                "of it (--gpus-per-actor 1), or take a card with more memory, and start the same command again"
            )
        log.warning("event=batch_halved frames=%d was=%d reason=%r", full.frames // 2, full.frames, full.reason)
        return full.frames // 2

    def _buffers(self, frames: int) -> "Buffers | _Full":
        """Allocate one set of buffers, and run the network once."""
        rows, columns = self._profile.height_px, self._profile.width_px
        shape = (frames, rows, columns, 3) if self._halves else (frames, 3, rows, columns)
        try:
            with self._network:
                return Buffers(
                    self._head,
                    self._device,
                    input_name=self._head.get_inputs()[0].name,
                    shape=shape,
                    dtype=np.uint8 if self._halves else np.float32,
                    kept=[self._halves.scores, *self._figures] if self._halves else [],
                    copied=self._raw,
                )
        except FSFError:
            raise
        except Exception as error:  # as above
            if is_out_of_memory(error):
                return _Full(frames=frames, reason=first_line(error))
            if names_driver(str(error)):
                raise broken_card(self._provider, first_line(error)) from error
            raise

    @property
    def _fixed_batch(self) -> int | None:
        """Return the images per call that the graph is built for; None if it takes any number."""
        size = self._head.get_inputs()[0].shape[0]
        return size if isinstance(size, int) else None

    # ------------------------------------------------------------------------------------------- choice of the batch

    def _first_batch(self, batch_frames: int | None) -> int:
        """Return the frames per call to begin with."""
        if self._fixed_batch is not None:
            return self._fixed_batch
        most = self._most_frames()
        if self._provider == "tensorrt":
            most = min(most, BATCH_RANGE[-1])
        if batch_frames is not None or self._provider == "tensorrt":
            wanted = batch_frames or DEFAULT_BATCH
            return wanted if wanted <= most else power_of_two(most)  # divides the usual numbers of a block
        frame_bytes = 3 * self._profile.height_px * self._profile.width_px
        most = min(most, max(1, MAX_MEASURED_BYTES // frame_bytes))
        chosen, speeds = choose_batch(self._frames_per_s, most=most)
        measured = ",".join(f"{frames}:{speed:.0f}" for frames, speed in sorted(speeds.items()))
        log.info("event=batch_chosen frames=%d frames_per_s=%s", chosen, measured)
        return chosen

    def _most_frames(self) -> int:
        """Return the largest batch whose scores are within MAX_SCORE_BYTES."""
        [shape] = [output.shape for output in self._head.get_outputs() if output.name == self._raw]
        cells = [size for size in shape[1:] if isinstance(size, int)]
        return max(1, MAX_SCORE_BYTES // (int(np.prod(cells)) * np.dtype(np.float32).itemsize))

    def _frames_per_s(self, frames: int) -> float:
        """Measure a batch of random frames; 0 where the memory does not suffice."""
        buffers = self._buffers(frames)
        speed = 0.0 if isinstance(buffers, _Full) else self._speed_of(buffers)
        if not speed:
            del buffers
            self._open()
        return speed

    def _speed_of(self, buffers: Buffers) -> float:
        """Return the frames/s of calls with these buffers; 0 where the memory is full."""
        shape = (buffers.frames, self._profile.height_px, self._profile.width_px, 3)
        frames_NHWC = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        room = np.empty((0,) if self._halves else buffers.copied_shape, np.float32)
        calls, started = 0, time.perf_counter()
        try:
            while calls < MEASURED_CALLS or time.perf_counter() - started < MEASURED_S:
                self._fill(buffers, frames_NHWC, range(buffers.frames))
                if self._halves:
                    buffers.run()
                else:
                    buffers.run_into(room)
                calls += 1
        except FSFError:
            raise
        except Exception as error:  # as above
            if is_out_of_memory(error):
                return 0.0
            raise
        return calls * buffers.frames / (time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Full:
    """The memory was full."""

    frames: int
    """Of the batch that did not fit."""
    reason: str


def _device_of(provider: ResolvedProvider) -> Device:
    return "cpu" if provider == "cpu" else "cuda"
