"""The tracker: what a job has committed, which blocks ended their process, and whether to stop early.

Runs as one small actor. Decoding calls it once per block, writing once per part. An image is finished when it is
committed, a video when all of its segments are; an item failed if one of its units did.
"""

import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core.keys import item_key
from fsf_core.score.actor_starts import ActorStarts, FailedStart, own_code
from fsf_core.score.metric_table import (
    BATCH_FRAMES,
    BLOCKS,
    FAILURES,
    FRAMES,
    ITEMS,
    PARTS,
    RUN_FRAMES,
    RUN_ITEMS,
    Measures,
)
from fsf_core.score.opened import OpenedModel

MAX_REASONS = 30
"""Most failures by stage and type that are counted one by one; the others are added up as `other`."""


@dataclass(frozen=True, kw_only=True)
class CommittedSegments:
    """Segments of one video that were committed together."""

    item_key: bytes
    segments: frozenset[int]
    total: int
    """Segments of the whole video."""
    failed: bool
    """Whether one of them failed."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One committed part, as the tracker counts it."""

    frames: int
    whole_items: int
    """Images, and videos of one segment."""
    failed_whole_items: int
    segments: tuple[CommittedSegments, ...]
    """Of longer videos."""
    reasons: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Failed units by stage and type of the error."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a job has committed so far."""

    items: int = 0
    """Finished items."""
    failed_items: int = 0
    """Items with a failure, finished or not."""
    segments: int = 0
    """Segments of videos that have several."""
    frames: int = 0
    item_shares: float = 0.0
    """Finished items, plus the share of each unfinished video that this job has done of what it had to do."""
    failed_nodes: Mapping[str, str] = field(default_factory=dict)
    """Why nodes could not load the model, by address."""
    other_nodes: Mapping[str, str] = field(default_factory=dict)
    """Digest of the code of nodes that run another than the driver's, by address: they joined since the job began."""
    opened: Mapping[str, OpenedModel] = field(default_factory=dict)
    """What the actors with GPUs run on, by actor."""


def summarize_commit(table: pa.Table) -> Commit:
    """Count committed units as the tracker does.

    Args:
        table: units with item_id, segment, segments, failed_stage, error_type and frames.
    """
    failed, whole = pc.is_valid(table.column("error_type")), pc.equal(table.column("segments"), 1)
    reasons = zip(
        *(table.column(name).filter(failed).to_pylist() for name in ("failed_stage", "error_type")), strict=True
    )
    names = ("item_id", "segment", "segments", "error_type")
    videos: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.select(names).filter(pc.invert(whole)).to_pylist():
        videos[row["item_id"]].append(row)
    return Commit(
        frames=pc.sum(pc.list_value_length(table.column("frames"))).as_py() or 0,
        whole_items=pc.sum(whole).as_py() or 0,
        failed_whole_items=pc.sum(pc.and_(whole, failed)).as_py() or 0,
        segments=tuple(
            CommittedSegments(
                item_key=item_key(item_id),
                segments=frozenset(row["segment"] for row in rows),
                total=rows[-1]["segments"],
                failed=any(row["error_type"] is not None for row in rows),
            )
            for item_id, rows in videos.items()
        ),
        reasons=Counter(reasons),
    )


@dataclass(kw_only=True)
class _Video:
    """A video of which some segments are not committed yet."""

    earlier: frozenset[int]
    """Segments that were committed before this job."""
    committed: set[int] = field(default_factory=set)
    failed: bool = False
    total: int = 0

    def add(self, part: CommittedSegments) -> int:
        """Add segments; returns how many of them are new."""
        before = len(self.committed)
        self.committed |= part.segments
        self.failed |= part.failed
        self.total = part.total
        return len(self.committed) - before

    @property
    def finished(self) -> bool:
        return len(self.committed | self.earlier) >= self.total

    @property
    def share(self) -> float:
        """The share of its pending segments that is committed."""
        return min(1.0, len(self.committed) / max(1, self.total - len(self.earlier)))


class JobTracker:
    """The counts that every task of a job reports to."""

    def __init__(
        self, *, early_items: int | None, early_failed_share: float, earlier_segments: Mapping[bytes, frozenset[int]]
    ) -> None:
        """Start at nothing.

        Args:
            early_items: finished items after which the early gate decides; None for never.
            early_failed_share: share of failed ones among them, above which the job stops.
            earlier_segments: by item key, the segments of unfinished videos that are committed already.
        """
        self._totals = Counter[str]()
        self._videos: dict[bytes, _Video] = {}
        self._earlier = earlier_segments
        self._starts = defaultdict[str, list[str]](list)
        self._early_items = early_items
        self._early_failed_share = early_failed_share
        self._verdict: str | None = None
        self._id = secrets.token_hex(4)
        self._measured = Counter[tuple[str, ...]]()
        self._reasons = Counter[tuple[str, str]]()
        self._blocks = 0
        self._actors = ActorStarts()
        self._code = ""
        self._other_nodes: dict[str, str] = {}
        self._opened: dict[str, OpenedModel] = {}

    def plan_blocks(self, blocks: int) -> None:
        """Count blocks that wait to be decoded."""
        self._blocks += blocks

    def begin_block(self, block: str, node: str) -> list[str]:
        """Note the start of a block on a node; returns the nodes of all starts that did not reach its end."""
        self._starts[block].append(node)
        return self._starts[block]

    def end_block(self, block: str) -> None:
        """Forget the starts of a block that reached its end."""
        self._blocks -= self._starts.pop(block, None) is not None

    def end_item(self, item: str) -> None:
        """Forget the starts of an item of a block that is scored item by item."""
        self._starts.pop(item, None)

    def begin_start(self, actor: str, node: str, code: str) -> FailedStart | None:
        """Note that an actor loads the model, and with which code; see ActorStarts."""
        self._code = self._code or own_code()  # of the driver's node
        if code != self._code:
            self._other_nodes[node] = code
        return self._actors.begin(actor, node)

    def fail_start(self, actor: str, node: str, reason: str) -> FailedStart:
        """Note that an actor could not load the model; see ActorStarts."""
        return self._actors.fail(actor, node, reason)

    def end_start(self, actor: str) -> None:
        """Note that an actor has loaded the model."""
        self._actors.end(actor)

    def note_opened(self, actor: str, opened: OpenedModel) -> None:
        """Note what an actor with a GPU runs on, when it has loaded the model and when its batch has changed."""
        self._opened[actor] = opened

    def report(self, measures: Measures) -> None:
        """Add what a worker has measured."""
        self._measured.update(measures)

    def add(self, commit: Commit, measures: Measures | None = None) -> str | None:
        """Add one part, and what its worker has measured; returns why the job should stop, or None."""
        self._measured.update(measures or {})
        self._totals.update(frames=commit.frames, items=commit.whole_items, failed=commit.failed_whole_items, parts=1)
        for why, units in commit.reasons.items():
            self._reasons[why if why in self._reasons or len(self._reasons) < MAX_REASONS else ("other", "other")] += (
                units
            )
        for part in commit.segments:
            video = self._videos.setdefault(
                part.item_key, _Video(earlier=self._earlier.get(part.item_key, frozenset()))
            )
            self._totals["segments"] += video.add(part)
            if video.finished:
                del self._videos[part.item_key]
                self._totals.update(items=1, failed=int(video.failed))
        items, failed = self._totals["items"], self._totals["failed"]
        if self._early_items is not None and items >= self._early_items:
            self._early_items = None  # it decides once
            if failed > self._early_failed_share * items:
                self._verdict = f"{failed} of the first {items} items failed"
        return self._verdict

    def progress(self) -> Progress:
        """Return what is committed so far."""
        begun = self._videos.values()
        return Progress(
            items=self._totals["items"],
            failed_items=self._totals["failed"] + sum(video.failed for video in begun),
            segments=self._totals["segments"],
            frames=self._totals["frames"],
            item_shares=self._totals["items"] + sum(video.share for video in begun),
            failed_nodes=dict(self._actors.failed_nodes),
            other_nodes=dict(self._other_nodes),
            opened=dict(self._opened),
        )

    def counted(self) -> tuple[str, Measures]:
        """Return everything that has been counted and measured, for metrics, after an id of this process's counts."""
        frames, items, failed = (self._totals[name] for name in ("frames", "items", "failed"))
        running = len(self._starts)
        batches = [opened.batch_frames for opened in self._opened.values()]
        return self._id, {
            **({(BATCH_FRAMES.name,): max(batches)} if batches else {}),
            **self._measured,
            **{(FAILURES.name, *why): units for why, units in self._reasons.items()},
            (FRAMES.name,): frames,
            (RUN_FRAMES.name,): frames,
            (PARTS.name,): self._totals["parts"],
            (ITEMS.name, "scored"): items - failed,
            (ITEMS.name, "failed"): failed,
            (RUN_ITEMS.name, "scored"): items - failed,
            (RUN_ITEMS.name, "failed"): failed,
            (BLOCKS.name, "running"): running,
            (BLOCKS.name, "waiting"): max(0, self._blocks - running),
        }
