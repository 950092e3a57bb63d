"""One model on one execution provider: the only door to onnxruntime.

Knows providers, threads and tensors. Knows no pictures, no classes' names, no files but the model that it is given.
A provider is a promise: what was asked for is what runs, or a ProviderError says why not.
"""

# N images, C channels, K classes, H rows, W columns

import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import BundleError, FetchError, ProviderError
from fsf_core.options import Provider, ResolvedProvider

_NAMES: dict[ResolvedProvider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

# The arithmetic that a GPU was asked for. Shape computations (Gather, Slice, Concat on a handful of integers) are
# placed on the CPU by onnxruntime on purpose and are not counted.
_ARITHMETIC = frozenset(
    {"Conv", "FusedConv", "NhwcConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Attention"}
    | {"BatchNormalization", "GroupNormalization", "GroupNorm", "LayerNormalization", "InstanceNormalization"}
    | {"Gelu", "BiasGelu", "Relu", "Sigmoid", "Softmax", "ArgMax", "Resize", "MaxPool", "AveragePool", "Einsum"}
)


class Session:
    """A loaded model, plain (float batch to logits) or fused (uint8 frames to class maps and counts).

    Attributes:
        provider: what runs; equal to what was asked for, except after `auto`.
        provider_note: why `auto` took what it took; empty otherwise.
        fused: whether the model takes uint8 frames and answers class maps.
        input_name: the tensor that takes the pictures.
        input_shape: its sizes, None where any size goes.
        output_name: the tensor with the logits, or the class maps of a fused model.
        output_shape: its sizes, None where any size goes.
        num_classes: classes told apart; None if the graph does not say.
        grid_hw: rows and columns of the logits; None for a fused model, or if the graph does not say.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        provider: Provider = "cpu",
        threads: int = 1,
        device_id: int = 0,
        gpu_mem_limit_bytes: int | None = None,
        trt_cache_dir: str | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: path, URI or the bytes themselves. Weights must lie inside: external data is refused.
            provider: where to run; anything but `auto` is verified.
            threads: threads of one CPU operator. One process per core with one thread each is fastest for batches.
            device_id: which GPU of those visible to this process.
            gpu_mem_limit_bytes: ceiling of onnxruntime's arena; cuDNN's workspace and the context come on top.
            trt_cache_dir: where TensorRT keeps engines, which take minutes to build.

        Raises:
            ProviderError: the provider cannot be had here.
            BundleError: the model cannot be read or loaded.
        """
        data = _model_bytes(model)
        gpu: dict[str, Any] = {"device_id": device_id, "mem_limit_bytes": gpu_mem_limit_bytes, "cache": trt_cache_dir}
        self.provider_note = ""
        if provider == "auto":
            self.provider, self._session, self.provider_note = _take_best(data, threads, gpu)
        else:
            self.provider, self._session = provider, _open(data, provider, threads, gpu)
        self._describe()

    def _describe(self) -> None:
        """Read names and shapes off the loaded graph."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.input_name: str = inputs[0].name
        self.input_shape = _sizes(inputs[0].shape)
        self.output_name: str = outputs[0].name
        self.output_shape = _sizes(outputs[0].shape)
        self.fused: bool = inputs[0].type == "tensor(uint8)"
        if self.fused:
            if len(inputs) != 2 or len(outputs) != 2:  # noqa: PLR2004 - frames and size in, class maps and counts out
                raise BundleError(
                    f"a model with uint8 input has {len(inputs)} inputs and {len(outputs)} outputs, a fused model has "
                    "2 and 2; export it again"
                )
            self._size_name: str = inputs[1].name
            self._counts_name: str = outputs[1].name
            self.num_classes = _sizes(outputs[1].shape)[-1]
            self.grid_hw: tuple[int, int] | None = None
            return
        _, classes, rows, columns = self.output_shape if len(self.output_shape) == 4 else (None,) * 4  # noqa: PLR2004 - NKHW
        self.num_classes = classes
        self.grid_hw = None if rows is None or columns is None else (rows, columns)

    def run(self, batch_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            batch_NCHW: float32, normalised as the model's profile says.

        Returns:
            logits_NKHW, float32, on the model's own grid. The same picture gives the same bits in any batch.

        Raises:
            RuntimeError: onnxruntime refuses the batch or runs out of memory.
        """
        assert not self.fused, "a fused model takes run_fused"
        return np.asarray(self._call([self.output_name], {self.input_name: batch_NCHW})[0])

    def run_into(self, batch_NCHW: NDArray[np.float32], logits_NKHW: NDArray[np.float32]) -> None:
        """`run` without its copies: the model writes where it is told.

        Args:
            batch_NCHW: float32, C-contiguous, normalised as the model's profile says.
            logits_NKHW: float32, C-contiguous, of the shape that `run` would return; overwritten.

        Raises:
            RuntimeError: onnxruntime refuses the batch, the logits have another shape, or it runs out of memory.
        """
        assert not self.fused, "a fused model takes run_fused"
        assert logits_NKHW.flags.c_contiguous, "it is written to by address"
        assert logits_NKHW.flags.writeable, "it is written to"
        try:
            binding = self._session.io_binding()
            binding.bind_cpu_input(self.input_name, batch_NCHW)
            address = logits_NKHW.ctypes.data
            binding.bind_output(self.output_name, "cpu", 0, logits_NKHW.dtype.type, logits_NKHW.shape, address)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its fourteen exception types share no base but this
            raise self._refused({self.input_name: batch_NCHW}, error) from error

    def run_fused(
        self, frames_NHWC: NDArray[np.uint8], *, height_px: int, width_px: int
    ) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int32]]:
        """Class maps and pixel counts of a batch of frames, from a fused model.

        Args:
            frames_NHWC: uint8, as geometry.fit gives them, channels in the network's order.
            height_px: rows of the class maps wanted.
            width_px: columns of the class maps wanted.

        Returns:
            class_maps_NHW (uint8, uint16 above 255 classes) and counts_NK (int32 pixels per class).

        Raises:
            RuntimeError: onnxruntime refuses the batch or runs out of memory.
        """
        assert self.fused, "a plain model takes run"
        size = np.array([height_px, width_px], np.int64)
        feed: dict[str, NDArray[Any]] = {self.input_name: frames_NHWC, self._size_name: size}
        class_maps_NHW, counts_NK = self._call([self.output_name, self._counts_name], feed)
        return class_maps_NHW, counts_NK

    def _call(self, names: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            answers: list[NDArray[Any]] = self._session.run(names, feed)
        except Exception as error:  # its fourteen exception types share no base but this
            raise self._refused(feed, error) from error
        return answers

    def _refused(self, feed: dict[str, NDArray[Any]], error: Exception) -> RuntimeError:
        shapes = ", ".join(f"{name} {value.dtype} {list(value.shape)}" for name, value in feed.items())
        return RuntimeError(f"onnxruntime on {self.provider} refused {shapes}: {_first_line(error)}")


def runtime_version() -> str:
    """Version of onnxruntime, for provenance."""
    return str(ort.__version__)


@cache
def cuda_devices() -> tuple[int, str]:
    """How many GPUs the NVIDIA driver offers to this process, and the reason if there are none.

    Asks the driver itself, because onnxruntime's lists of providers are compiled in and prove nothing.
    """
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0, f"no NVIDIA driver ({library} is not found)"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return 0, f"the NVIDIA driver answers error {status}"
    return count.value, "" if count.value else "the NVIDIA driver shows no device (CUDA_VISIBLE_DEVICES hides them?)"


def _model_bytes(model: str | Path | bytes) -> bytes:
    if isinstance(model, bytes):
        return model
    try:
        return storage.read_bytes(str(model))
    except FetchError as error:
        reason = error if storage.exists(str(model)) else f"{model} does not exist"
        raise BundleError(f"the model cannot be read: {reason}; expected an ONNX file, check the path") from error


def _take_best(data: bytes, threads: int, gpu: dict[str, Any]) -> tuple[ResolvedProvider, Any, str]:
    """CUDA if it works, else the CPU. TensorRT only on request: it spends minutes on building an engine."""
    count, reason = cuda_devices()
    if count:
        try:
            return "cuda", _open(data, "cuda", threads, gpu), f"auto took cuda: {count} device(s) visible"
        except ProviderError as error:
            reason = str(error)
    return "cpu", _open(data, "cpu", threads, gpu), f"auto took cpu: {reason}"


def _open(data: bytes, provider: ResolvedProvider, threads: int, gpu: dict[str, Any]) -> Any:
    """Create the session and hold onnxruntime to the provider."""
    if provider == "cpu":
        return _create(data, _options(threads), [_NAMES["cpu"]])
    count, reason = cuda_devices()
    if not count:
        raise ProviderError(
            f"asked for {provider}, found {reason}; run on a machine with an NVIDIA GPU and a CUDA 13 driver, "
            "or pass --provider cpu"
        )
    if _NAMES[provider] not in ort.get_available_providers():
        raise ProviderError(
            f"asked for {provider}, this onnxruntime offers {ort.get_available_providers()}; "
            "install the cuda extra (pip install 'fsf[cuda]'), or pass --provider cpu"
        )
    options = _options(threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    said = io.StringIO()
    with _quiet(said):
        ort.preload_dlls()  # finds the CUDA libraries that pip installed; says on stdout what is missing
        session = _create(data, options, _gpu_providers(provider, gpu))
    session.disable_fallback()  # else a run that fails on the GPU is repeated on the CPU, for good
    _require(session, provider, said.getvalue())
    return session


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    # 0 would make a thread per physical core and pin it, whatever cgroup, taskset or OMP_NUM_THREADS say.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what it would print is raised as well, and becomes our message
    if threads > 1:
        # Spinning threads of neighbour processes cost a third of the throughput (2 processes x 2 threads on 2 cores).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model in memory looks for external data in the working directory: point it where nothing can lie.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return options


def _gpu_providers(provider: ResolvedProvider, gpu: dict[str, Any]) -> list[Any]:
    cuda = {
        "device_id": str(gpu["device_id"]),
        "use_tf32": "0",  # TF32 keeps 10 bits of mantissa: not the model that was proved
        # EXHAUSTIVE, the default, tunes anew for each batch size, and the last batch of a block is shorter.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",  # doubling would run into the limit at half of it
    }
    if gpu["mem_limit_bytes"] is not None:
        cuda["gpu_mem_limit"] = str(gpu["mem_limit_bytes"])
    chain: list[Any] = [(_NAMES["cuda"], cuda), _NAMES["cpu"]]
    if provider == "tensorrt":
        engine = {"device_id": str(gpu["device_id"])}
        if gpu["cache"] is not None:
            engine |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": gpu["cache"]}
            engine |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": gpu["cache"]}
        chain.insert(0, (_NAMES["tensorrt"], engine))
    return chain


def _create(data: bytes, options: Any, providers: list[Any]) -> Any:
    try:
        return ort.InferenceSession(data, options, providers=providers)
    except Exception as error:  # its fourteen exception types share no base but this
        raise BundleError(
            f"onnxruntime {ort.__version__} cannot load the model ({len(data)} bytes): {_first_line(error)}; "
            "expected one whole ONNX file with its weights inside; export it again"
        ) from error


def _require(session: Any, provider: ResolvedProvider, said: str) -> None:
    """Refuse a session that runs elsewhere than promised."""
    found = session.get_providers()
    if found[0] != _NAMES[provider]:
        hint = f" ({_first_line(said)})" if said.strip() else ""
        raise ProviderError(
            f"asked for {_NAMES[provider]}, the session runs on {found}{hint}; install the cuda extra "
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
            f"asked for {_NAMES[provider]}, but {', '.join(misplaced)} would run on the CPU; "
            "export the model with another opset, or pass --provider cpu"
        )


@contextlib.contextmanager
def _quiet(said: io.StringIO) -> Iterator[None]:
    """Keep onnxruntime's remarks about providers out of the terminal; they are in `said` and in our own error."""
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        ort.set_default_logger_severity(2)  # the library's own default; it cannot be asked for


def _sizes(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _first_line(message: object) -> str:
    return str(message).strip().split("\n", 1)[0]
