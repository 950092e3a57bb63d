"""GPUs as the NVIDIA driver counts them. onnxruntime's list of providers is compiled in and proves nothing."""

import contextlib
import ctypes
import re
import sys
from functools import cache
from pathlib import Path


@cache
def cuda_devices() -> tuple[int, str]:
    """Return the number of GPUs that the driver shows to this process, and the reason if there are none."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0, f"no NVIDIA driver ({library} is not found)"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
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
