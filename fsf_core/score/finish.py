"""The end of a job: what its run holds, its summary, its gates, its publication."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fsf_core import render, runs, storage
from fsf_core.config import ScoreConfig
from fsf_core.expressions.figures import Expression
from fsf_core.keys import Keys, RowKeys, item_keys
from fsf_core.manifest import Manifest, unredacted_uris
from fsf_core.model.bundle import Bundle
from fsf_core.runs import video_stats
from fsf_core.score import plan
from fsf_core.score import summary as summaries
from fsf_core.score.against import COMPARED_FRAMES, compare_with
from fsf_core.score.gates import judge_gates
from fsf_core.score.metrics import RunMetrics
from fsf_core.score.render import render_videos
from fsf_core.score.work import WorkMeter


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a job works with once nothing can refuse it any more."""

    config: ScoreConfig
    bundle: Bundle
    manifest: Manifest
    appearance: plan.ClassAppearance
    attempt: runs.Attempt
    superseded: RowKeys
    """Committed rows that the manifest no longer holds, of items that it holds."""
    metrics: RunMetrics
    meter: WorkMeter
    """Of this start."""
    gates: Sequence[Expression]
    """Of --fail-if."""
    reference: runs.RunReader | None
    """The run of --against."""
    tables: Collection[str]
    """Names of the tables that the run has."""
    night: str
    """Path of the run below its series; empty where there is none."""

    @property
    def out(self) -> str:
        """The run folder."""
        return self.attempt.uri

    def load_ledger(self, *, without: Collection[str] = ()) -> runs.Ledger:
        """Load the units that count, those of this attempt included, but for some parts."""
        ledger = load_ledger(self.config, self.out, before=self.attempt.number)
        ledger.superseded = self.superseded
        for part in without:
            ledger.drop(part)
        return ledger

    def count_frames(self, *, without: Collection[str]) -> int:
        """Return the frames that this attempt has committed, but for those of some parts."""
        known = frozenset(without)
        mine = (each for each in self.load_ledger().receipts() if each.attempt == self.attempt.number)
        return sum(each.frames for each in mine if each.part not in known)


def load_ledger(config: ScoreConfig, out: str, *, before: int) -> runs.Ledger:
    """Load the ledger, without the failures that are tried again.

    Args:
        config: options of the job.
        out: the run folder.
        before: failures of attempts below this number are tried again, unless they are to be kept.
    """
    ledger = runs.load_ledger(out)
    ledger.retry_before = 0 if config.keep_failures else before
    return ledger


def summarize(work: Work, ledger: runs.Ledger) -> dict[str, Any]:
    """Reconcile the ledger and count.

    Raises:
        DamagedPartError: a part that had to be rewritten is damaged.
        ResumableError: an item of the manifest has no result and no failure; the run is not published.
    """
    removed = runs.reconcile(work.attempt.staging, ledger)
    keys = (keys_of(batch) for batch in work.manifest.batches())
    return {
        "run_id": work.attempt.run_id,
        "out": storage.redact(work.out),
        "attempt": work.attempt.start,
        **summaries.count(ledger, work.manifest, keys, work.appearance.names, work.tables),
        "removed": dict(removed),
    }


def publish(
    work: Work, ledger: runs.Ledger, summary: dict[str, Any], *, provider: str | None, gpus: list[dict[str, Any]]
) -> None:
    """Complete the summary, judge the gates, and publish the run; one that fails its gates is a finished run, too.

    Args:
        work: of the job.
        ledger: to publish.
        summary: its entries so far; the others are added.
        provider: that ran the model in this start; None where nothing was scored.
        gpus: on which it ran in this start.
    """
    config = work.config
    summary |= _comparisons(work, ledger, frames=summary["frames"])
    style = _render_style(config, work.appearance) if config.render else None
    if style:
        summary["videos"] = _render(work, ledger, style)
    derived = [
        *video_stats.write_video_stats(work.attempt.staging, ledger),
        *render.derived_videos(ledger, look=style),
    ]
    summary["seconds"] = round(work.meter.seconds(), 3)
    _describe_work(work, summary, provider, gpus)
    summary["gates"] = judge_gates(summary, work.gates, max_failed_share=config.max_failed_share)
    runs.publish(work.attempt, ledger, summary, derived=derived)


def _comparisons(work: Work, ledger: runs.Ledger, *, frames: int) -> dict[str, Any]:
    """Return the entries of the summary that compare the masks with labels, and the run with another."""
    run = runs.read_ledger(ledger)
    entries: dict[str, Any] = {"metrics": None, "drift": None}
    if "confusion" in work.tables:
        from fsf_core.analysis.metrics import metrics_document

        entries["metrics"] = metrics_document(run.confusion(), run.classes)
    if work.reference:
        asked = any(name.parts == ("pixels_changed_share",) for gate in work.gates for name in gate.names())
        entries["drift"] = compare_with(work.reference, run, pixels=asked or frames <= COMPARED_FRAMES)
    return entries


def _describe_work(work: Work, summary: dict[str, Any], provider: str | None, gpus: list[dict[str, Any]]) -> None:
    """Add what the starts of the run took and what it was made of, those of earlier starts included."""
    earlier = summaries.earlier_summary(work.out) if work.attempt.start > 1 else {}
    summary["work"] = work.meter.describe(price_hour=work.config.price_hour, earlier=earlier.get("work"))
    summary["lineage"] |= summaries.lineage(
        bundle=work.bundle,
        home=plan.bundle_home(work.bundle, work.out),
        manifest=work.manifest,
        precision=work.config.precision,
        provider=provider or earlier.get("lineage", earlier).get("provider"),
        gpus=gpus if provider else earlier.get("lineage", {}).get("gpus", []),
        night=work.night,
    )


def _render_style(config: ScoreConfig, appearance: plan.ClassAppearance) -> render.RenderStyle:
    """Return the style of --render."""
    assert config.render
    return render.RenderStyle(
        style=config.render,
        legend=config.legend,
        clear_background=config.clear_background,
        names=appearance.names,
        palette=appearance.palette,
    )


def _render(work: Work, ledger: runs.Ledger, style: render.RenderStyle) -> dict[str, Any]:
    """Render all videos of a reconciled run; returns the entry of the summary."""
    items = render.video_item_ids(ledger)
    sources = unredacted_uris(work.manifest, items)
    rendered = render_videos(
        work.attempt.staging,
        ledger,
        items,
        style,
        frame_s=work.config.item_seconds,
        sources=sources,
        access=plan.item_access(work.config),
    )
    return {"made": len(rendered.videos), "failed": rendered.failed}


def keys_of(batch: pa.Table) -> Keys:
    """Return the keys of manifest rows."""
    return item_keys(batch.column("item_id").to_pylist())
