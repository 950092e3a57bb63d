"""Input and outputs of a model in the memory of its device, at addresses that stay from call to call.

Knows onnxruntime's values and bindings, and no model.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Device = Literal["cpu", "cuda"]


class Buffers:
    """What one call of a session reads and writes.

    Attributes:
        frames: images of a call.
        copied_shape: shape of the output that is copied to the host.
    """

    def __init__(
        self,
        session: Any,
        device: Device,
        *,
        input_name: str,
        shape: tuple[int, ...],
        dtype: type[np.generic],
        kept: Sequence[str],
        copied: str,
    ) -> None:
        """Allocate the buffers, and run the session once on zeros, which tells the shapes of the outputs.

        Args:
            session: of onnxruntime.
            device: where the session runs.
            input_name: its input.
            shape: of the input, with the number of images.
            dtype: of the input.
            kept: outputs that stay on the device.
            copied: float32 output that `run_into` copies to the host.

        Raises:
            Exception: what onnxruntime raises, where the memory is full too.
        """
        self.frames = shape[0]
        self._session, self._copied = session, copied
        self._staging: NDArray[Any] = np.zeros(shape, dtype)
        self._room: NDArray[np.float32] | None = None
        self._input = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
        self._input.update_inplace(self._staging)
        self._keeping, self._copying = session.io_binding(), session.io_binding()
        for binding in (self._keeping, self._copying):
            binding.bind_ortvalue_input(input_name, self._input)
        names = [*dict.fromkeys((*kept, copied))]
        for name in names:
            self._keeping.bind_output(name, device, 0)
        session.run_with_iobinding(self._keeping)
        found = dict(zip(names, self._keeping.get_outputs(), strict=True))
        self.copied_shape: tuple[int, ...] = tuple(found[copied].shape())
        self._kept = {name: found[name] for name in kept}
        self._keeping.clear_binding_outputs()
        for name, value in self._kept.items():
            self._keeping.bind_ortvalue_output(name, value)

    def fill(self, batch: NDArray[Any]) -> None:
        """Copy the input to the device; a smaller batch is filled up with copies of its last image."""
        if len(batch) < self.frames:
            self._staging[: len(batch)] = batch
            self._staging[len(batch) :] = batch[-1]
            batch = self._staging
        self._input.update_inplace(batch)

    def run(self) -> None:
        """Run the session; its outputs stay on the device."""
        self._session.run_with_iobinding(self._keeping)

    def run_into(self, room: NDArray[np.float32]) -> None:
        """Run the session and copy one output to the host.

        Args:
            room: C-contiguous, of the shape `copied_shape`, or of fewer images; overwritten.
        """
        whole = room
        if len(room) < self.frames:
            if self._room is None:
                self._room = np.empty(self.copied_shape, np.float32)
            whole = self._room
        self._copying.bind_output(self._copied, "cpu", 0, np.float32, whole.shape, _address(whole))
        self._session.run_with_iobinding(self._copying)
        if whole is not room:
            room[:] = whole[: len(room)]

    def kept(self, name: str) -> NDArray[Any]:
        """Return an output that stayed on the device; on a CPU it is overwritten by the next call."""
        return np.asarray(self._kept[name].numpy())

    def value(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Return address and shape of a float32 output on the device."""
        return int(self._kept[name].data_ptr()), tuple(self._kept[name].shape())


def run_bound(
    session: Any,
    device: Device,
    *,
    values: tuple[str, int, tuple[int, ...]],
    size: tuple[str, tuple[int, int]],
    output: tuple[str, NDArray[Any]],
) -> None:
    """Run a session on values that are on the device, and copy its output to the host.

    Args:
        session: of onnxruntime.
        device: where it runs.
        values: name, address and shape of its float32 input on the device.
        size: name and value of its input of two integers.
        output: name of its output, and the C-contiguous array that is overwritten with it.
    """
    binding = session.io_binding()
    name, address, shape = values
    binding.bind_input(name, device, 0, np.float32, shape, address)
    binding.bind_cpu_input(size[0], np.array(size[1], np.int64))
    name, room = output
    binding.bind_output(name, "cpu", 0, room.dtype.type, room.shape, _address(room))
    session.run_with_iobinding(binding)


def _address(room: NDArray[Any]) -> int:
    """Return the address of an array that onnxruntime writes to."""
    assert room.flags.c_contiguous, "the model writes to its address"
    assert room.flags.writeable, "the model writes to it"
    return room.ctypes.data
