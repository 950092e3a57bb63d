"""Where a network's Python code depends on the contents of the images: a graph holds only the path of one example.

The network is run once with its tensors observed: what is computed from the images is marked, and a marked tensor that
becomes a Python number, a list or a NumPy array is found with its line. Shapes are numbers already and mark nothing.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fsf_core.errors import InterruptedRunError
from fsf_core.export.foreign import FOREIGN
from fsf_core.options import Exporter

_TORCH = str(Path(torch.__file__).parent)
_BOOLEAN, _NUMBER, _ARRAY = "a Python boolean", "a Python number", "a NumPy array"
_READS: Mapping[Callable[..., Any], str] = {
    Tensor.__bool__: _BOOLEAN,
    Tensor.__contains__: _BOOLEAN,
    Tensor.is_nonzero: _BOOLEAN,
    Tensor.equal: _BOOLEAN,
    Tensor.allclose: _BOOLEAN,
    torch.is_nonzero: _BOOLEAN,
    torch.equal: _BOOLEAN,
    torch.allclose: _BOOLEAN,
    Tensor.__int__: _NUMBER,
    Tensor.__float__: _NUMBER,
    Tensor.__complex__: _NUMBER,
    Tensor.__index__: _NUMBER,
    Tensor.item: _NUMBER,
    Tensor.tolist: "a list",
    Tensor.numpy: _ARRAY,
    Tensor.__array__: _ARRAY,
}
"""What reads a tensor into Python, and what it becomes. torch's tracer does not warn of all of them."""

_ASKED: Mapping[Exporter, tuple[tuple[Any, str], ...]] = {
    "torchscript": ((torch.jit, "is_tracing"), (torch.onnx, "is_in_onnx_export")),
    "dynamo": ((torch.compiler, "is_compiling"), (torch.compiler, "is_exporting"), (torch.onnx, "is_in_onnx_export")),
}
"""Functions by which code finds out that it is exported, to leave its checks of the images out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A line where contents of the images become a Python value."""

    file: str
    line: int
    becomes: str
    """What a tensor is turned into there."""

    def __str__(self) -> str:
        """Return the sentence about it."""
        return (
            f"its code depends on the contents of the images at {self.file}:{self.line}, where a tensor becomes "
            f"{self.becomes}"
        )


def find_branch(network: nn.Module, batch_NCHW: Tensor, exporter: Exporter) -> Branch | None:
    """Return the first line where contents of the images become a Python value, or None if there is none.

    Args:
        network: in eval mode; called once.
        batch_NCHW: the images of the call.
        exporter: the exporter for which the code is run.
    """
    marks = _Marks()
    marks.mark(batch_NCHW)
    found: list[Branch] = []
    try:
        with torch.no_grad(), _exporting(exporter), _Observer(marks), _Reader(marks, found):
            network(batch_NCHW)
    except InterruptedRunError:
        raise
    except FOREIGN:  # an operator that cannot be observed; what was found before it counts
        pass
    return found[0] if found else None


@contextlib.contextmanager
def _exporting(exporter: Exporter) -> Iterator[None]:
    """Let the network's code believe that it is exported."""
    before = [(owner, name, getattr(owner, name)) for owner, name in _ASKED[exporter]]
    for owner, name, _ in before:
        setattr(owner, name, lambda: True)
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


class _Marks:
    """The memory of tensors that are computed from the images.

    Weak references keep an address from being given to other memory, and the memory itself free.
    """

    def __init__(self) -> None:
        self._references: dict[int, StorageWeakRef] = {}

    def mark(self, value: object) -> None:
        for tensor in _tensors(value):
            reference = _reference(tensor)
            self._references[reference.cdata] = reference

    def any_marked(self, value: object) -> bool:
        return any(_reference(tensor).cdata in self._references for tensor in _tensors(value))


def _reference(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call] # torch has no types here


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


class _Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Marks the results of every operator on marked tensors, and what such an operator writes to."""

    def __init__(self, marks: _Marks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._marks = marks

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        marked = self._marks.any_marked((args, kwargs))
        result = func(*args, **(kwargs or {}))
        if marked:
            self._marks.mark(result)
            for argument, value in zip(func._schema.arguments, args, strict=False):  # noqa: SLF001 - torch has no other
                if argument.alias_info is not None and argument.alias_info.is_write:
                    self._marks.mark(value)
        return result


class _Reader(TorchFunctionMode):
    """Finds functions that read marked memory into Python; a script of torch keeps its conditions, and calls none."""

    def __init__(self, marks: _Marks, found: list[Branch]) -> None:
        super().__init__()
        self._marks, self._found = marks, found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READS and self._marks.any_marked(args):
            self._found.append(_here(_READS[func]))
        return func(*args, **(kwargs or {}))


def _here(becomes: str) -> Branch:
    """Return the innermost line that is neither torch's nor this file's."""
    frame = next(
        one for one, _ in traceback.walk_stack(None) if not one.f_code.co_filename.startswith((__file__, _TORCH))
    )
    return Branch(file=frame.f_code.co_filename, line=frame.f_lineno, becomes=becomes)
