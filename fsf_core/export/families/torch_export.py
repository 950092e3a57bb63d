"""Programs of torch.export.save (`.pt2`): a graph of torch's operators with its weights.

The file fixes the size of the input where it was exported with a fixed one. Preprocessing and classes are not in it.
"""

# N images, C channels, H×W pixels

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsf_core.errors import CheckpointError, ConfigError, InterruptedRunError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.foreign import FOREIGN, in_one_line

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

_LEVELS = {"scale": 1, "mean": 0, "std": 1}
"""What an input of uint8 takes: the levels as they are."""
_CHANNELS = 3


def recognises(path: Path) -> bool:
    """Return whether the file is an archive of torch.export.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(name.startswith("models/") and name.endswith(".json") for name in names) or (
        "serialized_exported_program.json" in names
    )


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the network, on the CPU and in float32, and the size of its input.

    Raises:
        CheckpointError: the archive could run code, is damaged, or is of another version of torch.
        ConfigError: the program takes something else than images of three channels.
    """
    program = _load(path, request.source)
    shape, dtype = _image_of(program, request.source)
    network = _network_of(program, channels_last=shape[1] != _CHANNELS, dtype=dtype)
    height_px, width_px = shape[1:3] if shape[1] != _CHANNELS else shape[2:]
    return FoundModel(
        family="torch_export",
        network=network,
        batch=shape[0],
        input_hw=(height_px, width_px),
        document={"input": _LEVELS} if dtype == "uint8" else {},
        takes_levels=dtype == "uint8",
    )


def _load(path: Path, source: str) -> "ExportedProgram":
    import torch
    from torch.export.passes import move_to_device_pass

    from fsf_core.export.families.pt2_archive import require_harmless

    require_harmless(path, source)
    try:
        with path.open("rb") as file:  # of a path torch looks at the name
            return move_to_device_pass(torch.export.load(file), "cpu")
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise CheckpointError(
            f"{source} is an exported program that torch {torch.__version__} cannot load: {in_one_line(error)}; "
            "expected one of this version; load it where it was made, and export it again or to ONNX"
        ) from error


def _image_of(program: "ExportedProgram", source: str) -> tuple[tuple[int | None, ...], str]:
    """Return the shape of the program's input, None for free sizes, and its type.

    Raises:
        ConfigError: it is no batch of images of three channels, or there are several inputs.
    """
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    values = [node.meta["val"] for node in nodes]
    shapes = [
        tuple(side if isinstance(side, int) else None for side in getattr(value, "shape", ())) for value in values
    ]
    dtypes = [str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.") for value in values]
    are_images = len(shapes) == 1 and len(shapes[0]) == 4 and _CHANNELS in {shapes[0][1], shapes[0][3]}  # noqa: PLR2004
    if are_images and dtypes[0] in {"float32", "float16", "bfloat16", "float64", "uint8"}:
        return shapes[0], dtypes[0]
    found = ", ".join(
        f"{dtype} [{', '.join('free' if side is None else str(side) for side in shape)}]"
        for shape, dtype in zip(shapes, dtypes, strict=True)
    )
    raise ConfigError(
        f"the program in {source} takes {found or 'nothing'}, expected one batch of images [N, 3, height, width] or "
        "[N, height, width, 3] of float or uint8; export a module that takes the images alone"
    )


def _network_of(program: "ExportedProgram", *, channels_last: bool, dtype: str) -> "nn.Module":
    """Return the program as a network that takes float32 [N, 3, H, W] and computes in float32."""
    import torch
    from torch import Tensor, nn

    inner: Any = program.module(check_guards=False)  # guards are Python code in the file
    inner.validate_inputs = False
    for refusing in ("train", "eval"):  # the graph has one mode, which is that of its export
        inner.__dict__.pop(refusing, None)
    for node in _all_nodes(inner):
        node.args, node.kwargs = (
            torch.fx.node.map_aggregate(values, _in_float32) for values in (node.args, node.kwargs)
        )
    inner.recompile()
    inner.float()
    if not channels_last and dtype != "uint8":
        return inner  # type: ignore[no-any-return] # a graph module

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, batch_NCHW: Tensor) -> Any:
            batch = batch_NCHW.permute(0, 2, 3, 1) if channels_last else batch_NCHW
            return self.inner(batch.to(torch.uint8) if dtype == "uint8" else batch)

    return Adapted()


def _all_nodes(module: Any) -> Iterator[Any]:
    """Yield the nodes of a graph module."""
    yield from module.graph.nodes


def _in_float32(value: Any) -> Any:
    """Return float32 for a type of half precision or float64, and anything else as it is."""
    import torch

    return torch.float32 if value in {torch.float16, torch.bfloat16, torch.float64} else value
