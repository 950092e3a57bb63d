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
from fsf_core.model.cuda_driver import first_card, loaded_libraries
from fsf_core.model.session import Session
from fsf_core.options import Precision, Provider
from fsf_core.score.card_share import memory_limit
from fsf_core.score.spec import GPU_PROVIDERS
from fsf_core.stages.infer import CPU_BATCH_FRAMES, GPU_BATCH_FRAMES

TINY_MODEL = base64.b64decode(
    "CAgSADp5Cg8KAXgKAXcSAXkiBENvbnYSAWcqJwgCCAMIAQgBEAFCAXdKGAAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAP1ocCgF4EhcKFQgBEhEKAxIB"
    "bgoCCAMKAggICgIICGIcCgF5EhcKFQgBEhEKAxIBbgoCCAIKAggICgIICEIECgAQEQ=="
)
"""One convolution of 3 channels to 2, float32, any batch of 8×8: what is tried without a bundle."""


def try_session(
    bundle_uri: str | None,
    *,
    precision: Precision,
    provider: Provider,
    threads: int,
    batch_frames: int | None,
    gpus: float = 0.0,
) -> dict[str, Any]:
    """Open the model of a bundle, or a tiny one, on a provider, and run one batch of black frames.

    Args:
        bundle_uri: folder of the bundle; None for the tiny model.
        precision: of the bundle's model.
        provider: that is tried.
        threads: CPU threads per operator.
        batch_frames: frames of the batch; None for a usual number.
        gpus: share of a GPU that an actor has; 0 on CPUs.

    Raises:
        ProviderError: the provider does not work here, or the share is too small for an actor.
        BundleError: the bundle cannot be read here.
    """
    bundle = load_bundle(bundle_uri) if bundle_uri else None
    begun = time.monotonic()
    model = read_model(bundle, variant_of(precision, fused=False)) if bundle else TINY_MODEL
    free_sizes = bundle is not None and bundle.signature.has_free_size
    limit = memory_limit(gpus) if provider in GPU_PROVIDERS else None
    session = Session(model, provider=provider, threads=threads, free_sizes=free_sizes, memory_bytes=limit)
    opened = time.monotonic()
    card = first_card() if session.provider in GPU_PROVIDERS else None
    if card and limit is None:
        limit = memory_limit(gpus)  # auto chose the GPU
    frames = batch_frames or (GPU_BATCH_FRAMES if card else CPU_BATCH_FRAMES)
    session.run(np.zeros((frames, *_input_shape(bundle)), np.float32))
    return {
        "provider": session.provider,
        "note": session.provider_note,
        "open_s": opened - begun,
        "batch_s": time.monotonic() - opened,
        "batch_frames": frames,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "libraries": loaded_libraries(),
        "card": f"{card.name}, {(limit or card.memory_bytes) / 1e9:.1f} GB for each actor" if card else "",
    }


def _input_shape(bundle: Bundle | None) -> tuple[int, int, int]:
    """Return C, H and W of an input; where they depend on the image, of one of 640×480."""
    return (3, *preprocess.input_hw(480, 640, bundle.profile)) if bundle else (3, 8, 8)
