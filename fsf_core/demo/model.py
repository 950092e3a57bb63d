"""A small network for the drawn oranges and its training: what makes the demo run without a download.

Knows torch and the pictures of this package. Knows nothing of export and scoring, which treat it as any other model.
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
    """Three scales down, two up, logits at half the input's resolution, enlarged: about 55,000 parameters."""

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
        """Images, float32 [N, 3, 224, 224], RGB from 0 to 1, to logits [N, K, 224, 224]; any sides that divide by 8."""
        half = self.at_half(images_NCHW)
        quarter = self.at_quarter(half)
        eighth = self.at_eighth(quarter)
        quarter = self.join_quarter(quarter + _enlarge(eighth))
        half = self.join_half(half + _enlarge(self.narrow(quarter)))
        return _enlarge(self.head(half))


def build(num_classes: int = len(CLASS_NAMES)) -> nn.Module:
    """The untrained network."""
    return TinySegmenter(num_classes)


def train(
    checkpoint_path: Path, *, steps: int = 220, crops: int = 16, pictures: int = 120, seed: int = 0
) -> list[float]:
    """Fit the network to drawn oranges and save its state dict.

    The result follows from the arguments: on one machine, the same arguments give the same weights. Torch gets one
    thread, because several add in an order that depends on their number, and stall each other on a busy machine.

    Args:
        checkpoint_path: `.pth` file, overwritten; plain tensors, so that `weights_only` loading reads it.
        steps: batches to learn from.
        crops: windows in a batch.
        pictures: different pictures to draw; at least six, so that every class occurs.
        seed: of the pictures, the windows and the first weights.

    Returns:
        The loss of every step.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build()
            examples = _draw_examples(pictures, seed=seed)
            losses = _fit(network, _batches(examples, steps=steps, crops=crops, seed=seed), steps)
    finally:
        torch.set_num_threads(threads_before)
    checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), checkpoint_path)
    return losses


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _enlarge(features_NCHW: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return functional.interpolate(features_NCHW, scale_factor=2.0, mode="bilinear", align_corners=False)


def _draw_examples(pictures: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures as the network sees them, uint8 RGB [N, 3, 224, 224], and labels, int64 [N, 224, 224]."""
    with ThreadPoolExecutor(2) as pool:  # OpenCV and NumPy release the interpreter's lock
        images, labels = zip(*pool.map(partial(_example, seed=seed), range(pictures)), strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels).astype(np.int64))


def _example(index: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture, uint8 RGB 3×224×224, and its label, 224×224.

    It is drawn larger and shrunk as in scoring, because that resize does not smooth and so leaves its own grain.
    """
    # Kinds of picture go by the seed modulo six, so sizes change every six: all pairs occur.
    height_px, width_px = TRAINING_SIZES_HW[index // 6 % len(TRAINING_SIZES_HW)]
    drawn_seed = FIRST_TRAINING_SEED * (seed + 1) + index
    image_HWC, label_HW = draw_orange(drawn_seed, height_px=height_px, width_px=width_px)
    small_HWC = cv2.resize(image_HWC, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
    small_HW = cv2.resize(label_HW, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small_HWC[..., ::-1].transpose(2, 0, 1), np.uint8), np.asarray(small_HW, np.uint8)


def _batches(examples: tuple[Tensor, Tensor], *, steps: int, crops: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows of the pictures, float32 0 to 1 [N, 3, 112, 112], and their labels, int64 [N, 112, 112].

    Three in four hold a defect, each class as often as the others: on whole pictures, where defects cover two pixels
    in a hundred, the same time teaches far less.
    """
    images, labels = examples
    rng = np.random.default_rng(seed)
    places = [np.argwhere(labels.numpy() == class_id) for class_id in range(1, len(CLASS_NAMES))]
    anywhere = np.indices((len(images), 8, 8)).reshape(3, -1).T * (1, INPUT_PX // 8, INPUT_PX // 8)
    places = [*(found for found in places if len(found)), anywhere]
    for _ in range(steps):
        windows = [_window(images, labels, rng.choice(places[rng.integers(len(places))]), rng) for _ in range(crops)]
        batch = torch.stack([image for image, _ in windows]).float() / 255
        light = torch.from_numpy(rng.uniform(0.9, 1.1, (crops, 3, 1, 1)).astype(np.float32))
        yield (batch * light).clamp(0, 1), torch.stack([label for _, label in windows])


def _window(
    images: Tensor, labels: Tensor, place: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A window that holds a place (picture, row, column), flipped and turned at random."""
    top, left = np.clip(place[1:] - rng.integers(0, CROP_PX, 2), 0, INPUT_PX - CROP_PX).tolist()
    image = images[place[0], :, top : top + CROP_PX, left : left + CROP_PX]
    label = labels[place[0], top : top + CROP_PX, left : left + CROP_PX]
    if rng.integers(2):
        image, label = image.flip(-1), label.flip(-1)
    quarter_turns = int(rng.integers(4))
    return image.rot90(quarter_turns, (-2, -1)), label.rot90(quarter_turns, (-2, -1))


def _fit(network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> list[float]:
    """One pass of AdamW with a rate that rises and falls."""
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
    """Cross entropy, plus one minus the Dice overlap of the defects: they cover few pixels and would be ignored."""
    entropy = functional.cross_entropy(logits_NKHW, truth_NHW)
    scores = logits_NKHW.softmax(dim=1)[:, 1:]
    wanted = functional.one_hot(truth_NHW, logits_NKHW.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
    both = (scores * wanted).sum(dim=(0, 2, 3))
    either = scores.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3))
    return entropy + 0.5 * (1 - (2 * both + 1) / (either + 1)).mean()
