"""Rendered videos of a finished run: the source with its masks drawn in, as MP4 that browsers play.

`draw` paints one frame, `film` cuts a video into pieces, encodes and joins them, and keeps the books of RUN/videos.
Knows no Ray and no model: the pieces may be made anywhere.
"""

from fsf_core.render.draw import Look, Style
from fsf_core.render.film import (
    Film,
    Order,
    Piece,
    Unit,
    assemble,
    catalogue,
    encode_pieces,
    films,
    listed,
    order,
    right,
    settle,
    verify,
    video_items,
)

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
