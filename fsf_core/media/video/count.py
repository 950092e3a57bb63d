"""Counting the frames of a video by decoding it, where its packets cannot prove them. Costs a whole pass."""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.video.container import Source
from fsf_core.media.video.packet_decoder import DecodeLimits, PacketDecoder
from fsf_core.media.video.scan import NO_TIME, PacketScan

_HEARTBEAT_FRAMES = 32


def counted_order(
    source: Source,
    scan: PacketScan,
    *,
    stream_index: int,
    begin: int,
    seams: Collection[int],
    limits: DecodeLimits,
    heartbeat: Callable[[], None],
) -> NDArray[np.int64]:
    """Return the rank of every frame's packet, in the order in which the decoder returns the frames.

    A packet that fails and gives no frame keeps a number. A packet that gives none without a complaint holds no frame:
    pictures that are not coded, second fields, leading pictures.

    Args:
        source: the video.
        scan: its packets.
        stream_index: the stream that was scanned.
        begin: rank of the packet to begin with.
        seams: ranks of packets that the demuxer marks as corrupt though nothing need be missing.
        limits: of frames and time.
        heartbeat: called every few frames.
    """
    decoder = PacketDecoder(source, stream_index=stream_index, begin=begin, limits=limits, seams=seams)
    returned: list[int] = []
    damaged: list[int] = []
    leading: list[int] = []
    """What fails before the first frame: pictures whose references are not in the file, if any frame follows."""
    keyframes = frozenset(scan.keyframes)
    for rank, frame in decoder.frames():
        if frame is not None:
            returned.append(rank)
        else:
            (damaged if returned or rank in keyframes else leading).append(rank)
        if not (len(returned) + len(damaged) + len(leading)) % _HEARTBEAT_FRAMES:
            heartbeat()
    order = list(dict.fromkeys(returned))
    failed = {*damaged, *decoder.suspects} if order else {*damaged, *leading}
    missing = sorted(failed.difference(order).intersection(range(scan.packets)))
    return _with_missing(scan, np.asarray(order, np.int64), np.asarray(missing, np.int64))


def _with_missing(scan: PacketScan, order: NDArray[np.int64], missing: NDArray[np.int64]) -> NDArray[np.int64]:
    """Insert the ranks of packets that gave no frame, by their times, or by rank where the times are not in order."""
    pts = np.asarray(scan.pts, np.int64)
    in_order = bool((np.diff(pts[order]) > 0).all())
    keys = pts if in_order and not (pts[missing] == NO_TIME).any() else np.arange(len(pts))
    missing = missing[np.argsort(keys[missing], kind="stable")]
    return np.insert(order, np.searchsorted(np.maximum.accumulate(keys[order]), keys[missing]), missing)
