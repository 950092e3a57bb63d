"""Read the file of a checkpoint to what it holds, or say what the file is instead.

Knows the two formats of weights, torch.save's and safetensors'. Never runs code that a checkpoint brings along; knows
no network and no URIs.
"""

import io
import re
import warnings
from os import PathLike
from pathlib import Path

import torch

from fsf_core.errors import CheckpointError, InterruptedRunError
from fsf_core.export import numpy_pickle, settings_pickle
from fsf_core.export.file_kinds import foreign_kind, is_safetensors
from fsf_core.export.numpy_pickle import NumpyObjectError

_SAFE_GLOBALS = [*numpy_pickle.SAFE_GLOBALS, *settings_pickle.SAFE_GLOBALS]


def read_checkpoint(checkpoint: str | PathLike[str] | bytes, *, source: str = "") -> object:
    """Return what a checkpoint holds: mappings, sequences, tensors, and plain values beside them.

    The format is recognised by content. NumPy's numbers become those of Python, its arrays PickledArray,
    argparse's options PickledSettings, paths text.

    Args:
        checkpoint: a local file, or the bytes of one.
        source: the file's name in messages (default: the path).

    Raises:
        CheckpointError: the file is missing, empty, damaged, of another kind, or needs code to be unpickled.
    """
    source = source or ("the checkpoint" if isinstance(checkpoint, bytes) else str(checkpoint))
    data = _read_bytes(checkpoint)
    _require_weights(data, source)
    try:
        if is_safetensors(data):
            from safetensors.torch import load

            return load(data)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE_GLOBALS):
            warnings.simplefilter("ignore")  # about the pickle protocol, with a line of this file
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except InterruptedRunError:
        raise
    except Exception as error:  # damaged pickles end in Index-, Unicode-, Type- and other errors
        raise CheckpointError(_why_unreadable(error, source, len(data))) from error


def _read_bytes(checkpoint: str | PathLike[str] | bytes) -> bytes:
    if isinstance(checkpoint, bytes):
        return checkpoint
    try:
        return Path(checkpoint).read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint}: {error.strerror or error}; expected a checkpoint file that can be read; check the path"
        ) from error


def _require_weights(data: bytes, source: str) -> None:
    """Refuse a file that holds no weights by its first bytes.

    Raises:
        CheckpointError: it is empty, or of another kind.
    """
    if not data:
        raise CheckpointError(f"{source} is empty (0 bytes); expected a checkpoint; copy or download it again")
    if kind := foreign_kind(data, source):
        raise CheckpointError(
            f"{source} ({len(data)} bytes) is {kind[0]}; expected what torch.save or safetensors writes; {kind[1]}"
        )
    if not is_safetensors(data) and not data.startswith((b"PK\x03\x04", b"\x80")):
        raise CheckpointError(
            f"{source} is not a checkpoint, it begins with {data[:8]!r}; expected what torch.save or safetensors "
            "writes; give the weights (.pth, .pt, .safetensors)"
        )


def _why_unreadable(error: Exception, source: str, size_bytes: int) -> str:
    """Return the message for a checkpoint that torch or safetensors refuses."""
    code = re.search(r"(?:Unsupported|unsupported) (?:global: GLOBAL|GLOBAL|class) (\S+)", str(error))
    if code is not None:
        return (
            f"{source} is or holds a pickled Python object: it needs {code[1]} to be unpickled, which can run any "
            "code; expected tensors, numbers and text only; save the weights alone with "
            "torch.save(network.state_dict(), path), where you trust the file"
        )
    if isinstance(error, NumpyObjectError):
        return (
            f"{source} holds {error}, expected plain numbers and arrays of them beside the tensors; save the weights "
            "alone with torch.save(network.state_dict(), path)"
        )
    reason = (str(error).splitlines() or [""])[0][:200]
    return (
        f"{source} ({size_bytes} bytes) cannot be read, {type(error).__name__}: {reason}; expected a whole checkpoint; "
        "it may be truncated or damaged: copy or download it again"
    )
