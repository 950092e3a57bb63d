"""Programs that a user might run instead of `fsf score`, written as they would write them; and the bare model.

Every contender reads the same encoded images and, except for the bare model, writes a result of the original size for
each. Each runs in a separate process: `python -m tests.bench.peers NAME --model M.onnx --weights W.pth --net NET
--pictures DIR --out DIR` prints one JSON line. Its `whole` counts from the moment when the program and the model are
loaded; starting pools and clusters is part of the work. The times of results are recorded in files beside the results,
one per process, for a rate without the start (see meter.steady_rate).
"""

# N frames, K classes, H×W pixels

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COLOURS = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
SIDE = 224


@dataclass(frozen=True, kw_only=True)
class Task:
    """Inputs of a contender."""

    model: Path
    weights: Path
    net: str
    pictures: list[Path]
    """The images, or one video."""
    frames: int
    out: Path
    device: str = "cpu"
    """cpu or cuda; what runs there is the model, and what its users' code runs beside it."""

    @property
    def times(self) -> Path:
        """Folder in which the times of results are recorded."""
        return self.out.with_name(f"{self.out.name}-times")


def record(times: Path, frames: int) -> None:
    """Record the time of a number of new results; several processes may do so."""
    times.mkdir(exist_ok=True)
    with (times / str(os.getpid())).open("a") as file:
        file.write(f"{time.time()} {frames}\n")


def ort_session(model: Path, *, threads: int, device: str = "cpu") -> Any:
    """Return a session with default options, except for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    providers = ["CPUExecutionProvider"]
    if device == "cuda":
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    assert session.get_providers()[0] == providers[0], f"the session runs on {session.get_providers()}"
    return session


def network_input(image_HWC: np.ndarray) -> np.ndarray:
    """Preprocess a BGR image as the authors' tools do; returns 1×3×224×224."""
    small = cv2.cvtColor(cv2.resize(image_HWC, (SIDE, SIDE)), cv2.COLOR_BGR2RGB)
    return np.expand_dims(np.transpose(small.astype(np.float32) / 255.0, (2, 0, 1)), 0)


def seed_postprocess(logits_KHW: Any, image_HWC: np.ndarray, *, draw: bool) -> np.ndarray:
    """Turn logits, a tensor on any device, into the overlay, or into the class map, as the authors' tools do."""
    from torch.nn import functional

    scores = functional.softmax(logits_KHW.permute(1, 2, 0), dim=-1).cpu().numpy()
    height, width = image_HWC.shape[:2]
    class_map = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR).argmax(axis=-1)
    counts = np.zeros(len(COLOURS))
    for k in range(len(COLOURS)):
        counts[k] = np.sum(class_map == k)
    if not draw:
        return class_map.astype(np.uint8)
    painted = np.reshape(np.array(COLOURS, np.uint8)[np.reshape(class_map, [-1])], [height, width, -1])
    return cv2.addWeighted(image_HWC, 0.6, cv2.cvtColor(painted, cv2.COLOR_RGB2BGR), 0.4, 0)


def seed_loop(infer: Callable[[np.ndarray], Any], task: Task, *, draw: bool = True) -> float:
    """Score one image after another, as the authors' tools do; returns seconds."""
    started = time.perf_counter()
    for path in task.pictures:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        result = seed_postprocess(infer(network_input(image))[0], image, draw=draw)
        cv2.imwrite(str(task.out / f"{path.stem}.{'jpg' if draw else 'png'}"), result)
        record(task.times, 1)
    return time.perf_counter() - started


def ort_logits(task: Task) -> Callable[[np.ndarray], Any]:
    """Return a batch's logits by ONNX Runtime as a function."""
    import torch

    session = ort_session(task.model, threads=2, device=task.device)
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch})[0])


def seed_ort(task: Task) -> float:
    """Run the authors' loop on ONNX Runtime with two threads."""
    return seed_loop(ort_logits(task), task)


def seed_ort_plain(task: Task) -> float:
    """Run the same loop without overlays: one mask per image, as fsf writes."""
    return seed_loop(ort_logits(task), task, draw=False)


def torch_network(task: Task, threads: int) -> Any:
    import torch

    from fsf_core.export.build import load_network

    torch.set_num_threads(threads)
    return load_network(task.net, num_classes=len(COLOURS), checkpoint=str(task.weights)).to(task.device)


def seed_torch(task: Task) -> float:
    """Run the authors' loop on PyTorch with two threads."""
    import torch

    network = torch_network(task, 2)
    with torch.inference_mode():
        return seed_loop(lambda batch: network(torch.from_numpy(batch).to(task.device)), task)


def dataloader(task: Task) -> float:
    """Run PyTorch batches with a DataLoader and interpolate to the original size, as Hugging Face's examples do."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader

    network = torch_network(task, 2)
    batch, workers = (32, os.cpu_count() or 1) if task.device == "cuda" else (8, 1)
    loader: Any = DataLoader(Pictures(task.pictures), batch_size=batch, num_workers=workers, collate_fn=list)
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in loader:
            logits = network(torch.from_numpy(np.concatenate([inputs for inputs, _, _ in batch])).to(task.device))
            probabilities = functional.softmax(logits, dim=1)
            for scores, (_, size, stem) in zip(probabilities, batch, strict=True):
                full = functional.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)
                class_map = full.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
                cv2.imwrite(str(task.out / f"{stem}.png"), class_map)
                record(task.times, 1)
    return time.perf_counter() - started


class Pictures:
    """Map-style dataset of network inputs, sizes and names."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> tuple[np.ndarray, tuple[int, int], str]:
        image = cv2.imread(str(self._paths[at]))
        return network_input(image), image.shape[:2], self._paths[at].stem


class Segment:
    """A predictor as Ray Data's and Daft's guides show one: a class that loads the model once."""

    def __init__(self, model: str, times: str, device: str = "cpu") -> None:
        self.session = ort_session(Path(model), threads=1, device=device)
        self.input = self.session.get_inputs()[0].name
        self.times = Path(times)

    def masks(self, images: list[np.ndarray]) -> list[bytes]:
        """Return the class map of every RGB image as a PNG of the same size."""
        inputs = np.concatenate([network_input(image[..., ::-1]) for image in images])
        found = []
        for logits, image in zip(self.session.run(None, {self.input: inputs})[0], images, strict=True):
            powers = np.exp(logits - logits.max(0))
            scores = np.ascontiguousarray((powers / powers.sum(0)).transpose(1, 2, 0))
            class_map = cv2.resize(scores, image.shape[1::-1]).argmax(-1).astype(np.uint8)
            found.append(cv2.imencode(".png", class_map)[1].tobytes())
        record(self.times, len(found))
        return found

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score a batch in Ray Data's form, a dict of columns."""
        return {"path": batch["path"], "mask": self.masks(list(batch["image"]))}


def ray_docs(task: Task) -> float:
    """Run Ray Data as its documentation writes a batch job: read_images, map_batches with a class, write_parquet."""
    import ray

    gpu = task.device == "cuda"
    ray.init(
        address="local", num_cpus=None if gpu else 4, include_dashboard=False, logging_level="ERROR",
        log_to_driver=False,
    )  # fmt: skip
    actors = {"batch_size": 32, "num_gpus": 1, "compute": ray.data.ActorPoolStrategy(size=1)}
    if not gpu:
        actors = {"batch_size": 8, "num_cpus": 1, "compute": ray.data.ActorPoolStrategy(size=2)}
    started = time.perf_counter()
    (
        ray.data.read_images([str(path) for path in task.pictures], include_paths=True, mode="RGB")
        .map_batches(Segment, fn_constructor_args=[str(task.model), str(task.times), task.device], **actors)
        .write_parquet(str(task.out))
    )
    return time.perf_counter() - started


def daft_job(task: Task) -> float:
    """Run Daft with the same session: download, decode, a class UDF, write_parquet."""
    import daft

    @daft.cls(max_concurrency=2)
    class DaftSegment:
        def __init__(self, model: str, times: str) -> None:
            self.segment = Segment(model, times)

        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=8)
        def __call__(self, images: daft.Series) -> list[bytes]:
            return self.segment.masks([np.asarray(image) for image in images.to_pylist()])

    started = time.perf_counter()
    segment = DaftSegment(str(task.model), str(task.times))
    frame = daft.from_pydict({"path": [str(path) for path in task.pictures]})
    image = frame["path"].download().decode_image(mode="RGB")
    frame.with_column("mask", segment(image)).select("path", "mask").write_parquet(str(task.out))
    return time.perf_counter() - started


def seed_video(task: Task) -> float:
    """Run the authors' loop over a video with two threads: read, infer, draw, write."""
    infer = ort_logits(task)
    reader = cv2.VideoCapture(str(task.pictures[0]))
    size = (int(reader.get(cv2.CAP_PROP_FRAME_WIDTH)), int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(str(task.out / "drawn.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    started = time.perf_counter()
    for _ in range(task.frames):
        _, image = reader.read()
        writer.write(seed_postprocess(infer(network_input(image))[0], image, draw=True))
        record(task.times, 1)
    writer.release()
    return time.perf_counter() - started


def bare(model: Path, seconds: float) -> float:
    """Return the frames/s of the model alone on inputs in memory: one process per core, one thread, batches of 4."""
    command = [sys.executable, "-m", "tests.bench.peers", "bare_one", "--model", str(model), "--seconds", str(seconds)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    return sum(json.loads(one.communicate()[0])["steady"] for one in started)


def bare_one(model: Path, seconds: float) -> float:
    """Return the frames/s of one of these processes, counted from a second after its start."""
    session = ort_session(model, threads=1)
    batch = np.random.default_rng(0).random((4, 3, SIDE, SIDE), np.float32)
    ready = time.perf_counter() + 1
    while time.perf_counter() < ready:
        session.run(None, {"input": batch})
    started, frames = time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        session.run(None, {"input": batch})
        frames += len(batch)
    return frames / (time.perf_counter() - started)


CONTENDERS: dict[str, Callable[[Task], float]] = {
    "seed_ort": seed_ort,
    "seed_ort_plain": seed_ort_plain,
    "seed_torch": seed_torch,
    "seed_video": seed_video,
    "ray_docs": ray_docs,
    "daft": daft_job,
    "dataloader": dataloader,
}


def main() -> None:
    """Run one contender and print its rate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--net")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    if given.name in ("bare", "bare_one"):
        measure = bare if given.name == "bare" else bare_one
        print(json.dumps({"steady": measure(given.model, given.seconds)}))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    pictures = sorted(given.pictures.iterdir())[: given.frames]
    task = Task(
        model=given.model, weights=given.weights, net=given.net, pictures=pictures, frames=given.frames, out=given.out,
        device=given.device,
    )  # fmt: skip
    seconds = CONTENDERS[given.name](task)
    print(json.dumps({"whole": given.frames / seconds}))


if __name__ == "__main__":
    main()
