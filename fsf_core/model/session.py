"""A model on an execution provider; the only module that imports onnxruntime.

The requested provider runs, or a ProviderError names the reason; there is no silent fallback. Knows providers, threads
and tensors. Knows no image formats, no class names, and no file but the model.
"""

# N images, C channels, K classes, H rows, W columns

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import BundleError, FetchError, FSFError, ProviderError, ResumableError
from fsf_core.model.cuda_driver import cuda_devices, first_card, missing_library
from fsf_core.model.engine_cache import EngineKey, engine_options, shape_profile, tensorrt_version
from fsf_core.model.fused_figures import FIGURES, PLANES, figure_outputs
from fsf_core.model.runtime_messages import first_line, is_out_of_memory
from fsf_core.model.warm_up import names_driver, warm_up
from fsf_core.options import Provider, ResolvedProvider

_NAMES: dict[ResolvedProvider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# Operators that must run on the requested GPU. onnxruntime deliberately places shape computations (Gather, Slice,
# Concat of a few integers) on the CPU; they are not listed.
_ARITHMETIC = frozenset(
    {"Conv", "FusedConv", "NhwcConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Attention"}
    | {"BatchNormalization", "GroupNormalization", "GroupNorm", "LayerNormalization", "InstanceNormalization"}
    | {"Gelu", "BiasGelu", "Relu", "Sigmoid", "Softmax", "ArgMax", "Resize", "MaxPool", "AveragePool", "Einsum"}
)


ConvSearch = Literal["EXHAUSTIVE", "HEURISTIC"]
"""How cuDNN finds the algorithm of a convolution. EXHAUSTIVE times all of them for each new shape, which takes seconds
and gives 8 to 10 % more frames per second (P and E, batch 32, H100, 2026-11-28). DEFAULT is ten times slower there."""


class Session:
    """A loaded model, plain (float batch to logits) or fused (uint8 frames to class maps and counts).

    Attributes:
        provider: the provider that runs; the requested one, except with `auto`.
        provider_note: the reason for the choice of `auto`; empty otherwise.
        fused: whether the model takes uint8 frames and returns class maps.
        has_figures: whether a fused model returns figures of the probabilities too; one of class maps has none.
        input_name: name of the input tensor.
        input_shape: its shape, None where any size is accepted.
        output_name: name of the tensor of logits, or of class maps of a fused model.
        output_shape: its shape, None where any size is possible.
        num_classes: number of classes; None if the graph does not fix it.
        grid_hw: rows and columns of the logits; None for a fused model, or if the graph does not fix them.
        fixed_batch: images per call of onnxruntime that the graph is built for; None if it takes any number. Every
            method here takes any number: a batch is cut into calls of that size, and the last is filled up.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        provider: Provider = "cpu",
        threads: int = 1,
        trt_cache_dir: str | None = None,
        free_sizes: bool = False,
        keep_memory: bool = True,
        memory_bytes: int | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: path, URI or content of an ONNX file with its weights inside; external data is refused.
            provider: execution provider; any but `auto` is verified.
            threads: CPU threads per operator; one process per core with one thread each is fastest.
            trt_cache_dir: folder on this node for TensorRT's engines, which take minutes to build.
            free_sizes: whether calls have images of many sizes; memory is then not planned for each of them.
            keep_memory: whether the memory of a call on the CPU is kept for the next one, which is faster. An export
                has several sessions, each of which would hold the outputs of its largest batch.
            memory_bytes: limit of the arena on a GPU, beside which cuDNN and the driver take some; None for none.

        Raises:
            ProviderError: the provider is not available on this machine.
            BundleError: the model cannot be read or loaded.
        """
        data = _model_bytes(model)
        data += figure_outputs(data)
        self.provider_note = ""
        if provider == "auto":
            self.provider, self._session, self.provider_note = _open_auto(data, threads, free_sizes)
        else:
            options = _options(threads, free_sizes)
            options.enable_cpu_mem_arena = keep_memory
            providers = _providers(provider, memory_bytes=memory_bytes)
            self.provider, self._session = provider, _open(data, provider, options, providers, trt_cache_dir)
        self._read_signature()

    def _read_signature(self) -> None:
        """Read names and shapes of inputs and outputs from the loaded graph."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.input_name: str = inputs[0].name
        self.input_shape = _fixed_sizes(inputs[0].shape)
        self.fixed_batch: int | None = self.input_shape[0] if self.input_shape else None
        self.output_name: str = outputs[0].name
        self.output_shape = _fixed_sizes(outputs[0].shape)
        # Frames and size in, class maps, counts and figures out; a foreign model may take uint8 too.
        names = [output.name for output in outputs[2:]]
        self.fused: bool = inputs[0].type == "tensor(uint8)" and (len(inputs), len(outputs) - len(names)) == (2, 2)
        self.fused &= names in ([], [*FIGURES, *PLANES])
        self.has_figures: bool = self.fused and bool(names)
        if self.fused:
            self._size_name: str = inputs[1].name
            self._counts_name: str = outputs[1].name
            self.num_classes = _fixed_sizes(outputs[1].shape)[-1]
            self.grid_hw: tuple[int, int] | None = None
            return
        _, classes, rows, columns = self.output_shape if len(self.output_shape) == 4 else (None,) * 4  # noqa: PLR2004 - NKHW
        self.num_classes = classes
        self.grid_hw = None if rows is None or columns is None else (rows, columns)

    def run(self, batch_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of a batch.

        Args:
            batch_NCHW: float32, normalised with the model's profile.

        Returns:
            logits_NKHW, float32, on the model's output grid. An image gives the same bits in any batch.

        Raises:
            RuntimeError: onnxruntime rejects the batch or runs out of memory.
        """
        assert not self.fused, "a fused model takes run_fused"
        if self.fixed_batch is None:
            return np.asarray(self._call([self.output_name], {self.input_name: batch_NCHW})[0])
        parts = [
            self._call([self.output_name], {self.input_name: filled})[0][:count]
            for filled, count in _calls(batch_NCHW, self.fixed_batch)
        ]
        return np.concatenate(parts)

    def run_into(self, batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
        """Run a batch without copies: the model writes into the given logits.

        Args:
            batch_NCHW: float32, C-contiguous, normalised with the model's profile.
            logits_NKHW: float32, C-contiguous, of the shape that `run` returns; overwritten.

        Raises:
            RuntimeError: onnxruntime rejects the batch or the shape of the logits, or runs out of memory.
        """
        assert not self.fused, "a fused model takes run_fused"
        assert logits_NKHW.flags.c_contiguous, "the model writes to its address"
        assert logits_NKHW.flags.writeable, "the model writes to it"
        start = 0
        for filled, count in _calls(batch_NCHW, self.fixed_batch):
            wanted = logits_NKHW if len(batch_NCHW) == count else logits_NKHW[start : start + count]
            if len(filled) == count:
                self._run_bound(filled, wanted)
            else:
                room = np.empty((len(filled), *wanted.shape[1:]), wanted.dtype)
                self._run_bound(filled, room)
                wanted[:] = room[:count]
            start += count

    def _run_bound(self, batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
        """Run one batch of a size that the graph takes, into the given logits.

        Raises:
            RuntimeError: onnxruntime rejects the batch or the shape of the logits, or runs out of memory.
        """
        try:
            binding = self._session.io_binding()
            binding.bind_cpu_input(self.input_name, batch_NCHW)
            address = logits_NKHW.ctypes.data
            binding.bind_output(self.output_name, "cpu", 0, logits_NKHW.dtype.type, logits_NKHW.shape, address)
            self._session.run_with_iobinding(binding)
        except FSFError:  # a signal that arrived meanwhile
            raise
        except Exception as error:  # its fourteen exception types share no base but this
            raise self._run_error({self.input_name: batch_NCHW}, error) from error

    def run_fused(
        self, frames_NHWC: NDArray[np.uint8], *, height_px: int, width_px: int
    ) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int32]]:
        """Return the class maps and pixel counts of a batch of frames, from a fused model.

        Args:
            frames_NHWC: uint8, as returned by preprocess.fit, channels in the network's order.
            height_px: rows of the class maps.
            width_px: columns of the class maps.

        Returns:
            class_maps_NHW (uint8, uint16 above 255 classes) and counts_NK (int32 pixels per class).

        Raises:
            RuntimeError: onnxruntime rejects the batch or runs out of memory.
        """
        names = [self.output_name, self._counts_name]
        class_maps_NHW, counts_NK = self._run_frames(frames_NHWC, names, height_px=height_px, width_px=width_px)
        return class_maps_NHW, counts_NK

    def run_figures(
        self, frames_NHWC: NDArray[np.uint8], *, height_px: int, width_px: int, planes: bool
    ) -> tuple[NDArray[np.unsignedinteger[Any]], dict[str, NDArray[Any]]]:
        """Return the class maps of a batch of frames, and figures of the probabilities they were made from.

        Args:
            frames_NHWC: as for `run_fused`.
            height_px: rows of the class maps.
            width_px: columns of the class maps.
            planes: whether winners and their probabilities on the network's grid are wanted too.

        Returns:
            class_maps_NHW, and by name the outputs of `fused_figures`: FIGURES, and with planes PLANES; none of a model
            of class maps.

        Raises:
            RuntimeError: onnxruntime rejects the batch or runs out of memory.
        """
        names = [*FIGURES, *(PLANES if planes else ())] if self.has_figures else []
        class_maps_NHW, *figures = self._run_frames(
            frames_NHWC, [self.output_name, *names], height_px=height_px, width_px=width_px
        )
        return class_maps_NHW, dict(zip(names, figures, strict=True))

    def _run_frames(
        self, frames_NHWC: NDArray[np.uint8], names: list[str], *, height_px: int, width_px: int
    ) -> list[NDArray[Any]]:
        """Return outputs of a fused model for a batch of any size."""
        assert self.fused, "a plain model takes run"
        size = np.array([height_px, width_px], np.int64)
        calls = []
        for filled, count in _calls(frames_NHWC, self.fixed_batch):
            outputs = self._call(names, {self.input_name: filled, self._size_name: size})
            # The shapes of what is not filled up are checked elsewhere.
            calls.append(outputs if len(filled) == count else [output[:count] for output in outputs])
        return calls[0] if len(calls) == 1 else [np.concatenate(parts) for parts in zip(*calls, strict=True)]

    def _call(self, names: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs of these names.

        Raises:
            RuntimeError: onnxruntime rejects the inputs or runs out of memory.
        """
        try:
            outputs: list[NDArray[Any]] = self._session.run(names, feed)
        except FSFError:  # a signal that arrived meanwhile
            raise
        except Exception as error:  # its fourteen exception types share no base but this
            raise self._run_error(feed, error) from error
        return outputs

    def _run_error(self, feed: dict[str, NDArray[Any]], error: Exception) -> RuntimeError:
        """Return an error with the shapes of the inputs and the first line of onnxruntime's."""
        shapes = ", ".join(f"{name} {value.dtype} {list(value.shape)}" for name, value in feed.items())
        return RuntimeError(f"onnxruntime on {self.provider} rejected {shapes}: {first_line(error)}")


def open_model(
    data: bytes,
    provider: ResolvedProvider,
    *,
    threads: int = 1,
    trt_cache_dir: str | None = None,
    memory_bytes: int | None = None,
    conv_search: ConvSearch = "HEURISTIC",
    free_sizes: bool = False,
) -> Any:
    """Return a session of onnxruntime on a provider, which is verified; see Session for the arguments.

    The first call, which loads some libraries, is the caller's; `broken_card` is for what it raises.

    Raises:
        ProviderError: the provider is not available on this machine.
        BundleError: the model cannot be loaded.
    """
    providers = _providers(provider, memory_bytes=memory_bytes, conv_search=conv_search)
    return _open(data, provider, _options(threads, free_sizes), providers, trt_cache_dir, warm=False)


def runtime_version() -> str:
    """Return the version of onnxruntime."""
    return str(ort.__version__)


@cache
def newest_ir_version() -> int:
    """Return the newest version of the ONNX format that this onnxruntime reads."""
    return _newest(b"\x08\xff\x7f\x3a\x00\x42\x02\x10\x08", r"max supported IR version: (\d+)")  # IR 16383, empty graph


@cache
def newest_opset() -> int:
    """Return the newest version of ONNX's own operators that this onnxruntime reads."""
    return _newest(b"\x08\x08\x3a\x00\x42\x03\x10\xff\x7f", r"is till opset (\d+)")  # opset 16383, empty graph


def _newest(model: bytes, words: str) -> int:
    """Return the number that onnxruntime names when it refuses a model; the largest there is if it names none."""
    try:
        _create(model, _options(1), [_NAMES["cpu"]])
    except BundleError as error:
        found = re.search(words, str(error))
        return int(found[1]) if found else sys.maxsize
    return sys.maxsize


def _model_bytes(model: str | Path | bytes) -> bytes:
    """Read the model unless it is bytes already.

    Raises:
        BundleError: it is missing or cannot be read.
    """
    if isinstance(model, bytes):
        return model
    try:
        return storage.read_bytes(str(model))
    except FetchError as error:
        reason = error if storage.exists(str(model)) else f"{model} does not exist"
        raise BundleError(f"the model cannot be read: {reason}; expected an ONNX file, check the path") from error


def _open_auto(data: bytes, threads: int, free_sizes: bool) -> tuple[ResolvedProvider, Any, str]:  # noqa: FBT001 - as Session's
    """Open on CUDA if it works, else on the CPU; return the reason too. TensorRT, slow to start, is only on request."""
    count, reason = cuda_devices()
    if count:
        try:
            return (
                "cuda",
                _open(data, "cuda", _options(threads, free_sizes), _providers("cuda")),
                f"auto chose cuda: {count} device(s) visible",
            )
        except ProviderError as error:
            reason = str(error)
    return "cpu", _open(data, "cpu", _options(threads, free_sizes), _providers("cpu")), f"auto chose cpu: {reason}"


def _open(
    data: bytes,
    provider: ResolvedProvider,
    options: Any,
    providers: list[Any],
    trt_cache_dir: str | None = None,
    *,
    warm: bool = True,
) -> Any:
    """Create the session and verify that it runs on the provider; warm: one image too.

    Raises:
        ProviderError: the provider is not available on this machine.
        BundleError: the model cannot be loaded.
    """
    if provider == "cpu":
        return _create(data, options, providers)
    count, reason = cuda_devices()
    if not count:
        raise ProviderError(
            f"requested {provider}, found {reason}; run on a machine with an NVIDIA GPU and a CUDA 13 driver, "
            "or pass --provider cpu"
        )
    if _NAMES[provider] not in ort.get_available_providers():
        raise ProviderError(
            f"requested {provider}, this onnxruntime has {ort.get_available_providers()}; "
            "install the cuda extra (pip install 'fsf[cuda]'), or pass --provider cpu"
        )
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    stdout = io.StringIO()
    with _captured_output(stdout):
        ort.preload_dlls()  # finds the CUDA libraries that pip installed; prints to stdout which are missing
        with _engines(data, provider, trt_cache_dir) as engines:
            if engines:
                providers = [(_NAMES["tensorrt"], engines), *providers[1:]]
            session = _create_on_gpu(data, options, provider, providers)
            session.disable_fallback()  # else a failed run on the GPU moves the session to the CPU for good
            _verify_placement(session, provider, stdout.getvalue())
            if warm:
                _warm_up(session, provider)
    return session


@contextlib.contextmanager
def _engines(data: bytes, provider: ResolvedProvider, trt_cache_dir: str | None) -> Iterator[dict[str, str]]:
    """Open a session on a GPU in the block, with these options of TensorRT; empty for CUDA.

    Raises:
        ProviderError: TensorRT is not there, cannot run the model, or cannot keep its engines.
    """
    if provider != "tensorrt":
        yield {}
        return
    # TensorRT computes float32 in TF32 unless this forbids it: not the model that export checked.
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    version = tensorrt_version()
    signature = _create(data, _options(1), [_NAMES["cpu"]]).get_inputs()
    profile = shape_profile([(each.name, _fixed_sizes(each.shape)) for each in signature])
    if trt_cache_dir is None:
        yield profile
        return
    card = first_card()
    key = EngineKey(
        model=data, card=f"{card.name} {card.compute}", tensorrt=version, onnxruntime=ort.__version__, profile=profile
    )
    with engine_options(trt_cache_dir, key) as kept:
        yield profile | kept


def _create_on_gpu(data: bytes, options: Any, provider: ResolvedProvider, providers: list[Any]) -> Any:
    """Create the session.

    Raises:
        ProviderError: the card or its libraries refuse it.
        BundleError: onnxruntime cannot load the model.
    """
    try:
        return _create(data, options, providers)
    except BundleError as error:
        if names_driver(str(error.__cause__)) or is_out_of_memory(error.__cause__):
            raise broken_card(provider, first_line(error.__cause__)) from error
        raise


def _warm_up(session: Any, provider: ResolvedProvider) -> None:
    """Run one image on the GPU.

    Raises:
        ProviderError: the card or its libraries do not work.
    """
    try:
        warm_up(session)
    except RuntimeError as error:
        raise broken_card(provider, first_line(error)) from error


def broken_card(provider: ResolvedProvider, reason: str) -> ProviderError:
    """Return the error of a card, or of its libraries, that refuse a session or its first call."""
    if is_out_of_memory(reason):
        advice = "end other programs on the card (nvidia-smi lists them), give more of it with --gpus-per-actor"
    else:
        advice = "install the cuda extra (pip install 'fsf[cuda]') and a CUDA 13 driver"
    return ProviderError(
        f"requested {provider}, the GPU does not run the model: {reason}; {advice}, or pass --provider cpu"
    )


def failed_card(reason: str) -> ResumableError:
    """Return the error of a card, or of its libraries, that fail in a call after others that worked."""
    return ResumableError(
        f"the GPU failed: {reason}; check it with nvidia-smi and in the system's log (NVRM: Xid), and start the same "
        "command again"
    )


def _options(threads: int, free_sizes: bool = False) -> Any:  # noqa: FBT001, FBT002 - as Session's
    """Return the options of every session."""
    options = ort.SessionOptions()
    # 0 would start and pin a thread per physical core, ignoring cgroup, taskset and OMP_NUM_THREADS.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = not free_sizes  # a plan of the whole memory per input shape, kept
    options.log_severity_level = 4  # what it logs it also raises, and the message is ours
    if threads > 1:
        # Spinning threads of neighbour processes cost a third of the throughput (2 processes x 2 threads on 2 cores).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model in memory looks for external data in the working directory; here it can find none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return options


def _providers(
    provider: ResolvedProvider, *, memory_bytes: int | None = None, conv_search: ConvSearch = "HEURISTIC"
) -> list[Any]:
    """Return providers and their options, in order of preference; those of TensorRT come when it is opened."""
    if provider == "cpu":
        return [_NAMES["cpu"]]
    cuda = {
        "use_tf32": "0",  # TF32 keeps 10 bits of mantissa: not the model that export checked
        "cudnn_conv_algo_search": conv_search,
        "arena_extend_strategy": "kSameAsRequested",  # by default the arena doubles
    }
    cuda |= {"gpu_mem_limit": str(memory_bytes)} if memory_bytes is not None else {}
    chain: list[Any] = [(_NAMES["cuda"], cuda), _NAMES["cpu"]]
    if provider == "tensorrt":
        chain.insert(0, _NAMES["tensorrt"])
    return chain


def _create(data: bytes, options: Any, providers: list[Any]) -> Any:
    """Create the session.

    Raises:
        BundleError: onnxruntime cannot load the model.
    """
    try:
        return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # its fourteen exception types share no base but this
        reason, advice = first_line(error), "expected a complete ONNX file with its weights inside; export it again"
        if re.search(r"not a registered|No Op registered|Could not find an implementation|No opset import", reason):
            advice = "expected operators of ONNX and onnxruntime alone; export it without custom operators"
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load the model ({len(data)} bytes): {reason}; {advice}"
        ) from error


def _verify_placement(session: Any, provider: ResolvedProvider, stdout: str) -> None:
    """Raise unless the session and its arithmetic run on the provider.

    Args:
        session: of onnxruntime.
        provider: the requested provider.
        stdout: what onnxruntime printed while it created the session.

    Raises:
        ProviderError: the session, or an operator of it, runs elsewhere.
    """
    actual = session.get_providers()
    if actual[0] != _NAMES[provider]:
        reason = missing_library(_library_of(provider)) or (first_line(stdout) if stdout.strip() else "")
        hint = f" ({reason})" if reason else ""
        raise ProviderError(
            f"requested {_NAMES[provider]}, the session runs on {actual}{hint}; install the cuda extra "
            "(pip install 'fsf[cuda]') and a CUDA 13 driver, or pass --provider cpu"
        )
    misplaced = sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name == _NAMES["cpu"]
            for node in part.get_nodes()
            if node.op_type in _ARITHMETIC
        }
    )
    if misplaced:
        raise ProviderError(
            f"requested {_NAMES[provider]}, but {', '.join(misplaced)} would run on the CPU; "
            "export the model with another opset, or pass --provider cpu"
        )


def _library_of(provider: ResolvedProvider) -> str:
    """Return the file of a provider, which onnxruntime loads when a session asks for it."""
    return str(Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so")


@contextlib.contextmanager
def _captured_output(stdout: io.StringIO) -> Iterator[None]:
    """Capture what onnxruntime prints about providers, for the message of an error."""
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(stdout):
            yield
    finally:
        ort.set_default_logger_severity(2)  # the library's default; there is no getter


def _calls(batch: NDArray[Any], size: int | None) -> Iterator[tuple[NDArray[Any], int]]:
    """Yield the batch in calls of exactly `size` images, and how many of each were asked for.

    The last is filled up with copies of its last image. None: the whole batch in one call.
    """
    if size is None or len(batch) == size:
        yield batch, len(batch)
        return
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        missing = size - len(part)
        yield (np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part), len(part)


def _fixed_sizes(shape: list[Any]) -> tuple[int | None, ...]:
    """Return the shape with None for symbolic sizes."""
    return tuple(size if isinstance(size, int) else None for size in shape)
