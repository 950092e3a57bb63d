"""The calls of a card, on the CPU: fixed batches, buffers that stay, and a memory that is full."""

import logging
import re
import threading

import numpy as np
import onnx
import pytest
from onnx import helper

from fsf_core.errors import ProviderError, ResumableError
from fsf_core.export.from_onnx import from_onnx, read_onnx
from fsf_core.export.fuse import fuse
from fsf_core.export.graph import model_bytes
from fsf_core.model import device_buffers, device_model
from fsf_core.model.batch_choice import choose_batch
from fsf_core.model.device_model import DeviceModel
from fsf_core.model.fused_split import split
from fsf_core.model.preprocess import PROFILES
from fsf_core.model.runtime_messages import is_out_of_memory
from fsf_core.model.session import Session
from tests.support.tiny_onnx import tiny_onnx

PROFILE = PROFILES["fastsegformer"]
SIZES = [(31, 12), (64, 97), (31, 12), (31, 12), (64, 97), (8, 8), (31, 12)]
FULL = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. Status "
    "Message: bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for "
    "requested buffer of size 4194304"
)


@pytest.fixture(scope="module")
def plain():
    return from_onnx(read_onnx(tiny_onnx().SerializeToString()), PROFILE)


@pytest.fixture(scope="module")
def fused(plain):
    return model_bytes(fuse(plain, PROFILE))


@pytest.fixture(name="frames_NHWC", scope="module")
def noise():
    return np.random.default_rng(3).integers(0, 256, (len(SIZES), 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(fused, frames_NHWC):
    session = Session(fused)
    return [
        session.run_fused(frame_HWC[None], height_px=height, width_px=width)[0][0]
        for frame_HWC, (height, width) in zip(frames_NHWC, SIZES, strict=True)
    ]


def opened(model, batch_frames=2, **more):
    return DeviceModel(
        model, profile=PROFILE, provider="cpu", num_classes=4, batch_frames=batch_frames, **more
    )  # fmt: skip


def maps_of(model, frames_NHWC, order=None):
    """Class maps of all frames, in their order."""
    lengths = [height * width for height, width in SIZES]
    starts = np.cumsum([0, *lengths]).tolist()
    outputs = np.full(starts[-1], 77, np.uint8)
    order = order or sorted(range(len(SIZES)), key=SIZES.__getitem__)
    figures = model.class_maps(frames_NHWC, order, SIZES, outputs=outputs, starts=starts)
    assert all(len(values) == len(order) for values in figures.values())
    return [outputs[start : start + size].reshape(hw) for start, size, hw in zip(starts, lengths, SIZES, strict=False)]


def assert_equal(found, expected):
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


class Card:
    """A card whose memory suffices for a number of frames per call, as onnxruntime reports it."""

    def __init__(self, monkeypatch, frames):
        self.frames = frames
        self.calls = []
        card, run, run_into = self, device_buffers.Buffers.run, device_buffers.Buffers.run_into

        def limited(buffers):
            card.calls.append(buffers.frames)
            if buffers.frames > card.frames:
                raise RuntimeError(FULL)
            run(buffers)

        def limited_into(buffers, room):
            card.calls.append(buffers.frames)
            if buffers.frames > card.frames:
                raise RuntimeError(FULL)
            run_into(buffers, room)

        monkeypatch.setattr(device_buffers.Buffers, "run", limited)
        monkeypatch.setattr(device_buffers.Buffers, "run_into", limited_into)


@pytest.mark.parametrize("batch_frames", [1, 2, 3, 7, 16])
def test_class_maps_of_mixed_sizes_are_those_of_the_fused_graph(fused, frames_NHWC, expected, batch_frames):
    found = opened(split(fused), batch_frames)
    assert_equal(maps_of(found, frames_NHWC), expected)
    assert_equal(maps_of(found, frames_NHWC, order=[*range(len(SIZES))]), expected)


@pytest.mark.parametrize("batch_frames", [8, None])
def test_sessions_whose_memory_was_full_are_opened_anew(fused, frames_NHWC, expected, batch_frames, monkeypatch):
    """On a card with a limit, the arena of a session that was full refused every smaller batch too (H100, 1.31.1)."""
    full, run = [], device_buffers.Buffers.run

    def limited(buffers):
        if buffers.frames > 2 or any(session is buffers._session for session in full):
            full.append(buffers._session)
            raise RuntimeError(FULL)
        run(buffers)

    monkeypatch.setattr(device_buffers.Buffers, "run", limited)
    monkeypatch.setattr(device_model, "MEASURED_S", 0.0)
    monkeypatch.setattr(device_model, "MEASURED_CALLS", 1)
    monkeypatch.setattr(device_model, "MAX_SCORE_BYTES", 8 * 4 * 224 * 224 * 4)
    found = opened(split(fused), batch_frames)
    assert_equal(maps_of(found, frames_NHWC), expected)
    assert found.batch_frames <= 2
    assert full


def test_every_call_has_the_same_number_of_frames(fused, frames_NHWC, monkeypatch):
    card = Card(monkeypatch, 4)
    counted = []

    class Meter:
        def __init__(self, frames):
            counted.append(frames)

        def __enter__(self):
            return None

        def __exit__(self, *_):
            return None

    maps_of(opened(split(fused), 4, meter=Meter), frames_NHWC)
    assert card.calls == [4, 4]
    assert counted == [4, 3]


def test_a_tail_has_no_more_frames_than_its_memory_allows(fused, frames_NHWC, expected, monkeypatch):
    calls = []
    run_bound = device_model.run_bound
    monkeypatch.setattr(
        device_model, "run_bound", lambda *args, **more: calls.append(more["values"][2][0]) or run_bound(*args, **more)
    )
    found = opened(split(fused), 16)
    monkeypatch.setattr(device_model, "MAX_CALL_BYTES", 2 * 31 * 12 * (4 * 4 + device_model.PIXEL_BYTES))

    assert_equal(maps_of(found, frames_NHWC), expected)
    assert calls == [1, 2, 2, 1, 1]


@pytest.mark.parametrize(("most", "calls"), [(2, [4, 2, 2, 2, 2]), (1, [4, 2, *[1] * 7])])
def test_a_full_memory_halves_the_batch_and_says_so(fused, frames_NHWC, expected, monkeypatch, caplog, most, calls):
    found = opened(split(fused), 4)
    card = Card(monkeypatch, most)
    with caplog.at_level(logging.WARNING, "fsf"):
        assert_equal(maps_of(found, frames_NHWC), expected)

    assert card.calls == calls
    assert found.batch_frames == most
    lines = [record.getMessage() for record in caplog.records]
    assert [re.match(r"event=batch_halved frames=(\d) was=(\d) ", line).groups() for line in lines] == [
        ("2", "4"), ("1", "2"),
    ][: len(lines)]  # fmt: skip
    assert "Failed to allocate memory" in lines[0]


def test_a_memory_that_does_not_suffice_for_one_frame_is_an_error_with_advice(fused, frames_NHWC, monkeypatch):
    found = opened(split(fused), 2)
    Card(monkeypatch, 0)
    for _ in range(2):  # and no call waits for buffers that do not come
        with pytest.raises(ResumableError, match=r"a batch of 1: .*Failed to allocate.*--gpus-per-actor 1"):
            maps_of(found, frames_NHWC)


def test_no_thread_waits_when_another_found_that_the_memory_suffices_for_no_frame(fused, frames_NHWC, monkeypatch):
    """Both calls were full, the first gave up, and the second waited for buffers that the first had thrown away."""
    found = opened(split(fused), 1)
    both = threading.Barrier(2, timeout=30)
    errors = []
    fill = device_buffers.Buffers.fill
    monkeypatch.setattr(device_buffers.Buffers, "fill", lambda *given: (both.wait(), fill(*given)))
    Card(monkeypatch, 0)

    def work():
        try:
            maps_of(found, frames_NHWC)
        except ResumableError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(errors) == 2


def test_a_memory_that_is_full_while_buffers_are_allocated_halves_the_batch_too(fused, monkeypatch):
    create = device_buffers.Buffers.__init__

    def limited(buffers, *args, shape, **more):
        if shape[0] > 3:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; expr=cudaMalloc")
        create(buffers, *args, shape=shape, **more)

    monkeypatch.setattr(device_buffers.Buffers, "__init__", limited)
    assert opened(split(fused), 16).batch_frames == 2


def test_several_threads_call_one_model_while_its_batch_is_halved(fused, frames_NHWC, expected, monkeypatch):
    found = opened(split(fused), 8)
    Card(monkeypatch, 2)
    results = [None] * 4

    def work(at):
        results[at] = [maps_of(found, frames_NHWC) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert found.batch_frames == 2
    for maps in results:
        for one in maps:
            assert_equal(one, expected)


def test_another_error_is_not_taken_for_a_full_memory(fused, frames_NHWC, monkeypatch):
    def broken(_):
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    found = opened(split(fused), 2)
    monkeypatch.setattr(device_buffers.Buffers, "run", broken)
    with pytest.raises(ResumableError, match=r"the GPU failed: CUDA failure 700: an illegal .* start the same command"):
        maps_of(found, frames_NHWC)
    assert found.batch_frames == 2


def test_a_batch_that_the_graph_rejects_is_no_failure_of_the_card(fused, frames_NHWC, monkeypatch):
    def broken(_):
        raise RuntimeError("Non-zero status code returned while running Concat node. axis 2 must match")

    found = opened(split(fused), 2)
    monkeypatch.setattr(device_buffers.Buffers, "run", broken)
    with pytest.raises(RuntimeError, match=r"onnxruntime on cpu rejected a batch of 2 frames: .*axis 2 must match"):
        maps_of(found, frames_NHWC)


def test_a_broken_library_at_the_first_call_is_an_error_of_the_provider(fused, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Status Message: cuDNN library was not found")

    monkeypatch.setattr(device_buffers.Buffers, "__init__", broken)
    with pytest.raises(ProviderError, match=r"requested cpu, the GPU does not run the model: .*cuDNN"):
        opened(split(fused), 2)


@pytest.mark.parametrize(
    "message",
    [
        FULL,
        "BFCArena::Extend Available memory of 1048576 is smaller than requested bytes of 4194304",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=b.cu ; line=1 ; expr=cudaMalloc((void**)&p, size);",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN Frontend error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_messages_of_a_full_memory(message):
    assert is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize(
    "message",
    [
        "CUDA failure 700: an illegal memory access",
        "CUDA failure 209",
        "CUDNN_STATUS_EXECUTION_FAILED",
        "Got invalid dimensions",
    ],
)
def test_messages_of_other_errors(message):
    assert not is_out_of_memory(RuntimeError(message))


def test_a_batch_that_is_built_in_is_taken():
    plain = from_onnx(read_onnx(tiny_onnx().SerializeToString()), PROFILE)
    for value in (plain.graph.input[0], plain.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    assert opened(split(model_bytes(fuse(plain, PROFILE))), 8).batch_frames == 3
    assert opened(model_bytes(plain), None).batch_frames == 3


def test_scores_bound_the_batch(fused, monkeypatch):
    monkeypatch.setattr(device_model, "MAX_SCORE_BYTES", 5 * 4 * 224 * 224 * 4)
    assert opened(split(fused), 5).batch_frames == 5
    assert opened(split(fused), 64).batch_frames == 4


def test_tensorrt_gets_no_more_frames_than_its_engine_is_built_for(plain, monkeypatch):
    open_model = device_model.open_model
    monkeypatch.setattr(device_model, "open_model", lambda data, _, **__: open_model(data, "cpu"))
    monkeypatch.setattr(device_model, "_device_of", lambda _: "cpu")
    monkeypatch.setattr(device_model, "BATCH_RANGE", (1, 2, 4))
    given = {"profile": PROFILE, "provider": "tensorrt", "num_classes": 4}
    assert DeviceModel(model_bytes(plain), **given, batch_frames=8).batch_frames == 4
    assert DeviceModel(model_bytes(plain), **given, batch_frames=None).batch_frames == 4


@pytest.mark.parametrize("memory_bytes", [None, 1 << 30])
def test_the_card_makes_class_maps_for_which_its_share_of_the_memory_suffices(fused, memory_bytes):
    """All four calls that may be estimated too low together have a quarter of the actor's memory."""
    found = opened(split(fused), 2, memory_bytes=memory_bytes)
    assert found.makes_map(1000, 2000)
    assert found.makes_map(2000, 2000) == (memory_bytes is None)


def test_a_tail_has_no_more_frames_than_its_share_of_the_memory_allows(fused, frames_NHWC, expected, monkeypatch):
    calls = []
    run_bound = device_model.run_bound
    monkeypatch.setattr(
        device_model, "run_bound", lambda *args, **more: calls.append(more["values"][2][0]) or run_bound(*args, **more)
    )
    share = 16 * 2 * 31 * 12 * (4 * 4 + device_model.PIXEL_BYTES)
    assert_equal(maps_of(opened(split(fused), 16, memory_bytes=share), frames_NHWC), expected)
    assert calls == [1, 2, 2, 1, 1]


def test_a_plain_model_has_all_of_the_memory(plain, fused, monkeypatch):
    given = []
    open_model = device_model.open_model
    monkeypatch.setattr(
        device_model,
        "open_model",
        lambda *args, **more: given.append(more.pop("memory_bytes")) or open_model(*args, **more),
    )
    opened(model_bytes(plain), memory_bytes=1 << 30)
    opened(split(fused), memory_bytes=1 << 30)
    assert given == [1 << 30, 3 << 28, 1 << 28]


def test_halves_have_no_nodes_for_inputs_and_outputs_that_are_left_out(fused):
    """An empty name is an input that is not given, or an output that nobody wants, and joins no nodes."""
    model = onnx.load_from_string(fused)
    [conv] = [node for node in model.graph.node if node.op_type == "Conv"][:1]
    dropped = helper.make_node("Dropout", [conv.output[0]], ["net/kept", ""], name="net/drop")
    for node in model.graph.node:
        node.input[:] = ["net/kept" if name == conv.output[0] else name for name in node.input]
    model.graph.node.insert([*model.graph.node].index(conv) + 1, dropped)
    [resize] = [node for node in model.graph.node if node.name == "fsf/resized"]
    resize.input[1] = ""
    halves = split(model.SerializeToString())
    types = {node.op_type for node in onnx.load_from_string(halves.tail).graph.node}
    assert "Resize" in types
    assert not types & {"Conv", "Dropout"}


def test_files_that_are_no_fused_models_have_no_halves(plain, fused):
    assert split(model_bytes(plain)) is None
    assert split(b"no model") is None
    assert split(b"") is None
    assert split(fused[:500]) is None


@pytest.mark.parametrize(
    ("speeds", "most", "chosen", "tried"),
    [
        ({128: 100, 64: 80}, 1024, 128, [128, 64]),
        ({128: 100, 64: 99, 32: 98, 16: 90}, 1024, 32, [128, 64, 32, 16]),
        ({128: 0, 64: 0, 32: 50, 16: 49, 8: 40}, 1024, 16, [128, 64, 32, 16, 8]),
        ({128: 10, 64: 10, 32: 10, 16: 10, 8: 10}, 1024, 8, [128, 64, 32, 16, 8]),
        ({16: 10, 8: 5}, 21, 16, [16, 8]),
        ({4: 10}, 5, 4, [4]),
        ({1: 10}, 1, 1, [1]),
        ({2: 0, 1: 0}, 2, 1, [2, 1]),
    ],
)
def test_the_smallest_batch_within_3_percent_of_the_best_is_chosen(speeds, most, chosen, tried):
    calls = []
    found, measured = choose_batch(lambda frames: calls.append(frames) or speeds[frames], most=most)
    assert (found, calls, [*measured]) == (chosen, tried, tried)


def test_a_slow_card_is_measured_once():
    now = [0.0]

    def measure(_):
        now[0] += 20
        return 3.0

    assert choose_batch(measure, most=1024, clock=lambda: now[0]) == (128, {128: 3.0})


def test_a_batch_that_is_not_given_is_measured_and_logged(plain, monkeypatch, caplog):
    monkeypatch.setattr(device_model, "MAX_SCORE_BYTES", 16 * 4 * 224 * 224 * 4)
    monkeypatch.setattr(device_model, "MEASURED_S", 0.0)
    with caplog.at_level(logging.INFO, "fsf"):
        found = opened(model_bytes(plain), None)
    assert found.batch_frames in (8, 16)
    assert re.search(r"event=batch_chosen frames=(8|16) frames_per_s=.*16:\d+", caplog.text)


def test_no_batch_is_measured_that_large_frames_would_never_fill(plain, monkeypatch, caplog):
    monkeypatch.setattr(device_model, "MAX_MEASURED_BYTES", 9 * 3 * 224 * 224)
    monkeypatch.setattr(device_model, "MEASURED_S", 0.0)
    with caplog.at_level(logging.INFO, "fsf"):
        assert opened(model_bytes(plain), None).batch_frames == 8
    assert re.search(r"frames_per_s=8:\d+$", caplog.messages[-1])
