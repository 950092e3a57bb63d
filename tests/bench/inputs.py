"""What the benches feed: models by recipe and one that answers at once, drawn pictures, manifests."""

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fsf_core.config import ExportConfig
from fsf_core.demo.oranges import draw_orange
from fsf_core.export.job import export
from tests.bench import bench_masks

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
MEGAPIXELS_12 = (3000, 4000)


def model(letter: str, home: Path) -> tuple[Path, Path]:
    """Weights by recipe, and their bundle."""
    weights, bundle = home / f"{letter}.pth", home / f"bundle-{letter}"
    if not bundle.exists():
        import torch

        from fsf_core.export import parity
        from fsf_core.export.build import load_network
        from tests.support import recipe

        net = f"fastsegformer-{letter}"
        shapes = load_network(net, num_classes=4).state_dict()
        state = recipe.state(letter, [(name, tuple(tensor.shape)) for name, tensor in shapes.items()])
        torch.save({name: torch.from_numpy(array) for name, array in state.items()}, weights)
        # Weights by recipe answer with noise, of which int8 keeps a mean IoU of 0.77: they miss the gate.
        parity.PRECISION_LIMITS["int8"] = parity.PrecisionLimits(min_mean_iou=0, min_class_iou=0, max_differing_share=1)
        config = ExportConfig(
            net=net, checkpoint=str(weights), classes=CLASSES, exporter="torchscript",
            precisions=("int8",) if letter == "p" else (), out=str(bundle),
        )  # fmt: skip
        export(config)
    return weights, bundle


def null_model(home: Path) -> Path:
    """A bundle that answers every picture with the same smooth regions, at once."""
    bundle = home / "bundle-null"
    if not bundle.exists():
        field = bench_masks.fields()["smooth"][None]
        nodes = [
            helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
            helper.make_node("Add", ["zero", "field"], ["output"]),
        ]
        graph = helper.make_graph(
            nodes,
            "null",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 224, 224])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 4, 224, 224])],
            [numpy_helper.from_array(field, "field"), numpy_helper.from_array(np.float32(0), "nothing")],
        )
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), home / "null.onnx"
        )
        export(ExportConfig(onnx=str(home / "null.onnx"), classes=CLASSES, out=str(bundle)))
    return bundle


def draw(folder: Path, *, frames: int, height_px: int, width_px: int) -> Path:
    """JPEGs of drawn oranges; a few pictures under many names, so that drawing does not take longer than measuring."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [path.read_bytes() for path in sorted(folder.iterdir())]
    if not drawn:
        different = min(frames, 40 if height_px < MEGAPIXELS_12[0] else 1)  # 12 megapixels take 5 s to draw
        images = [draw_orange(seed, height_px=height_px, width_px=width_px)[0] for seed in range(different)]
        turned = [cv2.flip(image, code) for image in images for code in (-1, 0, 1)]
        drawn = [cv2.imencode(".jpg", image)[1].tobytes() for image in [*images, *turned]]
    for number in range(frames):
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            path.write_bytes(drawn[number % len(drawn)])
    return folder


def listed(pictures: Path, manifest: Path, items: int) -> Path:
    """A manifest that names the same pictures over and over."""
    paths = sorted(pictures.iterdir())
    lines = [f"{number:07d},{paths[number % len(paths)]}\n" for number in range(items)]
    manifest.write_text("id,uri\n" + "".join(lines))
    return manifest
