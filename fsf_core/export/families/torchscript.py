"""TorchScript archives, which torch.jit.save wrote: a traced or scripted network with its weights.

The archive holds a program in TorchScript, which runs torch's operators, and no Python. Preprocessing, classes and the
size of the input are not in it.
"""

import zipfile
from pathlib import Path

from fsf_core.errors import CheckpointError, InterruptedRunError
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.foreign import FOREIGN, in_one_line


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
        CheckpointError: the archive is damaged.
    """
    import torch
    from torch import nn

    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except InterruptedRunError:
        raise
    except FOREIGN as error:
        raise CheckpointError(
            f"{request.source} is a TorchScript archive that torch cannot load: {in_one_line(error)}; expected a whole "
            "one of this version of torch; copy it again, or save it again with torch.jit.save"
        ) from error
    return FoundModel(family="torchscript", network=network.float().eval())
