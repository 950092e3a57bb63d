"""The steps of the blog post that this project began with, its mistakes corrected; no line of it is the product's.

Corrected, so that the steps run and mean what the post says:

- the network is in eval mode before the export, not only by the exporter's `training=` argument;
- the old exporter is asked for, because the new one refuses opset 12;
- the session is given its provider;
- inputs of `session.run` are a dict, not a set, and the call has parentheses;
- `cvtColor` is given its conversion, and from BGR to RGB, which the post's RGB2BGR also does;
- scaling to [0, 1] is written out, as the post's `preprocess_input` is not defined; its unused torchvision transform
  with a mean and a std is left out;
- a picture that cannot be decoded is an error;
- `copy` is imported; the palette ends with VOC's own colour; names are required for the table;
- a video is read once, frame by frame, and an error in it is not swallowed.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

INPUT_SHAPE = (224, 224)
VOC_COLOURS = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
    (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128), (128, 64, 128),
]  # fmt: skip


def export(network: Any, path: Path) -> None:
    import onnx
    import torch

    network.eval()
    torch.onnx.export(
        network, (torch.zeros(1, 3, *INPUT_SHAPE),), str(path), opset_version=12, do_constant_folding=True,
        input_names=["input"], output_names=["output"], dynamo=False,
    )  # fmt: skip
    onnx.checker.check_model(onnx.load(str(path)))


def open_session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def read_image(path: Path) -> np.ndarray:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be decoded")
    return image


def read_frames(path: Path) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    while True:
        found, frame = video.read()
        if not found:
            return
        yield frame


def probabilities(session: Any, image: np.ndarray) -> np.ndarray:
    """Return H×W×K at the picture's own size; their argmax is the mask."""
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    resized = cv2.resize(rgb, INPUT_SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    data = np.expand_dims(np.transpose(np.array(resized, np.float32) / 255.0, (2, 0, 1)), 0)
    [output] = session.run(["output"], {"input": data})
    raised = np.exp(output[0] - output[0].max(axis=0))
    softmax = np.transpose(raised / raised.sum(axis=0), (1, 2, 0))
    return cv2.resize(softmax, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)


def count_table(mask: np.ndarray, names: Sequence[str]) -> str:
    lines = ["-" * 63, "|%25s | %15s | %15s|" % ("Key", "Value", "Ratio"), "-" * 63]  # noqa: UP031 - as in the post
    for index, name in enumerate(names):
        number = np.sum(mask == index)
        ratio = number / (mask.shape[0] * mask.shape[1]) * 100
        if number > 0:
            lines += ["|%25s | %15s | %14.2f%%|" % (str(name), str(number), ratio), "-" * 63]  # noqa: UP031 - the same
    return "\n".join(lines)


def blend(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    old = copy.deepcopy(image)
    colours = np.reshape(np.array(VOC_COLOURS, np.uint8)[mask.ravel()], [*mask.shape, 3])
    return cv2.addWeighted(old, 0.6, cv2.cvtColor(colours, cv2.COLOR_RGB2BGR), 0.4, 0)
