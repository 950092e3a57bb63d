"""What the NVIDIA driver is asked about a card, and what is made of its replies."""

import ctypes
import re
from collections.abc import Iterator

import pytest

from fsf_core.errors import ProviderError
from fsf_core.model import cuda_driver


class _Driver:
    """The functions of libcuda that are called, with the arguments of cuda.h, for a machine without a card."""

    def __init__(self, *, error: int = 0, init: int = 0) -> None:
        self._error, self._init = error, init

    def __getattr__(self, name: str) -> object:
        return {
            "cuInit": lambda _: self._init,
            "cuDeviceGetCount": lambda count: self._put(count, 2),
            "cuDeviceGet": lambda device, ordinal: self._put(device, 7 + ordinal),
            "cuDeviceGetName": self._name,
            "cuDeviceGetAttribute": lambda value, number, device: self._put(
                value, {75: 9, 76: 0}[number] + 0 * device.value
            ),
            "cuDeviceTotalMem_v2": lambda size, device: self._put(size, 85_520_809_984 if device.value == 7 else 1),
            "cuDriverGetVersion": lambda version: self._put(version, 13000),
        }[name]

    def _put(self, reference: object, value: int) -> int:
        reference._obj.value = value  # type: ignore[attr-defined] # what byref() keeps
        return self._error

    def _name(self, buffer: ctypes.Array[ctypes.c_char], size: int, device: ctypes.c_int) -> int:
        assert (len(buffer), device.value) == (size, 7)
        buffer.value = b"NVIDIA H100 80GB HBM3"
        return self._error


_CACHED = (cuda_driver.cuda_devices, cuda_driver.first_card)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Ask the driver again, before and after each test."""
    for cached in _CACHED:
        cached.cache_clear()
    yield
    for cached in _CACHED:
        cached.cache_clear()


def test_a_card_has_name_compute_capability_memory_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _: _Driver())
    assert cuda_driver.first_card() == cuda_driver.Card(
        name="NVIDIA H100 80GB HBM3", compute="9.0", memory_bytes=85_520_809_984, cuda="13.0"
    )


def test_a_driver_that_does_not_describe_its_card_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "cuda_devices", lambda: (1, ""))
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _: _Driver(error=3))
    with pytest.raises(ProviderError, match=r"errors \[3, 3, 3, 3, 3, 3\].* nvidia-smi"):
        cuda_driver.first_card()


def test_no_card_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "cuda_devices", lambda: (0, "no device in the NVIDIA driver"))
    with pytest.raises(ProviderError, match="found no device in the NVIDIA driver; run on a machine with"):
        cuda_driver.first_card()


@pytest.mark.parametrize(("init", "reason"), [(100, "no device .*check CUDA_VISIBLE_DEVICES"), (35, "error 35 of the")])
def test_a_driver_that_shows_no_card_has_a_reason(init: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", lambda _: _Driver(init=init))
    count, why = cuda_driver.cuda_devices()

    assert count == 0
    assert re.match(reason, why)
