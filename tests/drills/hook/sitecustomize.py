"""A model that takes time, and one that does not start, in every Python process that has this folder on PYTHONPATH.

    FSF_DRILL_FRAME_S=0.2        every frame takes this long, without any CPU
    FSF_DRILL_START=raise        the model cannot be loaded by an actor: raise, kill (-9), hang, disk or memory

Set for the Ray of one host, it acts in the workers of that host. A probe of the model, which a job makes first on one
host of its cluster, succeeds.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

FRAME_S = float(os.environ.get("FSF_DRILL_FRAME_S", "0"))
START = os.environ.get("FSF_DRILL_START", "")


def _raise() -> None:
    raise RuntimeError("libcudnn.so.9: cannot open shared object file: No such file or directory")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    time.sleep(86_400)


def _disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/model.onnx")  # noqa: S108 - a message


def _memory() -> None:
    raise MemoryError("std::bad_alloc")


FAULTS: dict[str, Callable[[], None]] = {
    "raise": _raise, "kill": _kill, "hang": _hang, "disk": _disk, "memory": _memory,
}  # fmt: skip


def _change(session: Any) -> None:
    """Patch the class of loaded models."""
    start, run_into, run_fused = session.__init__, session.run_into, session.run_fused

    def begin(self: Any, *arguments: Any, **named: Any) -> None:
        if START and sys._getframe(1).f_code.co_name == "__init__":  # of Infer; a probe is a function
            FAULTS[START]()
        start(self, *arguments, **named)

    def run_slowly(self: Any, batch_NCHW: Any, logits_NKHW: Any) -> None:
        time.sleep(FRAME_S * len(batch_NCHW))
        run_into(self, batch_NCHW, logits_NKHW)

    def run_fused_slowly(self: Any, frames_NHWC: Any, **named: Any) -> Any:
        time.sleep(FRAME_S * len(frames_NHWC))
        return run_fused(self, frames_NHWC, **named)

    session.__init__, session.run_into, session.run_fused = begin, run_slowly, run_fused_slowly


class _SessionFinder:
    """Import hook that patches the class after the normal import of its module."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "fsf_core.model.session" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _change(module.Session)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if __name__ == "sitecustomize" and (FRAME_S or START):
    sys.meta_path.insert(0, _SessionFinder())
