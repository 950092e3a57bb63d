"""GPUs as the NVIDIA driver shows them. onnxruntime's list of providers is compiled in and proves nothing."""

import contextlib
import ctypes
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fsf_core.errors import ProviderError

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NO_DEVICE = 100
"""Error of cuda.h where no GPU is visible."""
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""Numbers of the attributes of a device in cuda.h."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU."""

    name: str
    compute: str
    """Its compute capability, such as 9.0."""
    memory_bytes: int
    """All of its memory, in use or not."""
    cuda: str
    """Newest version of CUDA that the driver runs, such as 13.0."""


@cache
def first_card() -> Card:
    """Return the first GPU that the driver shows to this process: the one on which its sessions run.

    Raises:
        ProviderError: there is none, or the driver does not describe it.
    """
    count, reason = cuda_devices()
    if not count:
        raise ProviderError(f"expected a GPU, found {reason}; run on a machine with an NVIDIA GPU")
    driver = ctypes.CDLL(_DRIVER)
    name, device, version = ctypes.create_string_buffer(256), ctypes.c_int(0), ctypes.c_int(0)
    major, minor, memory = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_size_t(0)
    statuses = (
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_MAJOR, device),
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_MINOR, device),
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
        driver.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(statuses):
        raise ProviderError(
            f"the NVIDIA driver does not describe its GPU (errors {list(statuses)}), expected its name and memory; "
            "check it with nvidia-smi"
        )
    return Card(
        name=name.value.decode(errors="replace"),
        compute=f"{major.value}.{minor.value}",
        memory_bytes=memory.value,
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def missing_library(path: str) -> str:
    """Return why a library cannot be loaded, such as the name of one that it needs; empty if it can."""
    try:
        ctypes.CDLL(path)
    except OSError as error:
        return str(error)
    return ""


@cache
def cuda_devices() -> tuple[int, str]:
    """Return the number of GPUs that the driver shows to this process, and the reason if there are none."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0, f"no NVIDIA driver ({_DRIVER} is not found)"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in {0, _NO_DEVICE}:
        return 0, f"error {status} of the NVIDIA driver"
    return count.value, "" if count.value else "no device in the NVIDIA driver (check CUDA_VISIBLE_DEVICES)"


def loaded_libraries(maps: str = "/proc/self/maps") -> dict[str, str]:
    """Return the versions of the CUDA libraries that this process has loaded, as their files are named.

    Args:
        maps: the list of mapped files.

    Returns:
        Library to version, such as cudart to 13.0.96 and cudnn to 9.13.1; empty where none is loaded.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        found = dict(re.findall(r"/lib(cudart|cudnn|cublas|nvinfer)\.so\.([\d.]+)", Path(maps).read_text()))
    if "cudnn" in found:  # its file is named after its major version alone
        with contextlib.suppress(OSError, AttributeError):
            number = ctypes.CDLL(f"libcudnn.so.{found['cudnn']}").cudnnGetVersion()
            found["cudnn"] = f"{number // 10000}.{number % 10000 // 100}.{number % 100}"
    return found
