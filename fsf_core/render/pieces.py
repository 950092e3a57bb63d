"""A film: a video of a run with its masks drawn in, made in pieces that separate tasks encode, and its receipt.

    videos/<stem>.mp4          what is shown
    videos/<stem>.json         its receipt, written after it: sha256, frames, and what it was made from
    videos/.<digest>/NNNNN.mp4 pieces of a film that is being made; a piece is whole or not there

The digest stands for all that a film is made from. So a job that was killed goes on with the next piece, and a film of
frames that were scored anew since is made again.
"""

import contextlib
import json
import pickle
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from fsf_core import masks, runs, storage
from fsf_core.errors import DecodeError
from fsf_core.keys import file_stem
from fsf_core.manifest import members
from fsf_core.media import video
from fsf_core.render.draw import paint
from fsf_core.render.plan import Piece, RenderPlan
from fsf_core.render.receipts import FOLDER, RenderedVideo, receipt_to_json, receipt_uri


def encode_pieces(wanted: RenderPlan, pieces: Sequence[Piece], *, tick: Callable[[], None]) -> None:
    """Decode, draw and encode consecutive pieces, each unless it is there.

    Args:
        wanted: the film.
        pieces: of it; one alone, or all of a source that can be read from its start only.
        tick: called before every frame, so that a caller sees that it goes on.

    Raises:
        FetchError, DecodeError: the source is no longer there, or not what it was.
        OutputError: masks are missing.
    """
    missing = [piece for piece in pieces if not storage.exists(wanted.piece_uri(piece.number))]
    if not missing:
        return
    index: video.VideoIndex = pickle.loads(zlib.decompress(wanted.index))  # noqa: S301 - of this job
    first, stop = missing[0].frames[0], missing[-1].frames[-1] + 1
    with members.open_item(wanted.uri) as file:
        frames = _until_broken(video.decode_frames(storage.path_or_file(wanted.uri, file), index, range(first, stop)))
        for piece in missing:
            storage.write_bytes(wanted.piece_uri(piece.number), _encoded(wanted, piece, index, frames, tick))


def _until_broken(frames: Iterator[video.VideoFrame]) -> Iterator[video.VideoFrame]:
    """Frames that are lost were not scored either, so nobody misses them here."""
    with contextlib.suppress(video.BrokenVideoError):
        yield from frames


def _encoded(
    wanted: RenderPlan,
    piece: Piece,
    index: video.VideoIndex,
    frames: Iterator[video.VideoFrame],
    tick: Callable[[], None],
) -> bytes:
    """One piece as a file; takes as many frames as it needs."""
    first, last = piece.frames[0], piece.frames[-1]
    rows = runs.read_frames(
        wanted.run_uri, piece.paths, item_id=wanted.item_id, first=first, last=last, columns=["mask.bytes"]
    )
    pngs = {row["frame_index"]: row["mask"]["bytes"] for row in rows}
    times = _times(index, piece.frames)
    size = {"height_px": index.height_px, "width_px": index.width_px}
    with video.SegmentWriter(**size, ticks_per_s=video.timescale(index.time_base)) as writer:
        drawn = 0
        for frame in frames:
            tick()
            if frame.frame_index in pngs:
                class_map_HW = masks.decode_png(pngs[frame.frame_index])
                writer.add(paint(frame.image_HWC, class_map_HW, wanted.look), times[drawn])
                drawn += 1
            if frame.frame_index >= last:
                break
        if drawn != len(piece.frames):
            raise DecodeError(f"drew {drawn} of {len(piece.frames)} frames; was {storage.redact(wanted.uri)} replaced?")
        return writer.finish()


def assemble(wanted: RenderPlan) -> RenderedVideo:
    """Join the pieces and the sound, and write the receipt; the pieces are deleted.

    Raises:
        FetchError, DecodeError: the source is no longer there.
        StorageError: the run folder cannot be written.
    """
    index: video.VideoIndex = pickle.loads(zlib.decompress(wanted.index))  # noqa: S301 - of this job
    frames = [number for piece in wanted.pieces for number in piece.frames]
    times = _times(index, frames)
    end = _end(index, frames)
    openers = [partial(storage.open_binary, wanted.piece_uri(piece.number)) for piece in wanted.pieces]
    stem = file_stem(wanted.item_id)
    with tempfile.TemporaryDirectory(prefix="fsf-film-") as folder, members.open_item(wanted.uri) as file:
        made = Path(folder) / "film.mp4"
        source = storage.path_or_file(wanted.uri, file)
        joined = video.concatenate(openers, times, source, made, end=end, zero_s=index.time_s(frames[0]))
        with made.open("rb") as finished:
            sha256 = storage.sha256_of(finished)
        path = f"{FOLDER}/{stem}.mp4"
        film = RenderedVideo(
            item_id=wanted.item_id,
            path=path,
            digest=wanted.digest,
            sha256=sha256,
            bytes=made.stat().st_size,
            frames=len(frames),
            sound=joined.sound,
        )
        storage.remove(receipt_uri(wanted.run_uri, wanted.item_id))  # no receipt ever describes other bytes
        storage.write_file(storage.join(wanted.run_uri, path), made)
    text = json.dumps(receipt_to_json(film, wanted.look), indent=2, ensure_ascii=False)
    storage.write_bytes(receipt_uri(wanted.run_uri, wanted.item_id), f"{text}\n".encode(), durable=True)
    storage.remove_folder(storage.join(wanted.run_uri, FOLDER, f".{wanted.digest}"))
    return film


def _times(index: video.VideoIndex, frames: Sequence[int]) -> list[int]:
    """The film's tick of every frame, counted from the first of them; no two have the same."""
    factor = index.time_base * video.timescale(index.time_base)
    first = int(index.pts[frames[0]])
    times = [round((int(index.pts[number]) - first) * factor) for number in frames]
    for at in range(1, len(times)):
        times[at] = max(times[at], times[at - 1] + 1)
    return times


def _end(index: video.VideoIndex, frames: Sequence[int]) -> int:
    """The tick at which the film's last frame leaves the screen: when the source's next frame comes."""
    following = frames[-1] + 1
    until = int(index.pts[following]) if following < index.frames else index.end
    return max(1, round((until - int(index.pts[frames[0]])) * index.time_base * video.timescale(index.time_base)))
