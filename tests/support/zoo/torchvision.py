"""torchvision: a network by name with the checkpoint of its reference training script."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fsf_core.export.families.optional import load
from tests.support.zoo.entry import Entry, Expected, expected_of
from tests.support.zoo.lively import enliven

_NAME = "lraspp_mobilenet_v3_large"
_SHORT_SIDE = 128
"""In place of the 520 of torchvision's preset, for the time that the test takes."""


def _build() -> Any:
    torch.manual_seed(2)
    segmentation = load("torchvision.models.segmentation", "torchvision")
    return getattr(segmentation, _NAME)(weights=None, weights_backbone=None, num_classes=4)


def _make(folder: Path) -> list[str]:
    network = _build()
    enliven(network, head="classifier.high_classifier", gain=20)
    checkpoint = {"model": network.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.01, aux_loss=False)}
    torch.save(checkpoint, folder / "model_3.pth")
    words = f"--net torchvision:{_NAME} --short-side {_SHORT_SIDE} --classes background,sunburn,ulcer,wind_scarring"
    return ["--checkpoint", str(folder / "model_3.pth"), *words.split()]


def _reference(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    network = _build().eval()
    network.load_state_dict(torch.load(folder / "model_3.pth", weights_only=False)["model"])
    preset = load("torchvision.transforms._presets", "torchvision").SemanticSegmentation(resize_size=_SHORT_SIDE)
    image_CHW = torch.from_numpy(np.ascontiguousarray(image_HWC[..., ::-1].transpose(2, 0, 1)))
    with torch.inference_mode():
        logits = network(preset(image_CHW)[None])["out"]
        resized = functional.interpolate(logits, size=image_HWC.shape[:2], mode="bilinear", align_corners=False)
    return expected_of(resized[0].numpy())


ENTRIES = (Entry(name=f"torchvision-{_NAME}", family="torchvision", make=_make, reference=_reference),)
