"""Trains the demo's model on drawn oranges: `python -m fsf_core.demo.train --out weights.safetensors`.

On one machine the same options give the same weights, also when a training is interrupted and resumed. Knows torch and
the examples. Knows nothing of exporting and scoring, which treat the model like any other.
"""

# N images, C channels, K classes, H×W pixels

import argparse
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fsf_core.demo.augment import INPUT_PX, NEAR, WIDE, random_view
from fsf_core.demo.examples import draw_examples, draw_held_out
from fsf_core.demo.model import build
from fsf_core.demo.oranges import CLASS_NAMES

log = logging.getLogger(__name__)

SOUGHT = (0, 1, 2, 3, 3)
"""Classes that examples are chosen for, equally often; scars are the hardest and count twice. All contain class 0."""
KEPT = 0.999
"""Share of the averaged weights that a step keeps."""
ENTROPY_WEIGHT = 5.0
"""Most pixels are easy, and their mean loss is small beside that of the overlap."""
MAX_GRADIENT = 5.0
RESTART_WARM_UP = 100
"""Steps of the second rise, or fewer if the first one has fewer."""
WATCHED = 48
"""Held-out drawings that the averaged network is measured on while it is trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The options that decide the weights; the defaults are those of the weights in this package."""

    steps: int = 5400
    wide_until: int = 2750
    """Step from which on views stay near to the drawings."""
    batch: int = 8
    examples: int = 2400
    seed: int = 0
    peak_rate: float = 2e-3
    warm_up: int = 300
    restart_at: int = 4000
    """Step from which on the learning rate rises once more, and falls until the last step."""
    restart_rate: float = 8e-4
    """Its second peak."""
    weight_decay: float = 0.02
    threads: int = 1
    device: str = "cpu"
    precision: str = "bfloat16"


class State:
    """What a training consists of between two steps."""

    def __init__(self, training: Training) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            networks = [build() for _ in range(2)]
        network, averaged = (_laid_out(each, training.device) for each in networks)
        averaged.load_state_dict(network.state_dict())
        self.training = training
        self.network = network
        self.averaged = averaged.eval()
        self.optimizer = _optimizer(network, training)
        self.step = 0
        _classify_before_enlarging(network)

    @classmethod
    def resume(cls, training: Training, path: Path) -> Self:
        """Return the state of a file, or that before the first step.

        Raises:
            ValueError: the file is of a training with other options.
        """
        state = cls(training)
        if path.exists():
            parts = torch.load(path, weights_only=True)
            if parts["training"] != asdict(training):
                raise ValueError(f"{path} is of {parts['training']}, expected {asdict(training)}; remove it")
            state.network.load_state_dict(parts["network"])
            state.averaged.load_state_dict(parts["averaged"])
            state.optimizer.load_state_dict(parts["optimizer"])
            state.step = parts["step"]
        return state

    def save(self, path: Path) -> None:
        """Write the state; an interruption leaves the earlier file."""
        parts = {
            "training": asdict(self.training),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        unfinished = path.with_suffix(".partial")
        torch.save(parts, unfinished)
        unfinished.replace(path)

    def advance(self, images_NCHW: Tensor, shares_NKHW: Tensor) -> float:
        """Train one step on images and the share of every class in their pixels; returns the loss."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed * 1_000_003 + self.step)  # of dropout: equal when resumed
            return self._advance(images_NCHW, shares_NKHW)

    def _advance(self, images_NCHW: Tensor, shares_NKHW: Tensor) -> float:
        training = self.training
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(training, self.step)
        self.network.train()
        precision = getattr(torch, training.precision)
        images_NCHW = images_NCHW.to(training.device, memory_format=torch.channels_last)
        with torch.autocast(training.device, dtype=precision, enabled=precision is not torch.float32):
            logits_NKHW = self.network(images_NCHW)
        loss = _loss(logits_NKHW.float(), shares_NKHW.to(training.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(KEPT, (1 + self.step) / (10 + self.step))
        current = self.network.state_dict()
        for name, mean in self.averaged.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - kept)
            else:
                mean.copy_(current[name])


def train(state: State, paths: Sequence[Path], *, until: int | None = None, every: int = 0,
          then: Callable[[State], None] = lambda _: None) -> list[float]:  # fmt: skip
    """Fit the network to examples; returns the loss of every step.

    Args:
        state: advanced in place.
        paths: the examples.
        until: step to stop at, as an interruption would (default: the last one).
        every: steps after which `then` is called with the state, each time; 0 for never.
        then: to measure and to save.
    """
    training = state.training
    make = partial(_batch, training, paths=paths, sought=_examples_by_class(paths))
    losses: list[float] = []
    began = time.monotonic()
    steps = range(state.step, training.steps if until is None else until)
    with _threads(training.threads), ThreadPoolExecutor(2) as pool:  # OpenCV and NumPy release the GIL
        ahead = [pool.submit(make, step) for step in steps[:2]]
        for step in steps:
            images, shares = ahead.pop(0).result()
            if step + 2 in steps:
                ahead.append(pool.submit(make, step + 2))
            losses.append(state.advance(images, shares))
            if state.step % 50 == 0:
                spent_s = time.monotonic() - began
                log.info(
                    "event=trained step=%d of_steps=%d loss=%.4f seconds=%.0f",
                    state.step,
                    training.steps,
                    np.mean(losses[-50:]),
                    spent_s,
                )
            if every and state.step % every == 0:
                then(state)
    return losses


@contextmanager
def _threads(torch_threads: int) -> Iterator[None]:
    """Set the number of torch's threads, which the order of additions depends on, and leave one to OpenCV."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(torch_threads)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def measure(network: nn.Module, drawings: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> dict[str, float]:
    """Return IoU by class and their mean on drawings, at their own size, as the fastsegformer preprocessing scores."""
    classes = len(CLASS_NAMES)
    confusion = np.zeros((classes, classes), np.int64)
    device = next(network.parameters()).device
    for image_HWC, label_HW in drawings:
        small_HWC = cv2.resize(image_HWC, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
        image_NCHW = torch.from_numpy(np.ascontiguousarray(small_HWC[..., ::-1].transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            scores_KHW = network(image_NCHW.to(device).float() / 255).softmax(dim=1)[0].float().cpu().numpy()
        resized_HWK = cv2.resize(np.ascontiguousarray(scores_KHW.transpose(1, 2, 0)), label_HW.shape[::-1])
        cells = label_HW.ravel().astype(np.int64) * classes + resized_HWK.argmax(axis=-1).ravel()
        confusion += np.bincount(cells, minlength=confusion.size).reshape(confusion.shape)
    both = np.diag(confusion)
    iou = both / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1) - both, 1)
    return {"mean": float(iou.mean()), **dict(zip(CLASS_NAMES, iou.tolist(), strict=True))}


def save(network: nn.Module, path: Path) -> None:
    """Write the weights as safetensors in half precision; the rounding belongs to the model."""
    from safetensors.torch import save_file

    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)


def _optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return AdamW; norms, biases and the factors of residual branches do not decay."""
    kernels = [weights for weights in network.parameters() if weights.ndim > 1 and weights.numel() > weights.shape[0]]
    chosen = {id(weights) for weights in kernels}
    others = [weights for weights in network.parameters() if id(weights) not in chosen]
    groups = [{"params": kernels, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.peak_rate)


def _laid_out(network: nn.Module, device: str) -> nn.Module:
    """Move a network to its device, with channels last, as fast convolutions have them."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _classify_before_enlarging(network: nn.Module) -> None:
    """Swap the last two layers, which commute because both are linear: 4 channels are enlarged instead of 32."""
    enlarge, classify = network.cnn_up  # type: ignore[misc]  # a Sequential
    network.cnn_up.forward = lambda scores_NCHW: enlarge(classify(scores_NCHW))  # type: ignore[union-attr]


def _rate(training: Training, step: int) -> float:
    """Return the learning rate: twice it rises and falls, the second time faster and to a lower peak."""
    restart_at = min(training.restart_at, training.steps)
    if step < restart_at:
        return _up_and_down(step, of_steps=restart_at, warm_up=training.warm_up, peak=training.peak_rate)
    warm_up = min(RESTART_WARM_UP, training.warm_up)
    of_steps = training.steps - restart_at
    return _up_and_down(step - restart_at, of_steps=of_steps, warm_up=warm_up, peak=training.restart_rate)


def _up_and_down(step: int, *, of_steps: int, warm_up: int, peak: float) -> float:
    """Return a rate that rises linearly, then falls along half a cosine to 1 % of its peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, of_steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _loss(logits_NKHW: Tensor, shares_NKHW: Tensor) -> Tensor:
    """Return cross entropy, and the Dice loss of the defects, which cover few pixels and would be ignored."""
    logarithms = logits_NKHW.log_softmax(dim=1)
    entropy = -(shares_NKHW * logarithms).sum(dim=1).mean()
    scores, wanted = logarithms.exp()[:, 1:], shares_NKHW[:, 1:]
    both = (scores * wanted).sum(dim=(0, 2, 3))
    squares = (scores**2 + wanted**2).sum(dim=(0, 2, 3))  # squared, it is least where scores equal shares
    return ENTROPY_WEIGHT * entropy + (1 - (2 * both + 20) / (squares + 20)).mean()


def _examples_by_class(paths: Sequence[Path]) -> list[NDArray[np.int64]]:
    """Return the positions of the examples that contain each class."""
    pixels = [np.bincount(np.load(path, mmap_mode="r")[..., 3].ravel(), minlength=len(CLASS_NAMES)) for path in paths]
    return [np.flatnonzero(np.stack(pixels)[:, class_id]) for class_id in range(len(CLASS_NAMES))]


def _batch(
    training: Training, step: int, *, paths: Sequence[Path], sought: Sequence[NDArray[np.int64]]
) -> tuple[Tensor, Tensor]:
    """Make the batch of a step, which depends on the seed and the step alone."""
    variety = WIDE if step < training.wide_until else NEAR
    views = []
    for place in range(training.batch):
        rng = np.random.default_rng([training.seed, step, place])
        class_id = int(rng.choice(SOUGHT))
        found = sought[class_id] if len(sought[class_id]) else sought[0]
        example_HWC = np.load(paths[rng.choice(found)])
        views.append(random_view(example_HWC, rng, classes=len(CLASS_NAMES), towards=class_id, variety=variety))
    images, shares = zip(*views, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(shares))


def _options() -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m fsf_core.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the weights, .safetensors")
    parser.add_argument("--work", type=Path, default=Path("demo-training"), help="folder of drawings and of the state")
    parser.add_argument("--every", type=int, default=200, help="steps between measurements, each of which saves")
    for name, value in asdict(Training()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default: {value}")
    return vars(parser.parse_args())


def main() -> None:
    """Draw, train, measure and save; logs the figures."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = _options()
    out, work, every = given.pop("out"), given.pop("work"), given.pop("every")
    training = Training(**given)
    paths = draw_examples(work / "drawings", training.examples, seed=training.seed)
    held_out = list(draw_held_out(WATCHED))
    state = State.resume(training, work / "state.pt")

    def look(state: State) -> None:
        log.info("event=measured step=%d iou=%r", state.step, json.dumps(measure(state.averaged, held_out)))
        state.save(work / "state.pt")

    train(state, paths, every=every, then=look)
    save(state.averaged, out)


if __name__ == "__main__":
    main()
