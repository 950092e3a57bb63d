"""What onnxruntime says of an error: the line that matters, and whether the card's memory was full."""

import re

_PLACE = "\0"

_OUT_OF_MEMORY = re.compile(
    r"Failed to allocate memory for requested buffer"  # of its arena
    r"|smaller than requested bytes"  # of its arena with a limit
    r"|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|\bout of memory\b"
    r"|CUDA (?:error|failure)(?: code)?:? ?2\b"
    r"|(?:CUBLAS|CUDNN|CUFFT|CURAND)\w*_ALLOC(?:ATION)?_FAILED|DEVICE_ALLOCATION_FAILED",
    re.IGNORECASE,
)


def is_out_of_memory(error: object) -> bool:
    """Return whether an error of onnxruntime, or its text, says that the card's memory or the session's is full."""
    return _OUT_OF_MEMORY.search(str(error)) is not None


def first_line(message: object) -> str:
    """Return the first line of a message that says something, without the place in onnxruntime's sources."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.strip())
    text = re.sub(r"/\S+\.(?:cc|h|cpp|cu):\d+ ", _PLACE, text)
    while _PLACE in text:
        before, _, behind = text.partition(_PLACE)
        text = before + _behind_signature(behind)
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def _behind_signature(text: str) -> str:
    """Return what follows the signature of a C++ function, such as `bool f(int) [with T = int] says why`."""
    head = re.match(r"[^()\n]*?[\w>~](?=\()", text)
    if head is None:
        return text.partition(" ")[2] if "::" in text.partition(" ")[0] else text
    end, depth = head.end(), 1
    while depth and end + 1 < len(text):
        end += 1
        depth += (text[end] == "(") - (text[end] == ")")
    return re.sub(r"^\s*(const\b)?\s*(\[with [^\]]*\])?\s*", "", text[end + 1 :])
