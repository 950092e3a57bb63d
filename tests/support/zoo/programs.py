"""Programs that torch itself stores, without preprocessing and classes: TorchScript archives."""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tests.support.tiny_net import build
from tests.support.zoo.entry import Entry, Expected, expected_of

_SIZE = 128
_OPTIONS = (
    f"--input-size {_SIZE}x{_SIZE} --resize stretch --interpolation linear --channel-order rgb "
    "--scale 255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --classes background,sunburn,ulcer,wind_scarring"
).split()


def _trace(folder: Path) -> list[str]:
    torch.jit.trace(build().eval(), torch.zeros(1, 3, _SIZE, _SIZE)).save(folder / "network.pt")
    return ["--model", str(folder / "network.pt"), *_OPTIONS]


def _reference(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    network = torch.jit.load(folder / "network.pt")
    resized_HWC = cv2.resize(image_HWC, (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)[..., ::-1].astype(np.float32)
    normalised_HWC = (resized_HWC / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    batch_NCHW = torch.from_numpy(normalised_HWC.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        probabilities_NKHW = functional.softmax(network(batch_NCHW), dim=1)
        resized = functional.interpolate(probabilities_NKHW, size=image_HWC.shape[:2], mode="bilinear")
    return expected_of(resized[0].numpy())


ENTRIES = (Entry(name="torchscript-traced", family="torchscript", make=_trace, reference=_reference),)
