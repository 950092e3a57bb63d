"""Models as files of deployment tools: exports of Ultralytics, folders of MMDeploy and PaddleSeg, files of Deepness.

The networks are made here, with the files and metadata that the tools write. The references are the tools' own steps,
written from their definitions with OpenCV, PyTorch and onnxruntime.
"""

# K classes, C channels, H×W pixels

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support.deployed_onnx import deployed_onnx
from tests.support.instances import painted, suppressed
from tests.support.zoo.entry import Entry, Expected, expected_of

Image = NDArray[np.uint8]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NAMES = ("road", "sky", "car", "tree", "person")
_CLASSES = ["--classes", ",".join(NAMES)]


def _save(model: onnx.ModelProto, path: Path) -> str:
    path.write_bytes(model.SerializeToString())
    return str(path)


def _run(path: Path, planes_CHW: NDArray[Any]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(path)
    batch_NCHW = np.ascontiguousarray(planes_CHW[None], np.float32)
    outputs: list[NDArray[Any]] = session.run(None, {session.get_inputs()[0].name: batch_NCHW})
    return outputs


def _nearest(class_map_HW: NDArray[Any], size: tuple[int, ...]) -> Expected:
    """Return a class map at the size of the picture, as PyTorch's nearest."""
    planes_NCHW = torch.from_numpy(class_map_HW[None, None].astype(np.float32))
    resized_NCHW = torch.nn.functional.interpolate(planes_NCHW, size=size, mode="nearest")
    return Expected(class_map_HW=resized_NCHW[0, 0].numpy().astype(np.int64))


def _bilinear(scores_KHW: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
    resized_NCHW = torch.nn.functional.interpolate(torch.from_numpy(scores_KHW[None]), size=size, mode="bilinear")
    return np.asarray(resized_NCHW[0].numpy(), np.float32)


# -------------------------------------------------------------------------------------------------------- Ultralytics


def _metadata(task: str, imgsz: tuple[int, int], *, dynamic: bool = False) -> dict[str, str]:
    return {
        "description": f"Ultralytics YOLO26n-{task[:3]} model",
        "author": "Ultralytics",
        "version": "8.4.190",
        "stride": "32",
        "task": task,
        "batch": "1",
        "imgsz": str(list(imgsz)),
        "names": str(dict(enumerate(NAMES))),
        "args": str({"batch": 1, "quantize": None, "dynamic": dynamic, "simplify": True}),
        "channels": "3",
        "end2end": "False",
    }


def _letterboxed(image_HWC: Image, imgsz: tuple[int, int], *, dynamic: bool) -> tuple[Image, tuple[slice, slice]]:
    """Return the padded image, as Ultralytics' LetterBox makes it, and where the image is in it."""
    height_px, width_px = image_HWC.shape[:2]
    scale = min(imgsz[0] / height_px, imgsz[1] / width_px)
    rows, columns = max(round(height_px * scale), 1), max(round(width_px * scale), 1)
    left_over = [(imgsz[0] - rows), (imgsz[1] - columns)]
    if dynamic:
        left_over = [space % 32 for space in left_over]
    top, left = (round(space / 2 - 0.1) for space in left_over)
    bottom, right = (round(space / 2 + 0.1) for space in left_over)
    resized_HWC = cv2.resize(image_HWC, (columns, rows), interpolation=cv2.INTER_LINEAR)
    padded_HWC = cv2.copyMakeBorder(resized_HWC, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114,) * 3)
    return np.asarray(padded_HWC, np.uint8), (slice(top, top + rows), slice(left, left + columns))


def _ultralytics_outputs(
    folder: Path, image_HWC: Image, imgsz: tuple[int, int], *, dynamic: bool = False
) -> tuple[list[NDArray[Any]], tuple[int, int], tuple[slice, slice]]:
    """Return the outputs, the size of the input, and where the image is in it."""
    padded_HWC, place = _letterboxed(image_HWC, imgsz, dynamic=dynamic)
    planes_CHW = np.float32(padded_HWC[..., ::-1].transpose(2, 0, 1)) / np.float32(255)
    return _run(folder / "best.onnx", planes_CHW), (padded_HWC.shape[0], padded_HWC.shape[1]), place


def _semantic(*, dynamic: bool) -> tuple[Callable[[Path], list[str]], Callable[[Path, Image], Expected]]:
    imgsz = (160, 160) if dynamic else (96, 128)

    def make(folder: Path) -> list[str]:
        model = deployed_onnx(
            end="uint8 NHW",
            size=None if dynamic else imgsz,
            batch="batch" if dynamic else 1,
            names=("images", "output0"),
            metadata=_metadata("semantic", imgsz, dynamic=dynamic),
        )
        return ["--model", _save(model, folder / "best.onnx")]

    def reference(folder: Path, image_HWC: Image) -> Expected:
        [class_map_NHW], _, place = _ultralytics_outputs(folder, image_HWC, imgsz, dynamic=dynamic)
        return _nearest(class_map_NHW[0][place], image_HWC.shape[:2])

    return make, reference


_INSTANCES = (96, 128)


def _make_instances(folder: Path) -> list[str]:
    """Write an instance model: fixed boxes on a grid of 8, with scores and masks that depend on the image."""
    rng = np.random.default_rng(3)
    height_px, width_px, numbers = *_INSTANCES, 4
    rows, columns = height_px // 8, width_px // 8
    ys, xs = np.mgrid[0:rows, 0:columns] * 8 + 4
    centres = np.stack([xs.ravel(), ys.ravel()])
    weights = {
        "boxes": np.concatenate([centres, rng.uniform(16, 70, (2, rows * columns))])[None],
        "score_w": rng.normal(0, 0.35, (len(NAMES), 3, 8, 8)),
        "score_b": np.full(len(NAMES), -2.0),
        "number_w": rng.normal(0, 0.1, (numbers, 3, 8, 8)),
        "mask_w": rng.normal(0, 0.3, (numbers, 3, 4, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["images", "score_w", "score_b"], ["logits"], strides=[8, 8]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Conv", ["images", "number_w"], ["numbers"], strides=[8, 8]),
        helper.make_node("Reshape", ["scores", "flat"], ["scores_flat"]),
        helper.make_node("Reshape", ["numbers", "flat"], ["numbers_flat"]),
        helper.make_node("Concat", ["boxes", "scores_flat", "numbers_flat"], ["output0"], axis=1),
        helper.make_node("Conv", ["images", "mask_w"], ["output1"], strides=[4, 4]),
    ]
    channels = 4 + len(NAMES) + numbers
    shapes = {"output0": [1, channels, rows * columns], "output1": [1, numbers, height_px // 4, width_px // 4]}
    constants = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([0, 0, -1], np.int64), "flat"))
    graph = helper.make_graph(
        nodes,
        "instances",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, height_px, width_px])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, _metadata("segment", _INSTANCES))
    return ["--model", _save(model, folder / "best.onnx")]


def _instances(folder: Path, image_HWC: Image) -> Expected:
    [boxes, prototypes], size, place = _ultralytics_outputs(folder, image_HWC, _INSTANCES)
    corners, _, classes, coefficients = suppressed(boxes, len(NAMES))
    return _nearest(painted(corners, classes, coefficients, prototypes, size)[place], image_HWC.shape[:2])


# ----------------------------------------------------------------------------------------------------------- MMDeploy


def _mmdeploy(
    *, with_argmax: bool, size: tuple[int, int] | None
) -> tuple[Callable[[Path], list[str]], Callable[[Path, Image], Expected]]:
    """Return a folder of a segmentor, of one size or with the ratio of the image kept between 96 and 160."""

    def make(folder: Path) -> list[str]:
        model = deployed_onnx(end="int64 N1HW" if with_argmax else "logits", size=size, batch=1)
        _save(model, folder / "end2end.onnx")
        resize = {"type": "Resize", "keep_ratio": size is None, "size": list((size or (96, 160))[::-1])}
        normalize = {"type": "Normalize", "mean": list(MEAN), "std": list(STD), "to_rgb": True}
        head = {"type": "FCNHead", "num_classes": len(NAMES), "with_argmax": with_argmax}
        tasks = [
            {"module": "Transform", "transforms": [{"type": "LoadImageFromFile"}, resize, normalize]},
            {"module": "Net", "input_map": {"img": "input"}},
            {"module": "mmseg", "component": "ResizeMask", "params": head},
        ]
        models = [{"name": "fcn", "net": "end2end.onnx", "backend": "onnxruntime"}]
        (folder / "pipeline.json").write_text(json.dumps({"pipeline": {"tasks": tasks}}))
        (folder / "deploy.json").write_text(json.dumps({"task": "Segmentor", "models": models}))
        return ["--model", str(folder), *_CLASSES]

    def reference(folder: Path, image_HWC: Image) -> Expected:
        rows, columns = size or _rescaled(image_HWC, short_px=96, long_px=160)
        resized_HWC = cv2.resize(image_HWC, (columns, rows), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        normalised_HWC = (resized_HWC.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
        [output] = _run(folder / "end2end.onnx", normalised_HWC.transpose(2, 0, 1))
        if with_argmax:
            return _nearest(output[0, 0], image_HWC.shape[:2])
        return expected_of(_bilinear(output[0], image_HWC.shape[:2]))

    return make, reference


def _rescaled(image_HWC: Image, *, short_px: int, long_px: int) -> tuple[int, int]:
    """Return the sides that mmcv's imrescale gives an image."""
    sides = image_HWC.shape[:2]
    scale = min(long_px / max(sides), short_px / min(sides))
    return int(sides[0] * scale + 0.5), int(sides[1] * scale + 0.5)


# ---------------------------------------------------------------------------------------------------------- PaddleSeg


def _make_paddleseg(output_op: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        end = {"argmax": "int32 NHW", "softmax": "softmax", "none": "logits"}[output_op]
        _save(deployed_onnx(end=end, names=("x", "y")), folder / "model.onnx")  # type: ignore[arg-type] # of End
        deploy = {
            "model": "model.pdmodel",
            "params": "model.pdiparams",
            "transforms": [{"type": "Resize", "target_size": [160, 96]}, {"type": "Normalize"}],
            "input_shape": [-1, 3, -1, -1],
            "output_op": output_op,
        }
        (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": deploy}))
        return ["--model", str(folder), *_CLASSES]

    return make


def _paddleseg(folder: Path, image_HWC: Image) -> Expected:
    """Return PaddleSeg's prediction, which resizes images as floating-point numbers."""
    resized_HWC = cv2.resize(image_HWC[..., ::-1].astype(np.float32), (160, 96), interpolation=cv2.INTER_LINEAR)
    [output] = _run(folder / "model.onnx", ((resized_HWC / 255 - 0.5) / 0.5).transpose(2, 0, 1))
    if output.ndim == 3:
        return _nearest(output[0], image_HWC.shape[:2])
    return expected_of(_bilinear(output[0], image_HWC.shape[:2]))


_LEVELS_ROUNDED = 0.01
"""PaddleSeg's input is not rounded to whole levels, that of fsf is."""


# ----------------------------------------------------------------------------------------------------------- Deepness


def _make_deepness(folder: Path) -> list[str]:
    metadata = {
        "model_type": json.dumps("Segmentor"),
        "class_names": json.dumps(dict(enumerate(NAMES))),
        "resolution": json.dumps(50),
        "standardization_mean": json.dumps([0.485, 0.456, 0.406]),
        "standardization_std": json.dumps([0.229, 0.224, 0.225]),
    }
    model = deployed_onnx(end="softmax", size=(96, 96), batch=1, metadata=metadata)
    return ["--model", _save(model, folder / "landcover.onnx"), "--resize", "stretch", "--interpolation", "linear"]


def _deepness(folder: Path, image_HWC: Image) -> Expected:
    tile_HWC = cv2.resize(image_HWC, (96, 96), interpolation=cv2.INTER_LINEAR)[..., ::-1]
    standardised_HWC = (np.float32(tile_HWC * 1.0 / 255.0) - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    [output] = _run(folder / "landcover.onnx", standardised_HWC.transpose(2, 0, 1))
    return expected_of(_bilinear(output[0], image_HWC.shape[:2]))


def _entry(
    name: str,
    family: str,
    model: tuple[Callable[[Path], list[str]], Callable[[Path, Image], Expected]],
    max_differing: float = 0.0,
) -> Entry:
    return Entry(name=name, family=family, make=model[0], reference=model[1], max_differing=max_differing)


ENTRIES = (
    _entry("ultralytics-sem", "ultralytics", _semantic(dynamic=False)),
    _entry("ultralytics-sem-dynamic", "ultralytics", _semantic(dynamic=True)),
    _entry("ultralytics-seg", "ultralytics", (_make_instances, _instances)),
    _entry("mmdeploy-class-map", "mmdeploy", _mmdeploy(with_argmax=True, size=(96, 160))),
    _entry("mmdeploy-kept-ratio", "mmdeploy", _mmdeploy(with_argmax=True, size=None)),
    _entry("mmdeploy-logits", "mmdeploy", _mmdeploy(with_argmax=False, size=(96, 160))),
    _entry("paddleseg-class-map", "paddleseg", (_make_paddleseg("argmax"), _paddleseg), _LEVELS_ROUNDED),
    _entry("paddleseg-logits", "paddleseg", (_make_paddleseg("none"), _paddleseg), _LEVELS_ROUNDED),
    _entry("deepness", "deepness", (_make_deepness, _deepness)),
)
