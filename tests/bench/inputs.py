"""Inputs of the benches: networks with recipe weights, a null model that takes no time, drawn images, manifests."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fsf_core.config import ExportConfig
from fsf_core.demo.oranges import draw_orange
from fsf_core.export.job import export
from fsf_core.model.preprocess import PROFILES
from tests.bench import bench_masks

if TYPE_CHECKING:
    from torch import nn

CLASSES = ("background", "sunburn", "ulcer", "wind_scarring")
MEGAPIXELS_12 = (3000, 4000)


def network(letter: str) -> "nn.Module":
    """Return FastSegFormer-P or -E with weights that follow a recipe."""
    import torch

    from fsf_core.export.build import load_network
    from tests.support import recipe

    built = load_network(f"fastsegformer-{letter}", num_classes=len(CLASSES))
    state = recipe.state(letter, [(name, tuple(tensor.shape)) for name, tensor in built.state_dict().items()])
    built.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return built


def write_weights(letter: str, path: Path) -> None:
    """Write recipe weights of FastSegFormer-P or -E, unless the file exists."""
    if not path.exists():
        import torch

        torch.save(network(letter).state_dict(), path)


def written_graph(letter: str) -> onnx.ModelProto:
    """Return the graph of FastSegFormer-P or -E with recipe weights as the default exporter writes it."""
    from fsf_core.export.convert import to_onnx
    from fsf_core.export.request import OPSETS

    return to_onnx(network(letter), PROFILES["fastsegformer"], opset=OPSETS["dynamo"])


def written_model(letter: str, home: Path) -> Path:
    """Write the graph of written_graph, with which a bundle's can be compared; returns its path."""
    path = home / f"written-{letter}.onnx"
    if not path.exists():
        onnx.save(written_graph(letter), path)
    return path


def model(letter: str, home: Path) -> tuple[Path, Path]:
    """Write recipe weights and the bundle that a user gets of them; returns the paths of both."""
    weights, bundle = home / f"{letter}.pth", home / f"bundle-{letter}"
    if not bundle.exists():
        from fsf_core.export import parity

        write_weights(letter, weights)
        # Recipe weights give masks like noise, of which int8 keeps a mean IoU of 0.77, below its limit.
        parity.PRECISION_LIMITS["int8"] = parity.PrecisionLimits(min_mean_iou=0, min_class_iou=0, max_differing_share=1)
        config = ExportConfig(
            net=f"fastsegformer-{letter}", checkpoint=str(weights), classes=CLASSES,
            precisions=("int8",) if letter == "p" else (), out=str(bundle),
        )  # fmt: skip
        export(config)
    return weights, bundle


def null_model(home: Path) -> Path:
    """Write a bundle whose model returns the same smooth regions for every image, in no time; returns its path."""
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
        export(ExportConfig(onnx=str(home / "null.onnx"), classes=CLASSES, profile="fastsegformer", out=str(bundle)))
    return bundle


def draw(folder: Path, *, frames: int, height_px: int, width_px: int) -> Path:
    """Write JPEGs of drawn oranges: a few images under many names, as drawing is slower than scoring."""
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


def write_manifest(images: Path, manifest: Path, items: int) -> Path:
    """Write a manifest of a number of items, which repeats the images of a folder."""
    paths = sorted(images.iterdir())
    lines = [f"{number:07d},{paths[number % len(paths)]}\n" for number in range(items)]
    manifest.write_text("id,uri\n" + "".join(lines))
    return manifest
