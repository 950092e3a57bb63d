"""A session in a process of its own, with libraries hidden from it: python -m tests.gpu.session_child PROVIDER [NAME…].

Prints a JSON document: the provider that ran a batch and the note on it, or the type and the message of the error.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000


def hide(names: Sequence[str]) -> list[str]:
    """Replace libraries by /dev/null, wherever the dynamic linker may look, in this process alone; return where."""
    if not names:
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.unshare(_CLONE_NEWNS))
    _checked(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    hidden = sorted({path.resolve() for name in names for path in _places(name) if path.is_file()})
    for path in hidden:
        _checked(libc.mount(b"/dev/null", str(path).encode(), None, _MS_BIND, None))
    return [str(path) for path in hidden]


def _checked(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), f"{os.strerror(ctypes.get_errno())}: hiding libraries takes root")


def _places(name: str) -> Iterator[Path]:
    """Yield the files that a library's name may mean: of packages, of the linker's cache and of usual folders."""
    for folder in sys.path:
        yield from Path(folder).glob(f"nvidia/*/lib/{name}*")
        yield from Path(folder).glob(f"torch/lib/{name}*")
        yield from Path(folder).glob(f"onnxruntime/capi/{name}*")
    cache = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    yield from (Path(line.split("=> ")[1]) for line in cache.splitlines() if line.split()[:1] == [name])
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/usr/local/cuda/lib64", "/usr/local/nvidia/lib64"]
    for folder in filter(None, folders):
        yield from Path(folder).glob(f"{name}*")
    yield from Path("/usr/local").glob(f"cuda*/targets/*/lib/{name}*")
    yield from Path("/usr/lib").glob(f"*-linux-gnu/{name}*")


def run(provider: Any, *, rehearsal: bool) -> dict[str, Any]:
    """Open a session, run a batch and compare it with the CPU's."""
    import numpy as np

    from fsf_core.errors import FSFError
    from fsf_core.model import session
    from tests.support.tiny_onnx import tiny_onnx

    if rehearsal:  # as where a driver is installed
        session.cuda_devices = lambda: (1, "")
    model = tiny_onnx().SerializeToString()
    batch_NCHW = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    try:
        found = session.Session(model, provider=provider)
        logits = found.run(batch_NCHW)
    except FSFError as error:
        return {"error": type(error).__name__, "message": str(error)}
    expected = session.Session(model).run(batch_NCHW)
    return {
        "provider": found.provider,
        "note": found.provider_note,
        "difference": float(np.abs(logits - expected).max() / np.abs(expected).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("provider")
    parser.add_argument("hidden", nargs="*")
    parser.add_argument("--torch-first", action="store_true")
    parser.add_argument("--rehearsal", action="store_true")
    given = parser.parse_args()
    found = hide(given.hidden)
    if given.torch_first:
        import torch

        if not given.rehearsal:
            torch.zeros(1).cuda()
    print(json.dumps({"hidden": found, **run(given.provider, rehearsal=given.rehearsal)}))  # noqa: T201 - its result


if __name__ == "__main__":
    main()
