"""A finished run over one video, built without a model: in every frame's mask a square moves to the right.

Knows the tables of a run and how to commit them. Knows no Ray.
"""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from fsf_core import masks, render, runs
from fsf_core.keys import item_key, unit_key
from fsf_core.media.video import decode_frames, index_video
from fsf_core.runs import staging
from fsf_core.schema import CLASS_STATS, FAILURES, MASKS, UNITS, conform
from tests.support import ledger

NAMES = ("background", "fruit", "Fäule")
PALETTE = ((0, 0, 0), (128, 0, 0), (0, 255, 0))
UNIT_FRAMES = 8


def class_map(number, height_px, width_px):
    """Return a class map: class 2 in a square, class 1 below the middle, class 0 elsewhere."""
    drawn_HW = np.zeros((height_px, width_px), np.uint8)
    drawn_HW[height_px // 2 :] = 1
    left = number * 2 % max(1, width_px - 16)
    drawn_HW[8:24, left : left + 16] = 2
    return drawn_HW


def finished(out: Path, source: Path, *, frames=None, item_id="clip", begin=0, derived=()) -> str:
    """Commit masks for some frames of a video, all by default, as segments from `begin` on, and publish.

    Returns:
        The run folder.
    """
    fingerprint = {"classes": list(NAMES), "palette": [list(c) for c in PALETTE], "bundle_sha256": "ab" * 32}
    index = index_video(source)
    wanted = [*range(index.frames)] if frames is None else [*frames]
    with ledger.claim_run(str(out), fingerprint=fingerprint, details={}) as opened:
        for start in range(0, len(wanted), UNIT_FRAMES):
            chosen = wanted[start : start + UNIT_FRAMES]
            segments = -(-len(wanted) // UNIT_FRAMES)
            _commit(opened, source, index, chosen, item_id, begin + start // UNIT_FRAMES, begin + segments)
        ledger.publish(opened, {"items": {"total": 1, "scored": 1, "failed": 0}}, derived=[*derived])
    return str(out)


def begin(run_uri: str) -> runs.Attempt:
    """Begin an attempt that renders, unless one has begun."""
    if staging.attempt_numbers(run_uri):
        return ledger.newest_attempt(run_uri)
    return runs.begin_change(run_uri, ledger.HeldLease())


def plan_for(run_uri: str, look: render.RenderStyle, *, item_id="clip") -> render.RenderPlan:
    """Return the plan of an item's rendered video."""
    spans = render.locate_frames(runs.open_ledger(run_uri), [item_id]).get(item_id, ())
    return render.plan_render(begin(run_uri).staging, item_id, spans, look)


def render_item(run_uri: str, look: render.RenderStyle, *, item_id="clip") -> tuple[Path, render.RenderedVideo]:
    """Render an item in this process, the last piece first, and publish the video."""
    rendered = encode_item(run_uri, look, item_id=item_id)
    publish(run_uri, look)
    return Path(run_uri) / rendered.path, rendered


def encode_item(run_uri: str, look: render.RenderStyle, *, item_id="clip") -> render.RenderedVideo:
    """Render an item in this process, the last piece first, in the folder of the attempt."""
    plan = plan_for(run_uri, look, item_id=item_id)
    for pieces in reversed(plan.tasks()):
        render.encode_pieces(plan, pieces, heartbeat=lambda: None)
    return render.assemble(plan)


def publish(run_uri: str, look: render.RenderStyle | None = None) -> None:
    """Publish a run with its rendered videos, as `fsf render` does."""
    attempt = begin(run_uri)
    found = runs.open_ledger(run_uri)
    derived = render.derived_videos(found, look=look)
    runs.publish(attempt, found, runs.read_document(run_uri, "summary.json"), derived=derived)


def look(**changes) -> render.RenderStyle:
    """Return a style: masks alone, without a legend, unless changed."""
    plain = {"style": "mask", "legend": False, "clear_background": False, "names": NAMES, "palette": PALETTE}
    return render.RenderStyle(**{**plain, **changes})


def images_of(path, index=None):
    """Return every frame of a video, uint8 BGR."""
    index = index or index_video(path)
    return [frame.image_HWC for frame in decode_frames(path, index)]


def _commit(opened, source, index, chosen, item_id, segment, segments):
    """Commit one segment of the video as a part."""
    shape = (index.height_px, index.width_px)
    maps = {number: class_map(number, *shape) for number in chosen}
    rows = [
        {
            "item_id": item_id, "frame_index": number, "pts_s": index.time_s(number), "uri": str(source),
            "height_px": shape[0], "width_px": shape[1], "overlay": None, "item_sha256": None,
            "mask": {"bytes": masks.encode_png(maps[number], np.asarray(PALETTE, np.uint8)), "path": None},
            "run_id": opened.run_id, "bundle_sha256": hashlib.sha256(b"").hexdigest(),
        }
        for number in chosen
    ]  # fmt: skip
    stats = [
        {
            "item_id": item_id, "frame_index": number, "class_id": k, "class_name": name,
            "pixels": int((maps[number] == k).sum()), "ratio": float((maps[number] == k).mean()),
            "components": 1, "largest_component_px": 1, "mean_probability": None,
        }
        for number in chosen
        for k, name in enumerate(NAMES)
    ]  # fmt: skip
    unit = {
        "unit_key": unit_key(item_id, segment), "item_key": item_key(item_id), "item_id": item_id,
        "segment": segment, "segments": segments, "frames": len(chosen), "first_frame": chosen[0],
        "last_frame": chosen[-1], "failed": False,
    }  # fmt: skip
    tables = {
        "masks": conform(pa.Table.from_pylist(rows, schema=MASKS), MASKS),
        "class_stats": conform(pa.Table.from_pylist(stats, schema=CLASS_STATS), CLASS_STATS),
        "failures": FAILURES.empty_table(),
    }
    runs.commit(opened.staging, tables, pa.Table.from_pylist([unit], schema=UNITS))
