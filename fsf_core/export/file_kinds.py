"""Name a file that holds no weights by what it is.

Knows first bytes and the names inside archives; unpickles nothing.
"""

import io
import zipfile

from fsf_core.errors import InterruptedRunError

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First pickle of what torch.save wrote before 1.6."""

_UNPACK = "unpack it and give the weights inside"
_CONVERT = "convert it to a state_dict of PyTorch, or to ONNX"
_STATE_DICT = "save the weights alone with torch.save(network.state_dict(), path)"
_WEIGHTS = "give the weights (.pth, .pt, .safetensors)"

_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the checkpoint that it points to", "run git lfs pull"),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", _WEIGHTS),
    (0, b"GGUF", "a GGUF file", _WEIGHTS),
    (0, b"%PDF", "a PDF document", _WEIGHTS),
    (0, b"\x89PNG", "a PNG image", _WEIGHTS),
    (0, b"\xff\xd8\xff", "a JPEG image", _WEIGHTS),
    (257, b"ustar", "a tar archive", _UNPACK),
    (4, b"TFL3", "a TensorFlow Lite model", "give the weights of PyTorch, or an ONNX file with --onnx"),
)
"""Place and bytes of a signature, what the file is, and what to do."""


def foreign_kind(data: bytes, name: str = "") -> tuple[str, str] | None:
    """Return what a file is that is no checkpoint of torch or safetensors, and what to do; None for one that may be.

    Args:
        data: the whole file.
        name: its name, which tells formats apart that have no signature.
    """
    known = next(
        ((kind, remedy) for start, magic, kind, remedy in _MAGICS if data[start : start + len(magic)] == magic), None
    )
    if known or is_safetensors(data):
        return known
    if data.startswith(b"PK\x03\x04"):
        return _kind_of_archive(data)
    if data.startswith(b"\x80"):
        return _kind_of_pickle(data)
    return _kind_of_text(data) or _kind_of_model(data, name) or _kind_by_name(name)


def is_safetensors(data: bytes) -> bool:
    """Return whether a file begins as one of safetensors: eight bytes of length, then JSON."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= max(len(data), 100_000_000)


def _kind_of_archive(data: bytes) -> tuple[str, str] | None:
    """Return what a ZIP archive is by the names in it; None for one that torch.save wrote, or a damaged one."""
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    inner = {*names, *(name.partition("/")[2] for name in names)}
    known = next((kind for marks, kind in _ARCHIVES if inner & marks), None)
    if known or "data.pkl" in inner:
        return known
    if all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays (.npz)", _WEIGHTS
    return f"a ZIP archive of {', '.join(names[:3])}{', …' if len(names) > 3 else ''}", _UNPACK  # noqa: PLR2004 - a few


_ARCHIVES: tuple[tuple[set[str], tuple[str, str]], ...] = (
    ({"constants.pkl"}, ("a TorchScript archive, a program with its weights", _STATE_DICT)),
    (
        {"archive_format", "models/model.json", "serialized_exported_program.json"},
        ("an exported program of torch.export", _STATE_DICT),
    ),
    ({"saved_model.pb", "model.weights.h5"}, ("a model of Keras or TensorFlow", _CONVERT)),
)
"""Names of which one is in an archive, what that is, and what to do."""


def _kind_of_pickle(data: bytes) -> tuple[str, str] | None:
    """Return that a pickle is none of torch.save; None for the old form of torch.save, whole or cut."""
    if LEGACY_MAGIC.startswith(data[: len(LEGACY_MAGIC)]):
        return None
    return "a pickle that torch.save did not write", _STATE_DICT


def _kind_of_text(data: bytes) -> tuple[str, str] | None:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page", "the server sent a web page: download the file itself"
    if start.startswith((b"<?xml", b"<error")):
        return "an XML document", "the server sent an error: download the file itself"
    if start.startswith((b"{", b"[")):
        return "a JSON document", _WEIGHTS
    return None


def _kind_of_model(data: bytes, name: str) -> tuple[str, str] | None:
    """Return that a file is an ONNX model or a TensorFlow graph, whose formats have no signature."""
    import onnx

    if name.endswith(".pb"):
        return "a graph of TensorFlow (SavedModel)", "convert it to ONNX, and pass that with --onnx"
    try:
        model = onnx.load_model_from_string(data)
    except InterruptedRunError:
        raise
    except Exception:  # noqa: BLE001 - protobuf's DecodeError is private to its implementation
        return None
    if model.graph.node and model.opset_import:
        return "an ONNX model", "pass it with --onnx, without --net"
    return None


_BY_NAME: dict[str, tuple[str, str]] = {
    ".index": ("a checkpoint of TensorFlow", _CONVERT),
    ".weights": ("weights of Darknet", _WEIGHTS),
    ".mlmodel": ("a model of Core ML", _WEIGHTS),
    ".engine": ("an engine of TensorRT", "give the checkpoint or the ONNX file that it was built of"),
    ".yaml": ("a YAML document", _WEIGHTS),
    ".yml": ("a YAML document", _WEIGHTS),
    ".py": ("a Python program", "name its network with --net module:callable"),
}


def _kind_by_name(name: str) -> tuple[str, str] | None:
    if ".data-00000-of-" in name:
        return _BY_NAME[".index"]
    return next((kind for ending, kind in _BY_NAME.items() if name.endswith(ending)), None)


def folder_kind(names: set[str]) -> tuple[str, str]:
    """Return what a folder is by the names in it, and what to do."""
    if "saved_model.pb" in names:
        return "a SavedModel of TensorFlow", "convert it to ONNX, and pass that with --onnx"
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return (
            "a distributed checkpoint of PyTorch",
            "convert it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth",
        )
    if any(name.endswith(".index.json") for name in names):
        return "a folder of sharded weights", "save them as one file"
    inside = sorted(name for name in names if name.endswith((".safetensors", ".pth", ".pt", ".bin", ".ckpt")))
    return "a folder", f"give a file in it, such as {inside[0]}" if inside else "give the file with the weights"
