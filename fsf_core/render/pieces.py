"""Pieces of a rendered video, encoded by separate tasks, then joined.

In the folder of the attempt, until the run is published:

    videos/<stem>.mp4         the rendered video
    videos/<stem>.json        its receipt, written after it: sha256, frames, and what it was made from
    videos/<digest>/NNNNN.mp4 pieces of a video in progress; a piece is complete or does not exist

The digest covers all that a video is made from. So a job that was killed continues with the next piece, and a video is
made again when its frames were scored again.
"""

import contextlib
import json
import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from fsf_core import masks, runs, storage
from fsf_core.errors import DecodeError
from fsf_core.keys import file_stem
from fsf_core.manifest import members
from fsf_core.media import video
from fsf_core.render.draw import paint
from fsf_core.render.plan import Piece, RenderPlan
from fsf_core.render.receipts import FOLDER, RenderedVideo, receipt_path, receipt_to_json


def encode_pieces(plan: RenderPlan, pieces: Sequence[Piece], *, heartbeat: Callable[[], None]) -> None:
    """Decode, draw and encode consecutive pieces, except those that exist already.

    Args:
        plan: of the rendered video.
        pieces: one piece, or all pieces of a source that can only be decoded from its start.
        heartbeat: called before every frame.

    Raises:
        FetchError, DecodeError: the source is missing, or is not the one that was scored.
        OutputError: masks are missing.
    """
    missing = [piece for piece in pieces if plan.find_piece(piece.number) is None]
    if not missing:
        return
    index: video.VideoIndex = pickle.loads(zlib.decompress(plan.index))  # noqa: S301 - from plan_render
    first, stop = missing[0].frames[0], missing[-1].frames[-1] + 1
    with members.open_item(plan.uri, plan.access) as file:
        frames = _until_damage(video.decode_frames(storage.path_or_file(plan.uri, file), index, range(first, stop)))
        for piece in missing:
            plan.staging.write(plan.piece_path(piece.number), _encode_piece(plan, piece, index, frames, heartbeat))


def _until_damage(frames: Iterator[video.VideoFrame]) -> Iterator[video.VideoFrame]:
    """Yield frames without raising the loss at the end: frames that are lost were not scored either."""
    with contextlib.suppress(video.BrokenVideoError):
        yield from frames


def _encode_piece(
    plan: RenderPlan,
    piece: Piece,
    index: video.VideoIndex,
    frames: Iterator[video.VideoFrame],
    heartbeat: Callable[[], None],
) -> bytes:
    """Encode one piece as an MP4 file, taking frames up to its last one.

    Raises:
        DecodeError: a scored frame is missing in the source.
    """
    first, last = piece.frames[0], piece.frames[-1]
    rows = runs.read_frames(
        plan.staging.run_uri, piece.paths, item_id=plan.item_id, first=first, last=last, columns=["mask.bytes"]
    )
    pngs = {row["frame_index"]: row["mask"]["bytes"] for row in rows}
    clock = _Clock(index, plan)
    times = clock.ticks(piece.frames)
    with video.SegmentWriter(
        height_px=index.height_px,
        width_px=index.width_px,
        ticks_per_s=clock.ticks_per_s,
        pixel_aspect=index.pixel_aspect,
    ) as writer:
        drawn = 0
        for frame in frames:
            heartbeat()
            if frame.frame_index in pngs:
                class_map_HW = masks.decode_png(pngs[frame.frame_index])
                writer.add(paint(frame.image_HWC, class_map_HW, plan.look), times[drawn])
                drawn += 1
            if frame.frame_index >= last:
                break
        if drawn != len(piece.frames):
            raise DecodeError(
                f"found {drawn} of {len(piece.frames)} scored frames in {storage.redact(plan.uri)}; was it replaced?"
            )
        return writer.finish()


def assemble(plan: RenderPlan) -> RenderedVideo:
    """Join the pieces with the source's sound, write video and receipt, and delete the pieces.

    Raises:
        FetchError, DecodeError: the source is missing.
        StorageError: the run folder cannot be written.
    """
    index: video.VideoIndex = pickle.loads(zlib.decompress(plan.index))  # noqa: S301 - from plan_render
    frames = [number for piece in plan.pieces for number in piece.frames]
    clock = _Clock(index, plan)
    times, end = clock.ticks(frames), clock.end
    openers = [partial(_open_piece, plan, piece.number) for piece in plan.pieces]
    stem = file_stem(plan.item_id)
    with tempfile.TemporaryDirectory(prefix="fsf-render-") as folder, members.open_item(plan.uri, plan.access) as file:
        local_path = Path(folder) / "rendered.mp4"
        source = storage.path_or_file(plan.uri, file)
        joined = video.concatenate(openers, times, source, local_path, end=end, zero_s=index.time_s(frames[0]))
        with local_path.open("rb") as finished:
            sha256 = storage.file_sha256(finished)
        path = f"{FOLDER}/{stem}.mp4"
        rendered = RenderedVideo(
            item_id=plan.item_id,
            path=path,
            digest=plan.digest,
            sha256=sha256,
            bytes=local_path.stat().st_size,
            frames=len(frames),
            sound=joined.sound,
        )
        # No receipt ever describes other bytes.
        storage.remove(plan.staging.uri(receipt_path(plan.item_id)))
        storage.write_file(plan.staging.uri(path), local_path, root=plan.staging.folder)
    text = json.dumps(receipt_to_json(rendered, plan.look), indent=2, ensure_ascii=False)
    plan.staging.write(receipt_path(plan.item_id), f"{text}\n".encode())
    storage.remove_folder(plan.staging.uri(f"{FOLDER}/{plan.digest}"))
    return rendered


def _open_piece(plan: RenderPlan, number: int) -> AbstractContextManager[BinaryIO]:
    """Open a finished piece.

    Raises:
        FetchError: it is not there any more.
    """
    return storage.open_binary(plan.find_piece(number) or plan.staging.uri(plan.piece_path(number)))


class _Clock:
    """The times of a rendered video: those of the source's running clock, from the first scored frame on.

    Attributes:
        ticks_per_s: time scale of the rendered video.
        end: tick at which the last frame leaves the screen: when the source's next frame is shown.
    """

    def __init__(self, index: video.VideoIndex, plan: RenderPlan) -> None:
        scored = [number for piece in plan.pieces for number in piece.frames]
        self._clock = index.clock()
        following = scored[-1] + 1
        until = int(self._clock[following]) if following < index.frames else index.end
        shown = [*self._clock[scored].tolist(), until]
        longest_s = max(later - earlier for earlier, later in pairwise(shown)) * index.time_base
        self.ticks_per_s = video.timescale(index.time_base, longest_s)
        self._factor = index.time_base * self.ticks_per_s
        self.end = max(1, round((until - shown[0]) * self._factor))

    def ticks(self, frames: Sequence[int]) -> list[int]:
        """Return the ticks of frames, strictly ascending from 0 for the first."""
        times = [
            round((tick - int(self._clock[frames[0]])) * self._factor) for tick in self._clock[list(frames)].tolist()
        ]
        for at in range(1, len(times)):
            times[at] = max(times[at], times[at - 1] + 1)
        return times
