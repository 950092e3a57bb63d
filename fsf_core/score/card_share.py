"""How much of a card's memory one of several actors takes. Read in the actor's process, on its node."""

from fsf_core.errors import ProviderError
from fsf_core.model.cuda_driver import Card, first_card

RESERVED_BYTES = 700 << 20
"""What each process has on a card outside of the memory that is limited: CUDA's context, the code of the libraries'
kernels, and cuDNN's workspace. Estimated."""

LEAST_BYTES = 256 << 20
"""Least memory for a model and one batch."""


def memory_limit(gpus: float) -> int | None:
    """Return the memory that the model of this process may take on its card, in bytes; None for no limit.

    Args:
        gpus: share of the card that the actor has; a whole one, or 0 on CPUs, has no limit.

    Raises:
        ProviderError: the share is too small for a process, or the driver shows no card.
    """
    return _limit_on(first_card(), gpus) if 0 < gpus < 1 else None


def _limit_on(card: Card, gpus: float) -> int:
    """Return the limit for a share of a card.

    Raises:
        ProviderError: the share is too small for a process.
    """
    share_bytes = int(card.memory_bytes * gpus)
    if share_bytes < RESERVED_BYTES + LEAST_BYTES:
        least = (RESERVED_BYTES + LEAST_BYTES) / card.memory_bytes
        raise ProviderError(
            f"{gpus:g} of the {card.memory_bytes / 1e9:.1f} GB of {card.name} are {share_bytes / 1e9:.2f} GB, expected "
            f"{(RESERVED_BYTES + LEAST_BYTES) / 1e9:.2f} GB: {RESERVED_BYTES / 1e9:.2f} GB are CUDA's own; pass "
            f"--gpus-per-actor {min(1.0, least + 0.005):.2f} or more"
        )
    return share_bytes - RESERVED_BYTES
