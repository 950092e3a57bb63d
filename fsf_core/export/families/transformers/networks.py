"""The networks of transformers as the export wants them: float32 images to one tensor of scores per class.

For models with queries this is the semantic post-processing of their processors, up to the resize to the image's size:
the probability of each class (without that of no class) times that of the mask, summed over the queries.
"""

# N images, Q queries, K classes, H×W cells

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from fsf_core.errors import CheckpointError, InterruptedRunError
from fsf_core.export.families.transformers.folder import Task
from fsf_core.export.foreign import FOREIGN, in_one_line
from fsf_core.options import Exporter

MASK2FORMER_GRID = (384, 384)
"""Cells that Mask2Former's processor enlarges masks to, whatever the size of the input."""
_EOMT = ("eomt", "eomt_dinov3")
_TASK = "the task is semantic"
"""What OneFormer reads beside the image."""
_ONE_CLASS = (
    "the model has one class, taken for the logit of a foreground, as in its training; the processor of transformers "
    "would give class 0 everywhere"
)
_SMALL_IMAGES = (
    "OneFormer's processor shrinks scores with antialiasing where an image is smaller than their grid, a quarter of "
    "the input; here they are interpolated as for larger images"
)


class ClassScores(nn.Module):
    """The logits of a model for semantic segmentation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits [N, K, rows, columns]."""
        logits: Tensor = self.model(pixel_values=images_NCHW).logits
        return logits


class QueryScores(nn.Module):
    """The class scores of a model with queries, scaled into 0 to 1."""

    def __init__(
        self, model: nn.Module, *, grid_hw: tuple[int, int] | None = None, task_tokens: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.grid_hw = grid_hw
        self.task_tokens: Tensor | None
        self.register_buffer("task_tokens", task_tokens)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return scores [N, K, rows, columns].

        Where several queries see the same class, the sum exceeds 1. All scores of an image are then divided by the
        largest, which changes no class, before and behind a resize.
        """
        extra = {} if self.task_tokens is None else {"task_inputs": self.task_tokens.expand(len(images_NCHW), -1)}
        output = self.model(pixel_values=images_NCHW, **extra)
        if hasattr(output, "class_queries_logits"):
            classes_NQK, masks_NQHW = output.class_queries_logits, output.masks_queries_logits
        else:
            classes_NQK, masks_NQHW = output.logits, output.pred_masks
        if self.grid_hw is not None:
            masks_NQHW = nn.functional.interpolate(masks_NQHW, size=self.grid_hw, mode="bilinear", align_corners=False)
        probabilities_NQK = classes_NQK.softmax(dim=-1)[..., :-1]
        scores_NKHW = torch.einsum("bqc,bqhw->bchw", probabilities_NQK, masks_NQHW.sigmoid())
        return scores_NKHW / scores_NKHW.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1.0)


def network_of(model: nn.Module, task: Task, path: Path, size: Any, source: str) -> nn.Module:
    """Return the network.

    Args:
        model: of the library.
        task: what its outputs are.
        path: the folder, which holds OneFormer's tokenizer.
        size: of the image processor; None without one.
        source: the folder in messages.

    Raises:
        CheckpointError: the tokenizer is missing or damaged.
    """
    if task == "semantic":
        return ClassScores(model)
    _make_exportable(model)
    model_type = _type_of(model)
    if model_type == "mask2former":
        return QueryScores(model, grid_hw=MASK2FORMER_GRID)
    if model_type in _EOMT:
        return QueryScores(model, grid_hw=_eomt_grid(model, size))
    tokens = _task_tokens(model, path, source) if model_type == "oneformer" else None
    return QueryScores(model, task_tokens=tokens)


def output_of(model: nn.Module, task: Task) -> dict[str, Any]:
    """Return what the network's output means, by the keys of a document."""
    if task == "universal":
        return {"kind": "probabilities"}
    binary = int(_config_of(model).num_labels) == 1
    return {"kind": "binary_logit" if binary else "logits", "resized": "logits"}


def notes_of(model: nn.Module, task: Task) -> tuple[str, ...]:
    """Return sentences on what the output is taken for."""
    if task == "semantic" and int(_config_of(model).num_labels) == 1:
        return (_ONE_CLASS,)
    if _type_of(model) == "oneformer":
        return (_SMALL_IMAGES,)
    return ()


def exporter_of(model: nn.Module) -> Exporter | None:
    """Return the exporter that suits the model; None for the usual one."""
    # The loops of deformable attention take dynamo minutes, torchscript seconds; both graphs compute the same.
    return "torchscript" if _type_of(model) in {"detr", "mask2former", "maskformer", "oneformer"} else None


def _config_of(model: nn.Module) -> Any:
    return model.config


def _type_of(model: nn.Module) -> str:
    return str(_config_of(model).model_type)


def _eomt_grid(model: nn.Module, size: Any) -> tuple[int, int]:
    """Return the cells that EoMT's processor enlarges masks to."""
    rows = getattr(size, "shortest_edge", None)
    if rows is None:
        side = _config_of(model).image_size
        return (side, side) if isinstance(side, int) else (side[0], side[1])
    return rows, getattr(size, "longest_edge", None) or rows


def _make_exportable(model: nn.Module) -> None:
    """Take conditions on tensors out of the model, which exporters cannot write; what it computes stays the same."""
    for module in model.modules():
        # EoMT asks at each layer whether a number in a buffer is above 0: as numbers of Python these are constants.
        shares = module._buffers.get("attn_mask_probs")  # noqa: SLF001 - there is no other way to replace a buffer
        if shares is not None:
            del module.attn_mask_probs
            vars(module)["attn_mask_probs"] = shares.tolist()
    # OneFormer checks the sizes of its own tensors with a tensor.
    library: Any = sys.modules[type(model).__module__]
    if hasattr(library, "torch_compilable_check"):
        library.torch_compilable_check = lambda *_args, **_keywords: None


def _task_tokens(model: nn.Module, path: Path, source: str) -> Tensor:
    """Return the tokens of OneFormer's task.

    Raises:
        CheckpointError: the folder's tokenizer cannot be loaded.
    """
    length = int(_config_of(model).task_seq_len)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
        tokens = tokenizer([_TASK], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise CheckpointError(
            f"--model {source} lacks its tokenizer, or it cannot be loaded: {in_one_line(error)}; expected its files "
            "(vocab.json and merges.txt, or tokenizer.json), because OneFormer reads its task as text; copy them too"
        ) from error
    ids: Tensor = tokens["input_ids"] * tokens["attention_mask"]
    return ids
