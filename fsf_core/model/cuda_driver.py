"""GPUs as the NVIDIA driver counts them. onnxruntime's list of providers is compiled in and proves nothing."""

import ctypes
import sys
from functools import cache


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
