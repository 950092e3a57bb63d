"""Where the model runs: the provider, and how many actors a cluster holds, now and with what its autoscaler may add.

Actors take CPUs before tasks do. A pool that left the other stages no CPU would wait for them, and they for it.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fsf_core import storage
from fsf_core.config import ScoreConfig, parse_actors
from fsf_core.errors import ClusterError, ProviderError
from fsf_core.model.bundle import Bundle, variant_of
from fsf_core.options import Provider, ResolvedProvider
from fsf_core.score.autoscaler import Bundle as Resources
from fsf_core.score.capacity import Capacity, describe, read_capacity, wait_for
from fsf_core.score.card_share import memory_limit
from fsf_core.score.cluster import joins_cluster
from fsf_core.score.spec import GPU_PROVIDERS, actor_bundle, gpu_share, other_bundles
from fsf_core.score.waiting import run_task
from fsf_core.stages.infer import probe

MOST_ACTORS = 1_024
"""Greatest number of actors where nobody gives one; Ray starts one process for each."""

FEW_IMAGES = 16
"""Most images that this machine scores with one actor, which has a thread for each CPU: what another one imports takes
more CPU than FastSegFormer-P takes for them."""

TRIAL, TRIAL_LIMIT_S = "the trial of the model on a node", 1800.0
"""What is waited for, and the longest time from its start; TensorRT builds engines for minutes."""

log = logging.getLogger("fsf")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the model runs."""

    provider: ResolvedProvider
    min_actors: int
    asked_actors: int
    """As many as nodes are asked for at once: all, where the user gives the number."""
    actors: int
    """Greatest number, which the cluster may reach."""
    threads: int
    """CPU threads of an actor's session."""


def place(config: ScoreConfig, bundle: Bundle, *, images: int | None = None) -> Placement:
    """Choose the provider and the number of actors, and wait until there is room for the least of them.

    Args:
        config: options of the job.
        bundle: its model.
        images: number of items, if all of them seem to be images.

    Raises:
        ClusterError: the cluster has too few CPUs or GPUs, and its autoscaler adds none.
        ProviderError: the provider that was asked for does not work here.
    """
    joined = joins_cluster(config.ray_address)
    capacity = read_capacity(with_autoscaler=joined)
    _require_gpu(config, capacity)
    asked = asked_provider(config)
    gpu = asked in GPU_PROVIDERS or (asked == "auto" and _has_gpu(capacity))
    gpus = gpu_share(config.gpus_per_actor) if gpu else 0.0
    if joined:
        capacity = _wait_for_actors(config, capacity, gpus=gpus)
    provider = _provider(config, bundle, remote=joined or gpu, gpus=gpus)
    if gpu and provider not in GPU_PROVIDERS:
        gpus = 0.0
        capacity = _wait_for_actors(config, capacity, gpus=gpus) if joined else capacity
    if provider not in GPU_PROVIDERS and config.gpus_per_actor != 1:
        log.warning("event=option_unused option=--gpus-per-actor reason='the model runs on %s'", provider)
    least, most = _actors(config, capacity, gpus=gpus)
    threads = config.threads
    if not (joined or gpus or config.actors) and images is not None and images <= FEW_IMAGES:
        least, most, threads = 1, 1, max(threads, most)
    asked_actors = least if config.actors is None else most
    return Placement(provider=provider, min_actors=least, asked_actors=asked_actors, actors=most, threads=threads)


def asked_provider(config: ScoreConfig) -> Provider:
    """Return the provider to try: of the CPU for int8, which is quantized for CPUs."""
    return "cpu" if config.precision == "int8" else config.provider


def require_gpu(config: ScoreConfig) -> None:
    """Check that the cluster has a GPU, or may add one, if the provider needs one.

    Raises:
        ProviderError: it has none.
    """
    if config.provider in GPU_PROVIDERS:
        _require_gpu(config, read_capacity(with_autoscaler=joins_cluster(config.ray_address)))


def actor_limits(config: ScoreConfig, provider: ResolvedProvider) -> tuple[int, int]:
    """Return the least and the greatest number of actors of a provider on the connected cluster.

    Raises:
        ClusterError: there is no room for the least number, and there will be none.
    """
    capacity = read_capacity(with_autoscaler=joins_cluster(config.ray_address))
    return _actors(config, capacity, gpus=gpu_share(config.gpus_per_actor) if provider in GPU_PROVIDERS else 0.0)


def _require_gpu(config: ScoreConfig, capacity: Capacity) -> None:
    if config.provider in GPU_PROVIDERS and not _has_gpu(capacity, unknown=True):
        autoscaler = f", whose autoscaler {capacity.autoscaler.describe()}" if capacity.autoscaler else ""
        raise ProviderError(
            f"asked for {config.provider}, found no GPU in the cluster ({capacity.describe()}){autoscaler}; add a GPU "
            "node or pass --provider cpu"
        )


def _has_gpu(capacity: Capacity, *, unknown: bool = False) -> bool:
    """Return whether the cluster has a GPU or may add one.

    Args:
        capacity: of the cluster.
        unknown: the result where it cannot be known what the autoscaler may add.
    """
    if not capacity.unplaced([{"GPU": 1.0}]):
        return True
    if capacity.autoscaler and capacity.autoscaler.node_types is None:
        return unknown
    return not capacity.unplaced([{"GPU": 1.0}], scaled=True)


def _wait_for_actors(config: ScoreConfig, capacity: Capacity, *, gpus: float) -> Capacity:
    """Wait until there is room for the least number of actors and the other stages."""
    least, most = _actors(config, capacity, gpus=gpus)
    actor, others = actor_bundle(gpus=gpus), other_bundles(gpus=gpus)
    wishes = [actor] * (most - least) if parse_actors(config.actors) else []
    advice = " or pass --provider cpu" if gpus else ", or pass a smaller --actors" if least > 1 else ""
    return wait_for([actor] * least + others, capacity, wishes=wishes, limit_s=config.wait_s, advice=advice)


def _provider(config: ScoreConfig, bundle: Bundle, *, remote: bool, gpus: float) -> ResolvedProvider:
    """Return the provider that works, after loading the model once where an actor would.

    Raises:
        ProviderError: the provider that was asked for does not work.
    """
    engine_cache = storage.absolute(config.engine_cache) if config.engine_cache else None
    variant = variant_of(config.precision, fused=False)
    asked = (bundle.uri, bundle.sha256, variant, asked_provider(config), gpus, engine_cache)
    if remote:
        needs = {"CPU": 1.0, "GPU": gpus}
        found: tuple[ResolvedProvider, str] = run_task(
            _probe, *asked, what=TRIAL, needs=needs, start_s=config.wait_s, end_s=TRIAL_LIMIT_S
        )
    else:
        found = _probe(*asked)  # the actors will run on this machine
    provider, note = found
    if config.provider == "auto":
        note = note or "auto chose cpu: int8 is for CPUs"
        log.info("event=provider_chosen provider=%s reason=%r", provider, note)
    return provider


def _probe(
    uri: str, sha256: str, variant: str, provider: Provider, gpus: float, engine_cache: str | None
) -> tuple[ResolvedProvider, str]:
    """Load the model as an actor would; on a GPU, its share of the memory must suffice.

    Raises:
        BundleError: the bundle is not the one that the job was started with.
        ProviderError: the provider is not available, or the share is too small.
    """
    found, note = probe(uri, sha256, variant=variant, provider=provider, engine_cache=engine_cache)
    if found in GPU_PROVIDERS:
        memory_limit(gpus)
    return found, note


def _actors(config: ScoreConfig, capacity: Capacity, *, gpus: float) -> tuple[int, int]:
    """Return the least and the greatest number of actors with this share of a GPU each.

    Raises:
        ClusterError: there is no room for the least number, and there will be none.
    """
    given = parse_actors(config.actors)
    room = _room(capacity, gpus=gpus, most=given[1] if given else MOST_ACTORS, scaled=True)
    if given:
        least, most = given[0], max(given[0], min(given[1], room))
    elif capacity.autoscaler:
        most = room if gpus else _room(_without_gpu_types(capacity), gpus=0.0, most=MOST_ACTORS, scaled=True)
        least, most = 1, max(1, most)
    else:
        least = most = _default_actors(config, room, gpus=gpus)
    if least > room:
        raise ClusterError(
            f"found room for {room} actors{_each(gpus)}{_beside(other_bundles(gpus=gpus))} ({capacity.describe()}"
            f"{', ' + capacity.autoscaler.describe() if capacity.autoscaler else ''}), expected {least}; add "
            f"{'GPUs or CPUs' if gpus else 'CPUs'}, or pass a smaller --actors"
        )
    return least, most


def _without_gpu_types(capacity: Capacity) -> Capacity:
    """Return the capacity without nodes with GPUs that could be added, if others could: they cost a multiple."""
    known = capacity.autoscaler
    kept = tuple(each for each in (known and known.node_types) or () if not each.resources.get("GPU"))
    return replace(capacity, autoscaler=replace(known, node_types=kept)) if known and kept else capacity


def _default_actors(config: ScoreConfig, room: int, *, gpus: float) -> int:
    """Return the number of actors on a cluster of a fixed size."""
    if gpus or joins_cluster(config.ray_address):
        # No CPU is kept free for the actors of a lost node: they are restarted on those of actors that have no more
        # work, at the end of the run at the latest.
        return max(1, room)
    return max(1, min(room, os.cpu_count() or 1))


def _room(capacity: Capacity, *, gpus: float, most: int, scaled: bool = False) -> int:
    """Return for how many actors there is room beside one task of each other stage."""
    return capacity.room(actor_bundle(gpus=gpus), beside=other_bundles(gpus=gpus), most=most, scaled=scaled)


def _each(gpus: float) -> str:
    return f" of {gpus:g} GPUs" if 0 < gpus < 1 else ""


def _beside(others: Sequence[Resources]) -> str:
    return f" beside the other stages, which need {describe(others)}" if others else ""
