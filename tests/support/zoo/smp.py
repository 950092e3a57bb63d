"""segmentation_models.pytorch: folders of save_pretrained, and a checkpoint of a network by name.

The preprocessing is that of the library's own functions, read from the settings of timm's encoders, which need no hub.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fsf_core.export.families.optional import load
from tests.support.zoo.entry import Entry, Expected, expected_of
from tests.support.zoo.lively import enliven

ENCODER = "tu-test_resnet"
"""A tiny encoder of timm, whose statistics are not ImageNet's."""
_CLASSES = "background,sunburn,ulcer,wind_scarring"
_MULTIPLE = 16


def _library() -> Any:
    return load("segmentation_models_pytorch", "smp")


def build(architecture: str, **options: Any) -> nn.Module:
    """Return a small network with random weights that prefers each of its classes somewhere."""
    torch.manual_seed(2)
    network: nn.Module = getattr(_library(), architecture)(
        encoder_name=ENCODER, encoder_depth=4, encoder_weights=None, **{"classes": 4, **options}
    )
    enliven(network)
    return network


def save(network: Any, folder: Path) -> None:
    """Save as a training does that began with pretrained weights, which this machine has not."""
    network._hub_mixin_config["encoder_weights"] = "imagenet"
    network.save_pretrained(folder)


def _make_unet(folder: Path) -> list[str]:
    save(build("Unet", decoder_channels=(32, 16, 16, 8), aux_params={"classes": 3}), folder)
    words = f"--input-size 96x128 --resize stretch --interpolation linear --classes {_CLASSES}"
    return ["--model", str(folder), *words.split()]


def _make_linknet(folder: Path) -> list[str]:
    network = build("Linknet")
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in network.state_dict().items()}}, folder / "w.ckpt"
    )
    words = (
        f"--net smp:Linknet --net-option encoder_name={ENCODER} --net-option encoder_depth=4 "
        f"--net-option encoder_weights=imagenet --resize own --multiple-of {_MULTIPLE} --to-multiple pad "
        f"--padding 0 --align top-left --classes {_CLASSES}"
    )
    return ["--checkpoint", str(folder / "w.ckpt"), *words.split()]


def _prepared(image_HWC: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image as the library's preprocessing gives it."""
    preprocess = _library().encoders.get_preprocessing_fn(ENCODER)
    normalised_HWC = preprocess(cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB))
    return torch.from_numpy(normalised_HWC.transpose(2, 0, 1)[None].astype(np.float32))


def _stretched(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    network = _library().from_pretrained(folder, encoder_weights=None).eval()
    with torch.inference_mode():
        logits, _ = network(_prepared(cv2.resize(image_HWC, (128, 96), interpolation=cv2.INTER_LINEAR)))
        resized = functional.interpolate(logits, size=image_HWC.shape[:2], mode="bilinear", align_corners=False)
    return expected_of(resized[0].numpy())


def _padded(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    weights = torch.load(folder / "w.ckpt", weights_only=True)["state_dict"]
    network = _library().Linknet(ENCODER, encoder_depth=4, encoder_weights=None, classes=4).eval()
    network.load_state_dict({key.removeprefix("model."): value for key, value in weights.items()})
    height_px, width_px = image_HWC.shape[:2]
    padding = (0, -height_px % _MULTIPLE, 0, -width_px % _MULTIPLE)
    padded_HWC = cv2.copyMakeBorder(image_HWC, *padding, borderType=cv2.BORDER_CONSTANT, value=0)
    with torch.inference_mode():
        logits = network(_prepared(padded_HWC))
    return expected_of(logits[0, :, :height_px, :width_px].numpy())


ENTRIES = (
    Entry(name="smp-unet", family="smp", make=_make_unet, reference=_stretched),
    Entry(name="smp-linknet-checkpoint", family="smp", make=_make_linknet, reference=_padded),
)
