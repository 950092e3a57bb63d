"""A tiny network for drawn oranges that trains in seconds, for what needs a model that is often wrong.

Knows torch and the drawings of fsf_core.demo.
"""

# N images, C channels, K classes, H×W pixels

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fsf_core.demo.oranges import CLASS_NAMES, draw_orange

INPUT_PX = 224
CROP_PX = 112
TRAINING_SIZES_HW = ((224, 224), (448, 448), (288, 384), (320, 320))
FIRST_TRAINING_SEED = 1_000_000
"""Far from the seeds of any demo folder."""


class TinySegmenter(nn.Module):
    """An encoder to 1/8 of the input's resolution and a decoder back to 1/2, about 55,000 parameters."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.at_half = _block(3, 16, kernel=5, stride=2)
        self.at_quarter = nn.Sequential(_block(16, 32, stride=2), _block(32, 32))
        self.at_eighth = nn.Sequential(_block(32, 32, stride=2), _block(32, 32, dilation=2), _block(32, 32, dilation=4))
        self.join_quarter = _block(32, 32)
        self.narrow = nn.Conv2d(32, 16, 1)
        self.join_half = _block(16, 16)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits [N, K, H, W] for images, float32 RGB [N, 3, H, W] from 0 to 1; H and W are multiples of 8."""
        half = self.at_half(images_NCHW)
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        quarter = self.join_quarter(quarter + _enlarge(eighth))
        half = self.join_half(half + _enlarge(self.narrow(quarter)))
        return _enlarge(self.head(half))


def build(num_classes: int = len(CLASS_NAMES)) -> nn.Module:
    """Return the untrained network."""
    return TinySegmenter(num_classes)


def train(
    checkpoint_path: Path, *, steps: int = 220, crops: int = 16, num_images: int = 120, seed: int = 0
) -> list[float]:
    """Fit the network to drawn oranges and save its state dict.

    On one machine, the same arguments give the same weights. Torch uses one thread, because the order of additions
    depends on the number of threads, and several stall each other on a busy machine.

    Args:
        checkpoint_path: `.pth` file, overwritten; contains only tensors, for `weights_only` loading.
        steps: number of batches.
        crops: crops per batch.
        num_images: number of different images; at least six, so that every class occurs.
        seed: of the images, the crops and the initial weights.

    Returns:
        The loss of every step.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build()
            examples = _draw_examples(num_images, seed=seed)
            losses = _fit(network, _batches(examples, steps=steps, crops=crops, seed=seed), steps)
    finally:
        torch.set_num_threads(threads_before)
    checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), checkpoint_path)
    return losses


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _enlarge(features_NCHW: Tensor) -> Tensor:
    """Upsample by two, bilinear."""
    return functional.interpolate(features_NCHW, scale_factor=2.0, mode="bilinear", align_corners=False)


def _draw_examples(num_images: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images at the network's input size, uint8 RGB [N, 3, 224, 224], and labels, int64 [N, 224, 224]."""
    with ThreadPoolExecutor(2) as pool:  # OpenCV and NumPy release the GIL
        images, labels = zip(*pool.map(partial(_example, seed=seed), range(num_images)), strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels).astype(np.int64))


def _example(index: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image, uint8 RGB 3×224×224, and its label, 224×224.

    It is drawn at full size and resized as in scoring, because that resize is not smoothed and leaves its own grain.
    """
    # Defects depend on the seed modulo six, so sizes change every six images: all pairs occur.
    height_px, width_px = TRAINING_SIZES_HW[index // 6 % len(TRAINING_SIZES_HW)]
    drawn_seed = FIRST_TRAINING_SEED * (seed + 1) + index
    image_HWC, label_HW = draw_orange(drawn_seed, height_px=height_px, width_px=width_px)
    small_HWC = cv2.resize(image_HWC, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    small_HW = cv2.resize(label_HW, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small_HWC[..., ::-1].transpose(2, 0, 1), np.uint8), np.asarray(small_HW, np.uint8)


def _batches(examples: tuple[Tensor, Tensor], *, steps: int, crops: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random crops, float32 0 to 1 [N, 3, 112, 112], and their labels, int64 [N, 112, 112].

    Three in four contain a defect, every class equally often: defects cover 2 % of whole images, which train far more
    slowly.
    """
    images, labels = examples
    rng = np.random.default_rng(seed)
    places = [np.argwhere(labels.numpy() == class_id) for class_id in range(1, len(CLASS_NAMES))]
    anywhere = np.indices((len(images), 8, 8)).reshape(3, -1).T * (1, INPUT_PX // 8, INPUT_PX // 8)
    places = [*(found for found in places if len(found)), anywhere]
    for _ in range(steps):
        batch_crops = [_crop(images, labels, rng.choice(places[rng.integers(len(places))]), rng) for _ in range(crops)]
        batch = torch.stack([image for image, _ in batch_crops]).float() / 255
        light = torch.from_numpy(rng.uniform(0.9, 1.1, (crops, 3, 1, 1)).astype(np.float32))
        yield (batch * light).clamp(0, 1), torch.stack([label for _, label in batch_crops])


def _crop(images: Tensor, labels: Tensor, place: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a random crop that contains a place (image, row, column), randomly flipped and rotated."""
    top, left = np.clip(place[1:] - rng.integers(0, CROP_PX, 2), 0, INPUT_PX - CROP_PX).tolist()
    image = images[place[0], :, top : top + CROP_PX, left : left + CROP_PX]
    label = labels[place[0], top : top + CROP_PX, left : left + CROP_PX]
    if rng.integers(2):
        image, label = image.flip(-1), label.flip(-1)
    quarter_turns = int(rng.integers(4))
    return image.rot90(quarter_turns, (-2, -1)), label.rot90(quarter_turns, (-2, -1))


def _fit(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> list[float]:
    """Train with AdamW and a one-cycle learning rate; return the loss of every step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps, pct_start=0.2)
    network.train()
    losses = []
    for batch, truth in batches:
        loss = _loss(network(batch), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    network.eval()
    return losses


def _loss(logits_NKHW: Tensor, truth_NHW: Tensor) -> Tensor:
    """Return cross entropy plus half the Dice loss of the defects, which cover few pixels and would be ignored."""
    entropy = functional.cross_entropy(logits_NKHW, truth_NHW)
    scores = logits_NKHW.softmax(dim=1)[:, 1:]
    wanted = functional.one_hot(truth_NHW, logits_NKHW.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
    both = (scores * wanted).sum(dim=(0, 2, 3))
    either = scores.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3))
    return entropy + 0.5 * (1 - (2 * both + 1) / (either + 1)).mean()
