"""Small models of transformers with random weights, and what the library's own processors make of a picture."""

# K classes, H×W pixels

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fsf_core.export.families.optional import load
from tests.support.zoo.entry import Entry, Expected, expected_of

NAMES = ("wall", "chest of drawers, chest", "tree", "sky", "road")
_STAGES = ("stage1", "stage2", "stage3", "stage4")


def _library() -> Any:
    return load("transformers", "transformers")


def _labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}


def _swin(library: Any) -> Any:
    return library.SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 2, 4], window_size=4, out_features=list(_STAGES)
    )


def segformer(library: Any, **more: Any) -> tuple[Any, Any]:
    """Build SegFormer, and its processor of one size."""
    config = library.SegformerConfig(
        **{**_labels(), "depths": [1] * 4, "hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 32, **more}
    )
    return library.SegformerForSemanticSegmentation(config), library.SegformerImageProcessor(size=_square(128))


def upernet(library: Any) -> tuple[Any, Any]:
    """Build UPerNet on ConvNeXt."""
    backbone = library.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=list(_STAGES))
    config = library.UperNetConfig(**_labels(), backbone_config=backbone, hidden_size=24, auxiliary_in_channels=24)
    return library.UperNetForSemanticSegmentation(config), library.SegformerImageProcessor(size=_square(64))


def upernet_swin(library: Any) -> tuple[Any, Any]:
    """Build UPerNet on Swin."""
    config = library.UperNetConfig(
        **_labels(), backbone_config=_swin(library), hidden_size=24, auxiliary_in_channels=64
    )
    return library.UperNetForSemanticSegmentation(config), library.SegformerImageProcessor(size=_square(64))


def dpt(library: Any) -> tuple[Any, Any]:
    """Build DPT, with a processor that resizes by bicubic interpolation."""
    config = library.DPTConfig(
        **_labels(),
        **_transformer(),
        neck_hidden_sizes=[8, 16, 24, 32],
        backbone_out_indices=[0, 1, 2, 3],
        fusion_hidden_size=16,
    )
    return library.DPTForSemanticSegmentation(config), library.DPTImageProcessor(size=_square(64))


def beit(library: Any) -> tuple[Any, Any]:
    """Build BEiT."""
    config = library.BeitConfig(
        **_labels(), **_transformer(), out_indices=[1, 2, 3, 4], use_relative_position_bias=True, auxiliary_channels=16
    )
    return library.BeitForSemanticSegmentation(config), library.BeitImageProcessor(size=_square(64))


def data2vec(library: Any) -> tuple[Any, Any]:
    """Build Data2VecVision."""
    config = library.Data2VecVisionConfig(
        **_labels(), **_transformer(), out_indices=[0, 1, 2, 3], use_relative_position_bias=True, auxiliary_channels=16
    )
    return library.Data2VecVisionForSemanticSegmentation(config), library.BeitImageProcessor(size=_square(64))


def mobilevit(library: Any) -> tuple[Any, Any]:
    """Build MobileViT, whose processor crops, and flips the channels."""
    config = library.MobileViTConfig(
        **_labels(),
        image_size=64,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[4, 8, 8, 16, 16, 16, 32],
        num_attention_heads=2,
        aspp_out_channels=16,
        output_stride=16,
    )
    processor = library.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=_square(64))
    return library.MobileViTForSemanticSegmentation(config), processor


def mobilevitv2(library: Any) -> tuple[Any, Any]:
    """Build MobileViTV2."""
    config = library.MobileViTV2Config(
        **_labels(),
        image_size=64,
        n_attn_blocks=[1] * 3,
        base_attn_unit_dims=[16, 24, 32],
        width_multiplier=0.25,
        aspp_out_channels=16,
        output_stride=16,
    )
    processor = library.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=_square(64))
    return library.MobileViTV2ForSemanticSegmentation(config), processor


def mobilenet_v2(library: Any) -> tuple[Any, Any]:
    """Build MobileNetV2."""
    config = library.MobileNetV2Config(**_labels(), image_size=64, depth_multiplier=0.25, output_stride=8)
    processor = library.MobileNetV2ImageProcessor(size={"shortest_edge": 72}, crop_size=_square(65))
    return library.MobileNetV2ForSemanticSegmentation(config), processor


def sapiens2(library: Any) -> tuple[Any, Any]:
    """Build Sapiens2."""
    config = library.Sapiens2Config(
        **_labels(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=48,
        image_size=64,
        patch_size=16,
        head_config={"upsample_out_channels": [16, 16], "conv_out_channels": [16]},
    )
    return library.Sapiens2ForSemanticSegmentation(config), library.Sapiens2ImageProcessor(size=_square(64))


def maskformer(library: Any) -> tuple[Any, Any]:
    """Build MaskFormer."""
    decoder = library.DetrConfig(
        encoder_layers=1,
        decoder_layers=1,
        d_model=32,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=8,
    )
    config = library.MaskFormerConfig(
        **_labels(), backbone_config=_swin(library), decoder_config=decoder, mask_feature_size=32, fpn_feature_size=32
    )
    return library.MaskFormerForInstanceSegmentation(config), library.MaskFormerImageProcessor(size=_square(64))


def mask2former(library: Any) -> tuple[Any, Any]:
    """Build Mask2Former."""
    config = library.Mask2FormerConfig(
        **_labels(), backbone_config=_swin(library), feature_size=32, mask_feature_size=32, **_decoder()
    )
    return library.Mask2FormerForUniversalSegmentation(config), library.Mask2FormerImageProcessor(size=_square(64))


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _transformer() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "image_size": 64,
        "patch_size": 16,
    }


def _decoder() -> dict[str, Any]:
    return {
        "hidden_dim": 32,
        "num_queries": 8,
        "encoder_layers": 1,
        "decoder_layers": 3,
        "encoder_feedforward_dim": 24,
        "dim_feedforward": 24,
        "num_attention_heads": 2,
    }


def livelier(model: Any) -> Any:
    """Amplify weights and let batch norms see noise, so that several classes appear."""
    has_queries = hasattr(model, "class_predictor")
    with torch.no_grad():
        for name, value in model.named_parameters():
            is_table = "embed" in name.replace("mask_embedder", "") or "bias_table" in name
            if value.ndim > 1 and not is_table:
                value.mul_(_gain(name, value, has_queries=has_queries))
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for module in norms:
            module.train()
            module.momentum = None
        if norms:
            noise = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
            model(pixel_values=torch.nn.functional.interpolate(noise, size=(64, 64), mode="bilinear") * 2 - 1)
    return model.eval()


def _gain(name: str, value: torch.Tensor, *, has_queries: bool) -> float:
    if has_queries:  # of random weights all see one class, everywhere
        return 60.0 if "class_predictor" in name else 30.0 if "mask_embedder" in name or "mask_head" in name else 1.0
    return 2.0 if float(value.abs().mean()) > 0.02 else 8.0


SEEDS = {"maskformer": 4, "mobilevitv2": 4, "mobilenet_v2": 9}
"""Random weights that tell classes apart in every picture of the comparison, where those of 2 do not."""


def make(build: Callable[[Any], tuple[Any, Any]], folder: Path) -> list[str]:
    """Write a model as save_pretrained does; returns the arguments of fsf export."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEEDS.get(build.__name__, 2))
        model, processor = build(_library())
        livelier(model.eval()).save_pretrained(folder)
    processor.save_pretrained(folder)
    return ["--model", str(folder)]


def library_model(folder: Path) -> Any:
    """Load a model as the library does."""
    library = _library()
    universal = "ForSemanticSegmentation" not in (folder / "config.json").read_text()
    auto = library.AutoModelForUniversalSegmentation if universal else library.AutoModelForSemanticSegmentation
    return auto.from_pretrained(folder).eval()


def reference(folder: Path, image_HWC: NDArray[np.uint8]) -> Expected:
    """Return what processor, model and post-processing of the library make of a picture."""
    processor, model = _library().AutoImageProcessor.from_pretrained(folder), library_model(folder)
    inputs = processor(images=Image.fromarray(np.ascontiguousarray(image_HWC[..., ::-1])), return_tensors="pt")
    with torch.inference_mode():
        outputs = model(pixel_values=inputs["pixel_values"])
        found = processor.post_process_semantic_segmentation(
            outputs, target_sizes=[image_HWC.shape[:2]], return_segmentation_scores=True
        )[0]
    expected = expected_of(found.segmentation_scores.numpy())
    assert np.array_equal(expected.class_map_HW, found.segmentation.numpy()), "the scores of the segmentation"
    return expected


BUILDERS = {
    builder.__name__: builder
    for builder in (
        segformer,
        upernet,
        upernet_swin,
        dpt,
        beit,
        data2vec,
        mobilevit,
        mobilevitv2,
        mobilenet_v2,
        sapiens2,
        maskformer,
        mask2former,
    )
}
"""Every architecture whose files alone give the preprocessing."""


def _entry(name: str) -> Entry:
    return Entry(
        name=f"transformers-{name}",
        family="transformers",
        make=partial(make, BUILDERS[name]),
        reference=reference,
    )


ENTRIES = tuple(map(_entry, os.environ.get("ZOO_TRANSFORMERS", "segformer").split(",")))
"""One always; `ZOO_TRANSFORMERS=dpt,beit python -m pytest tests/integration/export/test_zoo.py` takes others."""
