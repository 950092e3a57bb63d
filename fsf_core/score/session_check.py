"""A session of the model as an actor opens it, for `fsf doctor`: provider, memory, and the libraries that were loaded.

Called on workers, in a process that ends with the call.
"""

import base64
import resource
import time
from typing import Any

import numpy as np

from fsf_core.model import preprocess
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.model.bundle_files import load_bundle, read_model
from fsf_core.model.cuda_driver import loaded_libraries
from fsf_core.model.session import Session
from fsf_core.options import Precision, Provider

TINY_MODEL = base64.b64decode(
    "CAgSADp5Cg8KAXgKAXcSAXkiBENvbnYSAWcqJwgCCAMIAQgBEAFCAXdKGAAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAP1ocCgF4EhcKFQgBEhEKAxIB"
    "bgoCCAMKAggICgIICGIcCgF5EhcKFQgBEhEKAxIBbgoCCAIKAggICgIICEIECgAQEQ=="
)
"""One convolution of 3 channels to 2, float32, any batch of 8×8: what is tried without a bundle."""


def try_session(
    bundle_uri: str | None, *, precision: Precision, provider: Provider, threads: int, batch_frames: int | None
) -> dict[str, Any]:
    """Open the model of a bundle, or a tiny one, on a provider, and run one batch of black frames.

    Raises:
        ProviderError: the provider does not work here.
        BundleError: the bundle cannot be read here.
    """
    bundle = load_bundle(bundle_uri) if bundle_uri else None
    begun = time.monotonic()
    model = read_model(bundle, variant_of(precision, fused=False)) if bundle else TINY_MODEL
    free_sizes = bundle is not None and bundle.signature.has_free_size
    session = Session(model, provider=provider, threads=threads, free_sizes=free_sizes)
    opened = time.monotonic()
    frames = batch_frames or (4 if session.provider == "cpu" else 32)
    session.run(np.zeros((frames, *_input_shape(bundle)), np.float32))
    return {
        "provider": session.provider,
        "note": session.provider_note,
        "open_s": opened - begun,
        "batch_s": time.monotonic() - opened,
        "batch_frames": frames,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "libraries": loaded_libraries(),
    }


def _input_shape(bundle: Bundle | None) -> tuple[int, int, int]:
    """Return C, H and W of an input; where they depend on the image, of one of 640×480."""
    return (3, *preprocess.input_hw(480, 640, bundle.profile)) if bundle else (3, 8, 8)
