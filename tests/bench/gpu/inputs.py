"""Inputs of the GPU bench: bundles with fp16, pictures of several sizes, a video. Needs torch, and neither GPU nor Ray.

python -m tests.bench.gpu.inputs TASK FOLDER      one task of `prepare`, in this process
"""

import compileall
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fsf_core.demo.oranges import draw_orange
from tests.bench.gpu.setting import cores

DRAWN, DRAWN_QUICK = 40, 4
"""Different drawings of 512×512; each is flipped in three ways too."""

PARITY_SIZES = ((512, 512), (480, 640), (512, 512), (1080, 1920), (333, 517), (224, 224), (720, 1280), (2000, 1500))
"""Rows and columns of the pictures that class maps are compared on; one in fifty has 12 megapixels."""

VIDEO_FRAMES, VIDEO_FRAMES_QUICK = 2000, 96
VIDEO_HW = (1080, 1920)


def mark(folder: Path, *, quick: bool) -> Path:
    """Return the file with the seconds of the tasks whose results a folder has."""
    return folder / f"prepared{'-quick' * quick}.json"


def prepare(folder: Path, names: Iterable[str], *, quick: bool) -> dict[str, float]:
    """Run tasks unless the folder has their results, each in a process, all at once; returns the seconds of each.

    Args:
        folder: for results and logs.
        names: of TASKS.
        quick: whether for a rehearsal.

    Raises:
        RuntimeError: a task failed, whose output is in the message; or the folder has inputs of the other kind.
    """
    if (made := mark(folder, quick=quick)).exists():
        return dict(json.loads(made.read_text()))
    if mark(folder, quick=not quick).exists():
        kinds = ("a measurement", "a rehearsal (--quick)")
        raise RuntimeError(f"{folder} has inputs for {kinds[not quick]}, expected {kinds[quick]}; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    logs = {name: (folder / f"{name}.log").open("w+") for name in names}
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", "tests.bench.gpu.inputs", name, str(folder), *(["quick"] if quick else [])],
            stdout=logs[name],
            stderr=subprocess.STDOUT,
        )
        for name in logs
    }
    took: dict[str, float] = {}
    while len(took) < len(running):
        for name, process in running.items():
            if name not in took and process.poll() is not None:
                took[name] = round(time.monotonic() - started, 1)
        time.sleep(0.1)
    for name, process in running.items():
        if process.returncode:
            logs[name].seek(0)
            raise RuntimeError(f"the task {name} of --prepare failed:\n{logs[name].read()[-3000:]}")
    made.write_text(json.dumps(took))
    return took


def make_bundle(letter: str, folder: Path, *, quick: bool) -> None:
    """Export a network with fp16: recipe weights for p and e, trained ones for the demo's; if quick, a tiny one."""
    from fsf_core.config import ExportConfig
    from fsf_core.export import parity
    from fsf_core.export.job import export
    from tests.bench.inputs import CLASSES

    checkpoint = make_weights(letter, folder)
    if quick:
        if letter == "e":
            make_tiny_bundles(folder)
        return
    import torch

    torch.set_num_threads(max(1, cores() // 4))  # exports run side by side
    # Recipe weights give masks like noise, of which half precision keeps fewer pixels than of any trained network.
    parity.PRECISION_LIMITS["fp16"] = parity.PrecisionLimits(min_mean_iou=0.9, min_class_iou=0, max_differing_share=0.1)
    network = {"net": f"fastsegformer-{'p' if letter == 'p' else 'e'}", "checkpoint": str(checkpoint)}
    out = str(folder / f"bundle-{letter}")
    export(ExportConfig(**network, classes=CLASSES, exporter="torchscript", precisions=("fp16",), out=out))


def make_tiny_bundles(folder: Path) -> None:
    """Export one network of five nodes under the names of all."""
    import onnx

    from fsf_core.config import ExportConfig
    from fsf_core.export.job import export
    from tests.bench.inputs import CLASSES
    from tests.support.tiny_onnx import tiny_onnx

    one, file = str(folder / "bundle-e"), folder / "tiny.onnx"
    onnx.save(tiny_onnx(batch="batch"), file)
    export(ExportConfig(onnx=str(file), classes=CLASSES, out=one, profile="fastsegformer", precisions=("fp16",)))
    for other in ("p", "demo"):
        shutil.copytree(one, folder / f"bundle-{other}")


def make_weights(letter: str, folder: Path) -> Path:
    """Write the weights that peers load with torch too; returns their path."""
    from fsf_core.demo import WEIGHTS
    from tests.bench.inputs import write_weights

    if letter == "demo":
        return Path(WEIGHTS)
    path = folder / f"{letter}.pth"
    write_weights(letter, path)
    return path


def make_pictures(folder: Path, *, quick: bool) -> None:
    """Draw the pictures of 512×512, and those of other sizes from them."""
    small = folder / "distinct-512"
    small.mkdir(exist_ok=True)
    seeds = range(DRAWN_QUICK if quick else DRAWN)
    with ProcessPoolExecutor(cores()) as pool:
        images = list(pool.map(draw_orange_512, seeds))
    turned = [*images, *(cv2.flip(image, code) for code in (-1, 0, 1) for image in images)]
    for number, image in enumerate(turned):
        cv2.imwrite(str(small / f"{number:03d}.jpg"), image)
    mixed = folder / "parity"
    mixed.mkdir(exist_ok=True)
    count = 16 if quick else 196
    for number, (height_px, width_px) in zip(range(count), itertools.cycle(PARITY_SIZES), strict=False):
        image = cv2.resize(turned[number % len(turned)], (width_px, height_px), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(mixed / f"{number:03d}-{width_px}x{height_px}.jpg"), image)


def draw_orange_512(seed: int) -> np.ndarray:
    """Return one drawing."""
    return draw_orange(seed)[0]


def make_large(folder: Path, *, quick: bool) -> None:
    """Draw the pictures of 12 megapixels, and a video of a camera that moves over one of them."""
    large = folder / "distinct-12mp"
    large.mkdir(exist_ok=True)
    image = draw_orange(7)[0] if quick else draw_orange(7, height_px=3000, width_px=4000)[0]
    if quick:
        image = cv2.resize(image, (2000, 1500))
    turned = [image, *(cv2.flip(image, code) for code in (-1, 0, 1))]
    for number, one in enumerate(turned):
        cv2.imwrite(str(large / f"{number}.jpg"), one)
    mixed = folder / "parity"
    mixed.mkdir(exist_ok=True)
    for number, one in enumerate(turned):
        cv2.imwrite(str(mixed / f"large-{number}.jpg"), one)
    write_video(folder / "video-1080p.mp4", image, frames=VIDEO_FRAMES_QUICK if quick else VIDEO_FRAMES)


def write_video(path: Path, image_HWC: np.ndarray, *, frames: int) -> None:
    """Write an H.264 video of a window that moves over a picture, one column and every other row a frame."""
    import av

    height_px, width_px = VIDEO_HW
    rows, columns = (side - part for side, part in zip(image_HWC.shape[:2], VIDEO_HW, strict=True))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = height_px, width_px, "yuv420p"
        stream.thread_type = "AUTO"
        for number in range(frames):
            top, left = _bounce(number // 2, rows), _bounce(number, columns)
            view = np.ascontiguousarray(image_HWC[top : top + height_px, left : left + width_px])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="bgr24")))
        container.mux(stream.encode())


def _bounce(step: int, span: int) -> int:
    """Return a position that goes from 0 to a span and back, over and over."""
    at = step % max(1, 2 * span)
    return min(at, 2 * span - at)


def compile_kernels(folder: Path, *, quick: bool) -> None:
    """Compile the loops of all stages into their cache, as the first job after an installation does."""
    del folder, quick
    from fsf_core.stages.precompile import compile_loops

    compile_loops()


def compile_bytecode(folder: Path, *, quick: bool) -> None:
    """Compile what PYTHONPATH holds: otherwise each of the job's workers does, where nothing was installed."""
    del folder
    for entry in () if quick else os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if entry:
            compileall.compile_dir(entry, quiet=2, workers=0)


def linked(distinct: Path, folder: Path, count: int) -> Path:
    """Return a folder of a number of JPEGs, links to a few different ones."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(distinct.iterdir())
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        source = sources[number % len(sources)].resolve()
        if not path.exists():
            try:
                os.link(source, path)
            except OSError:  # another file system
                path.symlink_to(source)
    return folder


def write_list(pictures: Path, manifest: Path, count: int) -> Path:
    """Write a manifest of the first pictures of a folder."""
    paths = sorted(pictures.iterdir())[:count]
    manifest.write_text("id,uri\n" + "".join(f"{path.stem},{path}\n" for path in paths))
    return manifest


TASKS: dict[str, Callable[..., Any]] = {
    "bundle-p": lambda folder, quick: make_bundle("p", folder, quick=quick),
    "bundle-e": lambda folder, quick: make_bundle("e", folder, quick=quick),
    "bundle-demo": lambda folder, quick: make_bundle("demo", folder, quick=quick),
    "pictures": lambda folder, quick: make_pictures(folder, quick=quick),
    "large": lambda folder, quick: make_large(folder, quick=quick),
    "bytecode": lambda folder, quick: compile_bytecode(folder, quick=quick),
    "kernels": lambda folder, quick: compile_kernels(folder, quick=quick),
}

OF_MACHINE = ("bytecode", "kernels")
"""Tasks whose results are beside the source; those of the others can be carried to another machine."""

PORTABLE = tuple(name for name in TASKS if name not in OF_MACHINE)

if __name__ == "__main__":
    TASKS[sys.argv[1]](Path(sys.argv[2]), quick="quick" in sys.argv[3:])
