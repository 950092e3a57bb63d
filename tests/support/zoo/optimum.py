"""A folder as Optimum and transformers.js keep a model: config.json, its image processor, and onnx/model.onnx."""

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tests.support.zoo import transformers
from tests.support.zoo.entry import Entry, Expected

_WEIGHTS = "weights"
"""Folder with the weights, which the exported folder has not."""


class _Logits(nn.Module):
    """A model of transformers with its logits as the only output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.model(pixel_values=pixel_values).logits
        return logits


def make(folder: Path) -> list[str]:
    """Write both folders; returns the arguments of fsf export."""
    weights, exported = folder / _WEIGHTS, folder / "exported"
    (exported / "onnx").mkdir(parents=True)
    transformers.make(transformers.segformer, weights)
    model = transformers.library_model(weights)
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(weights / name, exported)
    axes = {0: "batch_size", 2: "height", 3: "width"}
    torch.onnx.export(
        _Logits(model),
        (torch.zeros(2, 3, 64, 64),),
        str(exported / "onnx" / "model.onnx"),
        dynamo=False,
        opset_version=17,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_axes={"pixel_values": axes, "logits": axes},
    )
    return ["--model", str(exported)]


def reference(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    """Return what processor, model and post-processing of the library make of a picture."""
    return transformers.reference(folder / _WEIGHTS, image_HWC)


ENTRIES = (Entry(name="optimum-segformer", family="optimum", make=make, reference=reference),)
