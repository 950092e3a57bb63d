"""Programs that torch itself stores, without preprocessing and classes: TorchScript archives and exported programs."""

# N images, K classes, H×W pixels

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fsf_core.export.inspection import inspect_model, proposal
from tests.support.tiny_net import TinyNet, build
from tests.support.zoo.entry import Entry, Expected, expected_of

_SIZE = (96, 128)
_PREPROCESSING = (
    *("--resize", "stretch", "--interpolation", "linear", "--channel-order", "rgb", "--scale", "255"),
    *("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"),
    *("--classes", "background,sunburn,ulcer,wind_scarring"),
)


class _Several(nn.Module):
    """Returns a mapping, and has its number of images in the shape of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build()

    def forward(self, batch_NCHW: Tensor) -> dict[str, Tensor]:
        logits_NKHW = self.net(batch_NCHW)
        rows_NKP = logits_NKHW.reshape(int(batch_NCHW.shape[0]), logits_NKHW.shape[1], -1)
        return {"out": rows_NKP.view(logits_NKHW.shape), "aux": logits_NKHW[:, :1]}


def _words(folder: Path, *words: str) -> list[str]:
    return ["--model", str(folder / "program"), *words, *_PREPROCESSING]


def _trace(folder: Path) -> list[str]:
    torch.jit.trace(build().eval(), torch.zeros(1, 3, *_SIZE)).save(folder / "program")
    return _words(folder, "--input-size", "96x128")


def _script(folder: Path) -> list[str]:
    torch.jit.script(TinyNet(4).eval()).save(folder / "program")
    network = torch.jit.load(folder / "program")
    network.load_state_dict(build().state_dict())
    network.save(folder / "program")
    return _words(folder, "--input-size", "96x128")


def _export(folder: Path) -> list[str]:
    """Export with the document that inspect-model proposes, filled in."""
    torch.export.save(torch.export.export(_Several().eval(), (torch.zeros(1, 3, *_SIZE),)), folder / "program")
    document = proposal(inspect_model(str(folder / "program")), "")
    for option, value in itertools.pairwise(_PREPROCESSING):
        key = option.removeprefix("--").replace("-", "_")
        document = re.sub(rf"(?m)^  {key}:  #.*", f"  {key}: {f'[{value}]' if ',' in value else value}", document)
    (folder / "model.yaml").write_text(document)
    return ["--model", str(folder / "program"), "--model-config", str(folder / "model.yaml"), *_PREPROCESSING[-2:]]


def _jit(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    return _expected(torch.jit.load(folder / "program"), image_HWC)


def _program(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    with (folder / "program").open("rb") as file:
        return _expected(torch.export.load(file).module(), image_HWC)


def _expected(network: nn.Module, image_HWC: NDArray[np.uint8]) -> Expected:
    resized_HWC = cv2.resize(image_HWC, _SIZE[::-1], interpolation=cv2.INTER_LINEAR)[..., ::-1].astype(np.float32)
    normalised_HWC = (resized_HWC / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    batch_NCHW = torch.from_numpy(normalised_HWC.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        logits_NKHW = network(batch_NCHW)
        logits_NKHW = logits_NKHW["out"] if isinstance(logits_NKHW, dict) else logits_NKHW
        probabilities_NKHW = functional.softmax(logits_NKHW, dim=1)
        resized = functional.interpolate(probabilities_NKHW, size=image_HWC.shape[:2], mode="bilinear")
    return expected_of(resized[0].numpy())


ENTRIES = (
    Entry(name="torchscript-traced", family="torchscript", make=_trace, reference=_jit),
    Entry(name="torchscript-scripted", family="torchscript", make=_script, reference=_jit),
    Entry(name="pt2-one-image", family="torch_export", make=_export, reference=_program),
)
