"""What the actors of a job run on: cards, drivers, libraries, and the batch of each; for the log and the summary.

The same model gives other last bits on another card, so a run records on which it was made.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fsf_core.model.cuda_driver import first_card, loaded_libraries
from fsf_core.score.node_facts import nvidia_driver

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model that an actor has opened on a GPU."""

    node: str
    """Address of its node."""
    provider: str
    batch_frames: int
    """Frames per call."""
    card: str
    compute: str
    """Compute capability of the card."""
    memory_bytes: int
    """All memory of the card."""
    limit_bytes: int | None
    """What the model may take of it; None for no limit."""
    driver: str
    """Version of the NVIDIA driver; empty if it is not known."""
    cuda: str
    """Newest version of CUDA that the driver runs."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions of the CUDA libraries that the actor has loaded."""

    def log(self) -> None:
        """Log it as one event."""
        libraries = " ".join(f"{name} {version}" for name, version in sorted(self.libraries.items()))
        log.info(
            "event=model_opened node=%r provider=%s card=%r compute=%s memory_gb=%.1f limit_gb=%.1f driver=%r cuda=%s "
            "libraries=%r batch_frames=%d",
            self.node, self.provider, self.card, self.compute, self.memory_bytes / 1e9,
            (self.memory_bytes if self.limit_bytes is None else self.limit_bytes) / 1e9, self.driver, self.cuda,
            libraries, self.batch_frames,
        )  # fmt: skip


def describe_card(*, node: str, provider: str, batch_frames: int, limit_bytes: int | None) -> OpenedModel:
    """Return what the model of this process runs on.

    Raises:
        ProviderError: the driver does not describe its card.
    """
    card = first_card()
    return OpenedModel(
        node=node,
        provider=provider,
        batch_frames=batch_frames,
        card=card.name,
        compute=card.compute,
        memory_bytes=card.memory_bytes,
        limit_bytes=limit_bytes,
        driver=nvidia_driver(),
        cuda=card.cuda,
        libraries=loaded_libraries(),
    )


def count_cards(opened: Iterable[OpenedModel]) -> list[dict[str, Any]]:
    """Return each kind of card with what ran on it: the entries of the summary.

    `actors` counts those that have opened the model there; one that was started anew counts twice.
    """
    kinds: Counter[str] = Counter()
    facts: dict[str, dict[str, Any]] = {}
    for each in opened:
        entry = {name: value for name, value in asdict(each).items() if name not in {"node", "provider"}}
        entry["libraries"] = dict(sorted(each.libraries.items()))  # each process lists them by their place in memory
        kinds[repr(entry)] += 1
        facts[repr(entry)] = entry
    return [{**facts[key], "actors": count} for key, count in sorted(kinds.items())]
