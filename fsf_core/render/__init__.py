"""Rendered videos of a finished run: the source with its masks drawn in, as MP4 that browsers play.

`draw` draws one frame, `plan` decides which frames go into which piece, `pieces` encodes and joins them, `receipts`
records what was made, `reconcile` finds what no longer matches the run. Knows no Ray and no model.
"""

from fsf_core.render.draw import RenderStyle
from fsf_core.render.pieces import assemble, encode_pieces
from fsf_core.render.plan import Piece, RenderPlan, ScoredSpan, locate_frames, plan_render, video_item_ids
from fsf_core.render.receipts import FoundVideo, RenderedVideo
from fsf_core.render.reconcile import derived_videos, sound_videos, up_to_date, verify

__all__ = [
    "FoundVideo",
    "Piece",
    "RenderPlan",
    "RenderStyle",
    "RenderedVideo",
    "ScoredSpan",
    "assemble",
    "derived_videos",
    "encode_pieces",
    "locate_frames",
    "plan_render",
    "sound_videos",
    "up_to_date",
    "verify",
    "video_item_ids",
]
