"""Rendered videos of a finished run: the source with its masks drawn in, as MP4 that browsers play.

`draw` paints one frame, `film` cuts a video into pieces, encodes and joins them, and keeps the books of RUN/videos.
Knows no Ray and no model: the pieces may be made anywhere.
"""

from fsf_core.render.draw import Look, Style
from fsf_core.render.pieces import assemble, encode_pieces
from fsf_core.render.plan import Order, Piece, Unit, catalogue, order, video_items
from fsf_core.render.receipts import Film, films, listed
from fsf_core.render.reconcile import right, settle, verify

__all__ = [
    "Film",
    "Look",
    "Order",
    "Piece",
    "Style",
    "Unit",
    "assemble",
    "catalogue",
    "encode_pieces",
    "films",
    "listed",
    "order",
    "right",
    "settle",
    "verify",
    "video_items",
]
