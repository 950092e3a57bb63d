"""TorchScript archives, which torch.jit.save wrote: a traced or scripted network with its weights.

The archive holds a program in TorchScript, which runs torch's operators, and no Python; operators that touch files are
refused. Preprocessing, classes and the size of the input are not in it.
"""

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsf_core.errors import CheckpointError, ConfigError, InterruptedRunError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.foreign import FOREIGN, in_one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

_TOUCHES_FILES = re.compile(rb"\b(?:torch|ops\.aten|aten)(?:\.|::)(save|from_file)\b")


def recognises(path: Path) -> bool:
    """Return whether the file is an archive of torch.jit.save."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return {"constants.pkl", "data.pkl"} <= names and any(name.startswith("code/") for name in names)


def read(path: Path, request: FamilyRequest) -> FoundModel:
    """Read the network, on the CPU and in float32.

    Raises:
        CheckpointError: the archive is damaged, or its program touches files.
    """
    import torch

    _require_harmless(path, request.source)
    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise CheckpointError(
            f"{request.source} is a TorchScript archive that torch cannot load: {in_one_line(error)}; expected a whole "
            "one of this version of torch; copy it again, or save it again with torch.jit.save"
        ) from error
    return FoundModel(family="torchscript", network=network.float().eval(), as_graph=as_graph)


def as_graph(network: "nn.Module", batch_NCHW: "Tensor") -> "nn.Module":
    """Return the operators that a TorchScript program calls for images of one size, as a graph that exporters read.

    Exporters write a script's conditions on sizes as branches, of which ONNX allows few.

    Raises:
        ConfigError: the program has a condition on the contents of the images.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    aten = torch.ops.aten

    def convolution(*arguments: Any) -> Any:
        return aten.convolution.default(*arguments[:9])  # without the flags of cuDNN, which a trace holds

    try:
        with torch.no_grad():
            graph = make_fx(network, decomposition_table={aten._convolution.default: convolution})(batch_NCHW)  # noqa: SLF001
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        lines = re.findall(r"([^\n]*)\n *~+ <--- HERE", str(error))  # the last one is of the original code
        line = lines[-1].strip() if lines else in_one_line(error)
        raise ConfigError(
            f"the TorchScript program cannot become a graph: at {line!r} it depends on the contents of the images, or "
            "fails; expected the same operations for every image; replace the condition by torch.where"
        ) from error
    return graph.eval()


def _require_harmless(path: Path, source: str) -> None:
    """Refuse a program that writes or reads files; such operators would run when torch loads or calls it.

    Raises:
        CheckpointError: it does.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if (
                name.startswith("code/")
                and name.endswith(".py")
                and (call := _TOUCHES_FILES.search(archive.read(entry)))
            ):
                raise CheckpointError(
                    f"{source} is a TorchScript program that calls torch.{call[1].decode()}, which writes or reads "
                    "files; expected a network that only computes; save it again without that call"
                )
