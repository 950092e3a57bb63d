"""Step b: frames/s of the bare model on onnxruntime alone, the yardstick of the job: no pictures, no masks.

Each batch size is measured with its buffers on the device, without and with a CUDA graph, and with inputs and outputs
that are copied from and to the host.
"""

# N frames, C channels, K classes, H×W pixels

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fsf_core.model.bundle import variant_of
from fsf_core.model.bundle_files import load_bundle, read_model
from tests.bench.gpu import card, inputs
from tests.bench.gpu.setting import PRECISIONS, Letter, Setting

POINTS = (
    *((batch, "device") for batch in (128, 32, 256)),
    *((batch, "graph") for batch in (128, 32)),
    (128, "host"),
    *((batch, "device") for batch in (64, 8, 1)),
    *((batch, "graph") for batch in (1, 8, 64)),
    *((batch, "host") for batch in (32, 64, 8, 1)),
)
"""Batch sizes and kinds of buffers, the most telling first: a size that is new to a session costs seconds."""

POINTS_QUICK = ((8, "device"), (8, "graph"), (8, "host"))
FREE_S = 7.0
"""Time that must be left for another point: the longest first call of a size on an H100 (E in fp16)."""

NAMES = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
SIDE, CLASSES = 224, 4

CUDA_OPTIONS = {
    "use_tf32": "0",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "arena_extend_strategy": "kSameAsRequested",
}
"""As the job has them."""

VARIATIONS = {
    "heuristic": {"cudnn_conv_algo_search": "HEURISTIC"},
    "nhwc": {"prefer_nhwc": "1"},
    "tf32": {"use_tf32": "1"},
}
"""Options of the CUDA provider beyond those. With TF32 it is not the model that the export has checked."""

VARIED_BATCH = 32


def environment(setting: Setting) -> dict[str, Any]:
    """Return what the machine is, and the providers that a session of the model really has."""
    session = open_session(setting, model_of(setting, "p", "fp32"))
    return {
        **card.describe(),
        "commit": setting.commit,
        "session_providers": session.get_providers(),
        "seconds_of_inputs": json.loads(inputs.mark(setting.inputs, quick=setting.quick).read_text()),
    }


def run(setting: Setting, letter: Letter) -> dict[str, Any]:
    """Measure one model in both precisions; points that do not fit are named under left_out."""
    found: dict[str, Any] = {precision: {} for precision in PRECISIONS} | {"left_out": []}
    models = {precision: model_of(setting, letter, precision) for precision in PRECISIONS}
    sessions = {precision: open_session(setting, model) for precision, model in models.items()}
    for batch, kind in POINTS_QUICK if setting.quick else POINTS:
        for precision, model in models.items():
            if kind == "graph" and not setting.on_gpu:
                continue
            session = sessions[precision]
            call = {
                "device": lambda session=session, batch=batch: device_rate(setting, session, batch),
                "host": lambda session=session, batch=batch: host_rate(setting, session, batch),
                "graph": lambda model=model, batch=batch: graph_rate(setting, model, batch),
            }[kind]
            _measure(setting, call, found, precision, f"{batch} {kind}")
    found["best"] = {precision: best_of(found[precision]) for precision in PRECISIONS}
    return found


def options(setting: Setting, letter: Letter) -> dict[str, Any]:
    """Measure other options of the CUDA provider at one batch size; points that do not fit are under left_out."""
    found: dict[str, Any] = {precision: {} for precision in PRECISIONS} | {"left_out": []}
    for name, chosen in VARIATIONS.items():
        for precision in PRECISIONS:

            def call(chosen: dict[str, str] = chosen, precision: str = precision) -> float:
                model = model_of(setting, letter, precision)
                return device_rate(setting, open_session(setting, model, chosen), VARIED_BATCH)

            _measure(setting, call, found, precision, f"{VARIED_BATCH} device {name}")
    return found


def best_of(rates: dict[str, Any]) -> dict[str, Any]:
    """Return the highest rate and its name; nothing if there is none."""
    measured = {name: rate for name, rate in rates.items() if isinstance(rate, float)}
    name = max(measured, key=measured.__getitem__, default=None)
    return {"frames_per_s": measured[name], "as": name} if name else {}


def model_of(setting: Setting, letter: Letter, precision: str) -> bytes:
    return read_model(load_bundle(str(setting.bundle(letter))), variant_of(precision, fused=False))


def _measure(setting: Setting, call: Callable[[], float], found: dict[str, Any], precision: str, name: str) -> None:
    """Add a rate, or the error in its place; name what there is no time for."""
    if setting.seconds_left() < FREE_S:
        found["left_out"].append(f"{precision} {name}")
        return
    try:
        found[precision][name] = round(call(), 1)
    except Exception as error:  # noqa: BLE001 - one option that does not work must not cost the others
        found[precision][name] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"


def open_session(
    setting: Setting, model: bytes, options: dict[str, str] | None = None, *, batch: int | None = None
) -> Any:
    """Return a session of onnxruntime on the provider, and on no other.

    Args:
        setting: of the bench.
        model: ONNX file.
        options: of the CUDA provider, beyond CUDA_OPTIONS.
        batch: number of frames of every call, fixed in the graph, so that it computes no shapes on the CPU.

    Raises:
        RuntimeError: the session runs elsewhere.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    if batch is not None:
        settings.add_free_dimension_override_by_name("batch", batch)
    providers: list[Any] = [NAMES["cpu"]]
    if setting.on_gpu:
        ort.preload_dlls()
        providers.insert(0, (NAMES["cuda"], CUDA_OPTIONS | (options or {})))
    session = ort.InferenceSession(model, settings, providers=providers)
    if session.get_providers()[0] != NAMES[setting.provider]:
        raise RuntimeError(f"asked for {setting.provider}, the session runs on {session.get_providers()}")
    session.disable_fallback()
    return session


def device_rate(setting: Setting, session: Any, batch: int) -> float:
    """Return the frames/s with input and output that stay on the device."""
    binding = _bind(setting, session, batch)
    return rate_of(setting, lambda: session.run_with_iobinding(binding), batch)


def host_rate(setting: Setting, session: Any, batch: int) -> float:
    """Return the frames/s with arrays in and out of the host's memory."""
    feed = {session.get_inputs()[0].name: _inputs(batch)}
    return rate_of(setting, lambda: session.run(None, feed), batch)


def graph_rate(setting: Setting, model: bytes, batch: int) -> float:
    """Return the frames/s of a CUDA graph that is captured once and launched again."""
    session = open_session(setting, model, {"enable_cuda_graph": "1"}, batch=batch)
    binding = _bind(setting, session, batch)
    return rate_of(setting, lambda: session.run_with_iobinding(binding), batch)


def _bind(setting: Setting, session: Any, batch: int) -> Any:
    """Return a binding with input and output on the device, at addresses that do not change."""
    import onnxruntime as ort

    values = ort.OrtValue.ortvalue_from_numpy(_inputs(batch), setting.provider, 0)
    shape = [batch, CLASSES, SIDE, SIDE]
    logits = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, setting.provider, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, values)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, logits)
    return binding


def _inputs(batch: int) -> np.ndarray:
    return np.random.default_rng(0).random((batch, 3, SIDE, SIDE), np.float32)


def rate_of(setting: Setting, call: Callable[[], Any], frames: int) -> float:
    """Return the frames/s of calls that return when they are done; the first three warm up."""
    for _ in range(3):
        call()
    seconds = 0.05 if setting.quick else 0.4
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or calls < 3:
        call()
        calls += 1
    return calls * frames / (time.perf_counter() - started)
