"""The plan that lets several tasks decode one video: its index, and the segments of each task."""

import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from fsf_core import storage
from fsf_core.manifest import LABEL_COLUMN
from fsf_core.media import images, video
from fsf_core.stages.decode_row import is_video
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.labels import LabelPlan, plan_labels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoPlan:
    """All that a task needs to decode its share of a video's segments; made from the video's packets."""

    index: video.VideoIndex
    item_sha256: str | None
    tasks: tuple[range, ...]
    """Segments of each task."""
    labels: LabelPlan | None = None
    """Where the labels are; None for a video without labels."""

    @property
    def segments(self) -> int:
        """Segments of the whole video."""
        return self.tasks[-1].stop


def plan_video(
    row: Mapping[str, Any], settings: DecodeSettings, *, heartbeat: Callable[[], None] = lambda: None
) -> VideoPlan | None:
    """Plan the decoding of a manifest row by several tasks; reads the packets of the video.

    Returns:
        None for what one task should index and decode: short videos, containers that cannot seek, and images. A plan of
        one task where the frames had to be counted by decoding, which is not to be done twice.

    Raises:
        ItemError, OSError: the item cannot be decoded; the decode stage will report it.
    """
    with storage.open_binary(row["uri"], settings.access) as file:
        if not is_video(file.read(images.HEAD_BYTES), row["kind"]):
            return None
        estimate = video.estimate_frames(storage.path_or_file(row["uri"], file))
        if estimate is not None and estimate < settings.task_segments * settings.segment_frames:
            return None
        plan = plan_open_video(file, row["uri"], settings, label_uri=row.get(LABEL_COLUMN), heartbeat=heartbeat)
        return plan if len(plan.tasks) > 1 or plan.index.is_counted else None


def plan_open_video(
    file: BinaryIO,
    uri: str,
    settings: DecodeSettings,
    *,
    label_uri: str | None = None,
    heartbeat: Callable[[], None] = lambda: None,
) -> VideoPlan:
    """Index a video and partition its segments among tasks, of which there may be one.

    Args:
        file: the open video.
        uri: its address.
        settings: of the decode stage.
        label_uri: address of its labels; None without.
        heartbeat: called every few frames while the frames are counted by decoding.
    """
    index = video.index_video(
        storage.path_or_file(uri, file),
        max_frame_px=settings.limits.max_pixels,
        max_frames=settings.max_frames,
        heartbeat=heartbeat,
    )
    wanted = video.select_frames(index, settings.sampling)
    tasks: tuple[range, ...] = (range(1),)  # without a wanted frame, one task has to report that
    if len(wanted):
        tasks = video.partition_segments(
            index,
            wanted,
            segment_frames=settings.segment_frames,
            span_segments=settings.task_segments,
            dense=not settings.sampling.keyframes_only,
        )
    labels = plan_labels(label_uri, index.frames, settings, heartbeat=heartbeat) if label_uri else None
    return VideoPlan(index=index, item_sha256=_local_sha256(uri), tasks=tasks, labels=labels)


def pack_plan(plan: VideoPlan) -> bytes:
    """Serialise a plan to be sent along with a manifest row: 3 bytes per frame at a constant frame rate."""
    return zlib.compress(pickle.dumps(plan), 1)


def unpack_plan(packed: bytes) -> VideoPlan:
    """Deserialise a plan that another task of this job packed."""
    plan: VideoPlan = pickle.loads(zlib.decompress(packed))  # noqa: S301 - from another task of this job
    return plan


def _local_sha256(uri: str) -> str | None:
    """Return the digest of a local video; None for one in a store, which is read in ranges and never whole."""
    if not storage.is_local(uri):
        return None
    with storage.open_binary(uri) as file:
        return storage.file_sha256(file)
