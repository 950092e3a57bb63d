"""What a run costs the driver, the tracker and the store, as a model: checked on measurements, and what binds first.

    python -m tests.bench.scale_model

Prints what the model gives beside what was measured (scale_figures.json, from `tests.bench.bench_scaling`), then runs
that nobody here can measure. Everything that a run needs is turned into seconds: those of parts that work at the same
time (actors, driver, tracker, store) of which the longest counts, and those that come one after another (the list, the
starts of actors, the end). What has most seconds binds first. Starts no Ray.
"""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from fsf_core.score.partition import EXECUTION_ITEMS, BlockLimits, block_sizes
from fsf_core.score.pipeline import EXECUTION_ACTOR_ITEMS, LAST_ITEMS_SEPARATE, MOST_CONSUMERS
from fsf_core.score.spec import BLOCK_ITEMS_CPU, BLOCK_ITEMS_SEPARATE, DECODE_CPUS

FIGURES = Path(__file__).with_name("scale_figures.json")


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a block costs in one form of the pipeline.

    CPU of 2 cores of AMD EPYC, `python -m tests.bench.bench_scaling --only blocks`, 2026-11-28: numbers between those
    of the points in scale_figures.json, which other work on the machine has moved by a fifth.
    """

    driver_idle: float
    """Cores that the driver takes whatever the blocks: it polls, watches processes and renews its lease."""
    driver_ms: float
    """Of the driver for a block."""
    driver_actor_ms: float
    """Of the driver per second for each actor: Ray Data asks for the state of every actor in each round."""
    ray_idle: float
    ray_ms: float
    """Cores and milliseconds a block of raylet and GCS, on the driver's node."""
    calls: int
    """Of the tracker for a block: its begin and end, and what the stages have measured (score/recovery, measured)."""


RAY_S, PROCESS_S = 3.5, 2.2
"""Seconds until Ray has started; and CPU seconds of the start of an actor's process, which its node's cores share."""

TRACKER_IDLE, TRACKER_MS = 0.014, 0.6
"""Cores of the tracker at rest, and milliseconds of a call; `--only blocks`, as above."""

LIST_US, ITEM_US = 1.4, 2.7
"""CPU microseconds of a row of the list, which is read twice and checked, and of an item that is counted and packed
into a block (`python -m tests.bench.bench_manifest --rows 4000000`, 2026-11-28)."""

END_US, END_PART_MS = 6.8, 1.4
"""CPU microseconds of an item at the end (repeated units are looked for, and counted against the list), and
milliseconds of a part (its receipt listed, its files moved on a disk): `python -m tests.bench.bench_end 40000`, and
both passes over the million images of scale_figures.json, fe33483, 2026-11-28."""

DRIVER_MB, TASK_BYTES, BLOCK_KB = 260.0, 25.0, 22.0
"""The driver's private memory at its first block; packed manifest rows of an item in the blocks of an execution
(`bench_manifest`, as above); and what a finished block leaves until the execution ends (the million images of
scale_figures.json)."""

END_ITEM_BYTES = 80.0
"""Memory of an item at the end: keys of all units, sorted; the same passes."""

GCS_MB, EVENT_KB, EVENTS = 27.0, 3.4, 100_000
"""The cluster's state at the start; the record of one task or call, of which a block has one for each stage and call of
the tracker; and how many Ray keeps (task_events_max_num_task_in_gcs). From the million images; a cluster of the job's
own keeps none any more."""

RECEIPT_BYTES, RECEIPT_BASE_BYTES, MANIFEST_BYTES = 119.0, 2_600.0, 902.0
"""Of a receipt for each unit and for itself, and of manifest.json for each part; ids of 7 characters (the same)."""

GETS_PER_S, PUTS_PER_S, STORE_S, COPIES = 5_500.0, 3_500.0, 0.05, 16
"""Requests that S3 serves for one prefix, as it documents them; seconds of one request; and requests that the end of a
job has in flight (runs/publish)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The shape of a job."""

    items: int
    """Images, each of its own."""
    actors: int
    """Of the model; one for each GPU."""
    actor_items_per_s: float
    form: str
    """A key of FORMS."""
    cores: int = 2
    """Of all nodes together."""
    block_items: int = BLOCK_ITEMS_CPU
    part_units: int = BLOCK_ITEMS_CPU
    """Where one actor does everything a block is a part, unless parts are smaller."""
    least_execution_items: int = EXECUTION_ITEMS
    """Of one execution; more beside many actors."""
    model_s: float = 0.0
    """From the start of an actor's process until its model is loaded."""
    prefixes: int = 0
    """Prefixes of a store below which the images are; 0 for a disk, where the run is then, too."""
    shards: int = 1
    """Jobs that share the list; the items are those of one."""
    most_consumers: int = MOST_CONSUMERS
    """Most processes for which the last blocks of separate stages are divided."""

    @property
    def execution_items(self) -> int:
        """Return the items of one execution."""
        return max(self.least_execution_items, EXECUTION_ACTOR_ITEMS * self.actors)

    @property
    def consumers(self) -> int:
        """Return the processes among which the last blocks are divided."""
        if self.form == "operator":
            return self.actors
        return min(math.ceil(self.cores / DECODE_CPUS), self.most_consumers)


FORMS = {
    "operator": Form(driver_idle=0.035, driver_ms=2.8, driver_actor_ms=0.1, ray_idle=0.014, ray_ms=0.7, calls=3),
    "stages": Form(driver_idle=0.06, driver_ms=12.5, driver_actor_ms=0.1, ray_idle=0.01, ray_ms=5.0, calls=5),
    "joined": Form(driver_idle=0.03, driver_ms=13.5, driver_actor_ms=0.1, ray_idle=0.01, ray_ms=5.0, calls=5),
}
"""One actor for everything, as on CPUs; separate stages beside GPUs on a cluster of the job's own; and on another one,
where Ray Data is not patched."""


def blocks(job: Job) -> int:
    """Return the blocks of all executions: full ones, and at the end of each smaller and smaller ones."""
    whole, rest = divmod(job.items, job.execution_items)
    return whole * _blocks_of(job, job.execution_items) + _blocks_of(job, rest)


@cache
def _blocks_of(job: Job, items: int) -> int:
    """Return the blocks of one execution, as the job divides its items."""
    limits = BlockLimits(max_items=job.block_items, consumers=job.consumers)
    if job.form != "operator":
        limits = replace(limits, blocks_per_consumer=1, last_items=LAST_ITEMS_SEPARATE)  # as score/pipeline has it
    return len(block_sizes(items, limits))


def executions(job: Job) -> int:
    """Return the executions of Ray Data."""
    return math.ceil(job.items / job.execution_items)


def parts(job: Job) -> int:
    """Return the parts of the run; a block of one actor is at least one."""
    full = math.ceil(job.items / job.part_units)
    return max(full, blocks(job)) if job.form == "operator" else full


def driver_cores(job: Job, blocks_per_s: float) -> float:
    """Return the cores that the driver takes at a rate of blocks."""
    form = FORMS[job.form]
    return form.driver_idle + 1e-3 * (form.driver_actor_ms * job.actors + form.driver_ms * blocks_per_s)


def possible_blocks_per_s(job: Job) -> float:
    """Return the blocks that one driver can hand out, with a core of its own; 0 where its actors alone fill that."""
    return max(0.0, 1e3 * (1 - driver_cores(job, 0)) / FORMS[job.form].driver_ms)


def needed_blocks_per_s(job: Job) -> float:
    """Return the blocks that keep all actors busy."""
    return job.actors * job.actor_items_per_s * blocks(job) / job.items


def ray_cores(job: Job, blocks_per_s: float) -> float:
    """Return the cores of raylet and GCS on the driver's node."""
    return FORMS[job.form].ray_idle + 1e-3 * FORMS[job.form].ray_ms * blocks_per_s


def tracker_calls(job: Job) -> float:
    """Return the calls of the tracker for a block; a part that is no block is one more."""
    each = FORMS[job.form].calls
    return each if job.form == "operator" else each + parts(job) / blocks(job)


def tracker_cores(job: Job, blocks_per_s: float) -> float:
    """Return the cores of the tracker."""
    return TRACKER_IDLE + 1e-3 * TRACKER_MS * tracker_calls(job) * blocks_per_s


def driver_mb(job: Job) -> float:
    """Return the driver's greatest private memory while it scores, in MB."""
    share = min(1.0, job.execution_items / job.items)
    return DRIVER_MB + share * (TASK_BYTES * job.items + 1e3 * BLOCK_KB * blocks(job)) / 2**20


def end_mb(job: Job) -> float:
    """Return the driver's memory at the end, in MB."""
    return DRIVER_MB + END_ITEM_BYTES * job.items / 2**20


def gcs_mb(job: Job) -> float:
    """Return the memory of the cluster's state at the end, in MB."""
    tasks = 1 if job.form == "operator" else 4
    return GCS_MB + EVENT_KB * min(EVENTS, (tasks + tracker_calls(job)) * blocks(job)) / 1024


def receipt_mb(job: Job) -> float:
    """Return the size of all receipts, in MB."""
    return (RECEIPT_BYTES * job.items + RECEIPT_BASE_BYTES * parts(job)) / 2**20


def requests(job: Job) -> dict[str, float]:
    """Return the requests of a job to a store, by kind; `python -m tests.bench.bench_requests` counts them."""
    if not job.prefixes:
        return {"GET images": 0.0, "PUT parts": 0.0, "GET receipts": 0.0, "COPY parts": 0.0, "POST deletions": 0.0}
    each = parts(job)
    # Two tables and a receipt, which is looked for before it is written.
    return {
        "GET images": float(job.items),
        "PUT parts": 3.0 * each,
        "GET receipts": 2.0 * each,
        "COPY parts": 3.0 * each,
        "POST deletions": math.ceil(3 * each / 1_000),
    }


def start_s(job: Job) -> float:
    """Return the seconds until all actors of an execution work."""
    return job.model_s + PROCESS_S * max(1.0, job.actors / job.cores)


def first_s(job: Job) -> float:
    """Return the seconds from the command to the first blocks of all actors."""
    return (
        RAY_S + 1e-6 * (LIST_US * job.shards * job.items + ITEM_US * min(job.items, job.execution_items)) + start_s(job)
    )


def end_s(job: Job) -> float:
    """Return the seconds of the end: find repeated units, count, publish."""
    at_store = requests(job)
    copies = (at_store["GET receipts"] / 2 + at_store["COPY parts"]) * STORE_S / COPIES
    return 1e-6 * END_US * job.items + 1e-3 * END_PART_MS * parts(job) + copies


def seconds(job: Job) -> dict[str, float]:
    """Return the seconds that a job needs of everything, by name; see the module for what is at the same time."""
    at_store, possible = requests(job), possible_blocks_per_s(job)
    return {
        "actors": job.items / (job.actors * job.actor_items_per_s),
        "driver": blocks(job) / possible if possible else math.inf,
        "tracker": blocks(job) * 1e-3 * TRACKER_MS * tracker_calls(job) / (1 - TRACKER_IDLE),
        "reads": at_store["GET images"] / (GETS_PER_S * max(1, job.prefixes)),
        "writes": at_store["PUT parts"] / PUTS_PER_S,
        "list": 1e-6 * (LIST_US * job.shards + ITEM_US) * job.items,
        "starts": executions(job) * start_s(job),
        "end": end_s(job),
    }


IN_TURN = ("list", "starts", "end")
"""What nothing else happens beside."""


def total_s(job: Job) -> float:
    """Return the seconds of a whole job."""
    needed = seconds(job)
    return max(value for name, value in needed.items() if name not in IN_TURN) + sum(needed[name] for name in IN_TURN)


def binding(job: Job) -> list[str]:
    """Return what is longer than the work of the actors, the longest first; nothing where the actors are."""
    needed = seconds(job)
    others = sorted((name for name in needed if name != "actors"), key=lambda name: -needed[name])
    return [name for name in others if needed[name] > needed["actors"]]


def predicted(job: Job, blocks_per_s: float) -> dict[str, float]:
    """Return the figures of a measured point, at the rate of blocks that it had."""
    return {
        "blocks": float(blocks(job)),
        "parts": float(parts(job)),
        "driver_ms": 1e3 * driver_cores(job, blocks_per_s) / blocks_per_s,
        "tracker_ms": 1e3 * tracker_cores(job, blocks_per_s) / blocks_per_s,
        "ray_ms": 1e3 * ray_cores(job, blocks_per_s) / blocks_per_s,
        "driver_mb": driver_mb(job),
        "gcs_mb": gcs_mb(job),
        "receipt_mb": receipt_mb(job),
        "first_s": first_s(job),
        "end_s": end_s(job),
    }


def comparisons() -> Iterator[tuple[str, str, float, float]]:
    """Yield the name of each measured point and figure, what was measured, and what the model gives."""
    for point in json.loads(FIGURES.read_text())["points"]:
        found: dict[str, Any] = point["measured"]
        given = predicted(Job(**point["job"]), point["blocks_per_s"])
        for name, value in found.items():
            yield point["name"], name, float(value), given[name]


GPU = Job(
    items=10**8, actors=1, actor_items_per_s=3_000.0, form="joined", cores=16, block_items=BLOCK_ITEMS_SEPARATE,
    part_units=4_096, model_s=20.0, prefixes=100,
)  # fmt: skip
"""A card that scores 3,000 images/s beside 16 cores, as an H100 did; on a cluster, with images and run in a store."""

CPU = replace(GPU, form="operator", actor_items_per_s=16.0, cores=1, model_s=1.5, block_items=256, part_units=256)
"""A core that scores 16 images/s."""


CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "the last blocks for all consumers": {"most_consumers": 10**6},
    "parts of 4,096 units": {"part_units": 4_096, "block_items": 4_096},
}
"""What moves the limits of 1e8 items and 1,000 actors: how it was once, and how it could be."""


def main() -> None:
    """Print the tables."""
    print(f"{'point':50}{'figure':12}{'measured':>12}{'model':>12}{'error':>8}")
    for point, name, measured, given in comparisons():
        print(f"{point:50}{name:12}{measured:12,.2f}{given:12,.2f}{given / measured - 1:8.0%}")
    print(f"\nseconds{'':34}{''.join(f'{name:>9}' for name in seconds(GPU))}    total  busy  binds")
    for (base, unit), items, actors in itertools.product(BASES, (10**6, 10**7, 10**8), (1, 8, 64, 1_000)):
        _print_row(f"{items:,} items, {actors:,} {unit}", sized(base, items, actors))
    for (base, unit), (change, changed) in itertools.product(BASES, CHANGES.items()):
        _print_row(f"1,000 {unit}: {change}", replace(sized(base, 10**8, 1_000), **changed))
    for base, unit in BASES:
        _print_row(f"125 jobs of 8 {unit}, --shard", replace(sized(base, 10**8 // 125, 8), shards=125))
    for base, unit in BASES:
        print(f"\n1e8 items, 1,000 {unit}:", json.dumps(_facts(sized(base, 10**8, 1_000))))


BASES = ((GPU, "GPUs"), (CPU, "CPU actors"))


def sized(base: Job, items: int, actors: int) -> Job:
    """Return a job with a number of items and actors, each with as many cores as that of the base."""
    return replace(base, items=items, actors=actors, cores=base.cores * actors)


def _print_row(title: str, job: Job) -> None:
    needed, whole = seconds(job), total_s(job)
    figures = "".join(f"{value:9,.0f}" for value in needed.values())
    limits = ", ".join(binding(job)) or "the actors"
    print(f"{title:41}{figures}{whole:9,.0f}{needed['actors'] / whole:6.0%}  {limits}")


def _facts(job: Job) -> dict[str, float]:
    """Return the other figures of a job."""
    facts = {
        "blocks": blocks(job), "blocks_per_s_needed": needed_blocks_per_s(job),
        "blocks_per_s_possible": possible_blocks_per_s(job), "executions": executions(job), "parts": parts(job),
        "driver_mb": driver_mb(job), "end_mb": end_mb(job), "gcs_mb": gcs_mb(job), "receipt_mb": receipt_mb(job),
        "manifest_mb": parts(job) * MANIFEST_BYTES / 2**20, **requests(job),
    }  # fmt: skip
    return {name: round(value) for name, value in facts.items()}


if __name__ == "__main__":
    main()
