"""The metrics of a job: names, labels and meanings. Knows no Ray.

`measured` and `tracker` add them up on workers, `metrics` exports them; cluster/monitoring/README.md lists them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Measures: TypeAlias = Mapping[tuple[str, ...], float]
"""Values by the name of a metric, followed by the values of its labels except `run` and `provider`."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    """Without the prefix `ray_` that Ray adds."""
    kind: Literal["counter", "gauge"]
    meaning: str
    labels: tuple[str, ...] = ()
    """Beside `run`, which all have. The driver fills `provider` in."""


RUN_INFO = Metric(
    name="fsf_run_info",
    kind="gauge",
    labels=("run_id", "version", "provider"),
    meaning="1; joins the id of the run, the version of fsf and the provider to the other metrics.",
)
RUN_PHASE = Metric(
    name="fsf_run_phase",
    kind="gauge",
    labels=("phase",),
    meaning="1 for the phase that the job is in, 0 for the others: starting, scoring, finishing, ended.",
)
RUN_STARTED = Metric(
    name="fsf_run_start_timestamp_seconds", kind="gauge", meaning="When this start of the job began, in Unix time."
)
RUN_PROGRESS = Metric(
    name="fsf_run_progress_timestamp_seconds",
    kind="gauge",
    meaning="When workers last reported work, or scoring began, in Unix time.",
)
RUN_SECONDS = Metric(name="fsf_run_duration_seconds", kind="gauge", meaning="How long this start of the job has run.")
RUN_ITEMS = Metric(
    name="fsf_run_items",
    kind="gauge",
    labels=("state",),
    meaning="Items of the manifest by state, which add up to all: scored, failed, resumed (finished before this "
    "start), reused (copied from an earlier run), pending. At the end, scored and failed of the whole run, from its "
    "tables.",
)
RUN_FRAMES = Metric(
    name="fsf_run_frames", kind="gauge", meaning="Frames that this start committed; at the end, frames of the run."
)
LAST_SUCCESS = Metric(
    name="fsf_last_success_timestamp_seconds",
    kind="gauge",
    meaning="When a job ended with exit code 0, in Unix time; only of one that did.",
)
RUNS = Metric(
    name="fsf_runs_total",
    kind="counter",
    labels=("outcome",),
    meaning="Ended jobs by outcome: done (exit code 0), refused (2), gate (3), resumable (75), interrupted (128+n), "
    "bug (1). A job that was killed, or refused before it reached the cluster, has none.",
)
FRAMES = Metric(name="fsf_frames_total", kind="counter", labels=("provider",), meaning="Committed frames.")
ITEMS = Metric(
    name="fsf_items_total",
    kind="counter",
    labels=("result",),
    meaning="Finished items by result: scored or failed. A video is finished when all of its segments are.",
)
FAILURES = Metric(
    name="fsf_failures_total",
    kind="counter",
    labels=("stage", "reason"),
    meaning="Failed units (images, or segments of videos) by stage and type of the error.",
)
PARTS = Metric(name="fsf_parts_total", kind="counter", meaning="Committed parts.")
STAGE_SECONDS = Metric(
    name="fsf_stage_seconds_total",
    kind="counter",
    labels=("stage",),
    meaning="Time that workers spent in a stage: decode, infer, mask or write; reading an item is part of decode. Work "
    "that is repeated counts again.",
)
STAGE_CPU_SECONDS = Metric(
    name="fsf_stage_cpu_seconds_total",
    kind="counter",
    labels=("stage",),
    meaning="CPU time of workers in a stage, all threads of their processes: decode, infer, mask or write; other is "
    "what the processes of CPU actors need in between. Work that is repeated counts again.",
)
MODEL_CALLS = Metric(name="fsf_model_calls_total", kind="counter", labels=("provider",), meaning="Calls of the model.")
MODEL_FRAMES = Metric(
    name="fsf_model_frames_total",
    kind="counter",
    labels=("provider",),
    meaning="Frames in these calls, repeated ones counted again. Divided by calls and fsf_batch_frames: batch fill.",
)
MODEL_BUSY_SECONDS = Metric(
    name="fsf_model_busy_seconds_total",
    kind="counter",
    labels=("provider",),
    meaning="Time during which an actor's model computed, overlapping calls counted once.",
)
ACTOR_SECONDS = Metric(
    name="fsf_actor_seconds_total",
    kind="counter",
    labels=("provider",),
    meaning="Time that actors existed, up to their latest block. fsf_model_busy_seconds_total divided by it is the "
    "share of the bare session: how much of the time the model computes.",
)
BATCH_FRAMES = Metric(
    name="fsf_batch_frames", kind="gauge", labels=("provider",), meaning="Most frames of one call of the model."
)
BLOCKS = Metric(
    name="fsf_blocks",
    kind="gauge",
    labels=("state",),
    meaning="Blocks of the manifest that wait to be decoded, or run: waiting, running.",
)
ACTORS_PLANNED = Metric(name="fsf_actors_planned", kind="gauge", meaning="Actors that the job asked for.")
NODE_FRAMES = Metric(
    name="fsf_node_frames",
    kind="gauge",
    labels=("node",),
    meaning="Frames that the models on a node have taken in this start.",
)
NODE_BUSY_SECONDS = Metric(
    name="fsf_node_model_busy_seconds",
    kind="gauge",
    labels=("node",),
    meaning="As fsf_model_busy_seconds_total, of one node in this start.",
)
NODE_ACTOR_SECONDS = Metric(
    name="fsf_node_actor_seconds",
    kind="gauge",
    labels=("node",),
    meaning="As fsf_actor_seconds_total, of one node in this start.",
)
STORE_READ_BYTES = Metric(
    name="fsf_store_read_bytes_total",
    kind="counter",
    meaning="Bytes that the job read from object stores and web servers; not from disks.",
)
DISK_READ_BYTES = Metric(
    name="fsf_disk_read_bytes_total",
    kind="counter",
    meaning="Bytes that workers read from files of disks while they decoded, those in the page cache included.",
)
WRITTEN_BYTES = Metric(
    name="fsf_written_bytes_total",
    kind="counter",
    meaning="Bytes of the files that the job wrote, to stores and to disks.",
)
STORE_RETRIES = Metric(
    name="fsf_store_retries_total",
    kind="counter",
    labels=("reason",),
    meaning="Retries of requests to stores by reason: throttled or transient.",
)

METRICS = (
    *(RUN_INFO, RUN_PHASE, RUN_STARTED, RUN_PROGRESS, RUN_SECONDS, RUN_ITEMS, RUN_FRAMES, LAST_SUCCESS, RUNS),
    *(FRAMES, ITEMS, FAILURES, PARTS, STAGE_SECONDS, STAGE_CPU_SECONDS),
    *(MODEL_CALLS, MODEL_FRAMES, MODEL_BUSY_SECONDS, ACTOR_SECONDS, BATCH_FRAMES),
    *(BLOCKS, ACTORS_PLANNED, NODE_FRAMES, NODE_BUSY_SECONDS, NODE_ACTOR_SECONDS),
    *(STORE_READ_BYTES, DISK_READ_BYTES, WRITTEN_BYTES, STORE_RETRIES),
)
BY_NAME = {metric.name: metric for metric in METRICS}
