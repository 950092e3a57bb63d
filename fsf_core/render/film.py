"""A film: a video of a run with its masks drawn in, made in pieces that separate tasks encode, and its receipt.

    videos/<stem>.mp4          what is shown
    videos/<stem>.json         its receipt, written after it: sha256, frames, and what it was made from
    videos/.<digest>/NNNNN.mp4 pieces of a film that is being made; a piece is whole or not there

The digest stands for all that a film is made from. So a job that was killed goes on with the next piece, and a film of
frames that were scored anew since is made again.
"""

import contextlib
import hashlib
import json
import pickle
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import ids, masks, members, run, storage, video
from fsf_core.errors import DecodeError, FetchError, OutputError
from fsf_core.render.draw import Look, paint

FOLDER = "videos"
LAYOUT = 1
"""Another number makes every film anew."""
PIECE_FRAMES = 512
STALL_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Unit:
    """Where the masks of some frames of a video lie."""

    first: int
    last: int
    frames: int
    path: str
    """Of a masks table, inside the run."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive scored frames of a video, encoded by one task."""

    number: int
    frames: tuple[int, ...]
    """Numbers of the source's frames, ascending."""
    paths: tuple[str, ...]
    """Where in the run their masks lie."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """All that it takes to make a film; small enough to travel to every task."""

    run_uri: str
    item_id: str
    uri: str
    digest: str
    look: Look
    pieces: tuple[Piece, ...]
    index: bytes
    """Packed index of the source."""
    apart: bool
    """Whether pieces can be encoded apart; otherwise each would read the source from its start."""

    def shares(self) -> list[tuple[Piece, ...]]:
        """The pieces of each task."""
        return [(piece,) for piece in self.pieces] if self.apart else [self.pieces]

    def piece_uri(self, number: int) -> str:
        """Where a finished piece lies."""
        return storage.join(self.run_uri, FOLDER, f".{self.digest}", f"{number:05d}.mp4")


@dataclass(frozen=True, kw_only=True)
class Film:
    """The receipt of a film."""

    item_id: str
    path: str
    """Inside the run."""
    digest: str
    sha256: str
    bytes: int
    frames: int
    sound: str
    """none, copied, aac, or until where it could be read."""


def video_items(run_uri: str) -> list[str]:
    """Ids of the videos that have scored frames, in name order."""
    found: set[str] = set()
    for receipt in run.video_parts(run_uri):
        table = run.read_part(run_uri, receipt, "masks", ["item_id", "pts_s"])
        found.update(table.filter(pc.is_valid(table.column("pts_s"))).column("item_id").unique().to_pylist())
    return sorted(found)


def catalogue(run_uri: str, items: Collection[str]) -> dict[str, tuple[Unit, ...]]:
    """Where the frames of these videos lie, in order; nothing of those that have none. Reads every receipt once."""
    wanted = pa.array(sorted(items), pa.string())
    found: dict[str, list[Unit]] = {}
    for receipt in run.receipts(run_uri) if items else ():
        inside = pc.and_(
            pc.is_in(receipt.units.column("item_id"), wanted), pc.greater(receipt.units.column("frames"), 0)
        )
        path = str(receipt.files.get("masks", {}).get("path"))
        for row in receipt.units.filter(inside).to_pylist():
            unit = Unit(first=row["first_frame"], last=row["last_frame"], frames=row["frames"], path=path)
            found.setdefault(row["item_id"], []).append(unit)
    return {item: tuple(sorted(units)) for item, units in found.items()}


def order(run_uri: str, item_id: str, units: Sequence[Unit], look: Look, *, source: str | None = None) -> Order:
    """Read a source's packets and say what is to be drawn on which frame.

    Args:
        run_uri: a run without units that are in two parts.
        item_id: the video.
        units: of the video, of `catalogue`.
        look: how it is drawn.
        source: the video's address, where the tables do not hold it whole.

    Raises:
        OutputError: the run has no frames of this video.
        FetchError, DecodeError: the source is no longer there, or not what it was.
    """
    if not units:
        raise OutputError(f"the run has no frames of {item_id!r}; see its failures with `fsf inspect`")
    first, last = units[0].first, max(unit.last for unit in units)
    lying = dict.fromkeys(unit.path for unit in units)
    uri, scored = "", list[int]()
    for row in run.read_frames(run_uri, lying, item_id=item_id, first=first, last=last, columns=["uri"]):
        uri = row["uri"]
        scored.append(row["frame_index"])
    scored.sort()
    if source is not None and storage.redact(source) == uri:
        uri = source
    elif storage.is_redacted(uri):
        raise FetchError(
            f"{uri} hides a password or a signature, which no table of a run holds; name the list that has the whole "
            "address with --manifest"
        )
    with members.open_item(uri) as file:
        index = video.index_video(_source(file, uri))
    if scored[-1] >= index.frames:
        raise DecodeError(f"{storage.redact(uri)} has {index.frames} frames, scored was {scored[-1]}; was it replaced?")
    pieces: list[Piece] = []
    for start in range(0, len(scored), PIECE_FRAMES):
        chosen = tuple(scored[start : start + PIECE_FRAMES])
        within = [unit for unit in units if unit.first <= chosen[-1] and unit.last >= chosen[0]]
        paths = tuple(dict.fromkeys(unit.path for unit in within))
        pieces.append(Piece(number=len(pieces), frames=chosen, paths=paths))
    return Order(
        run_uri=run_uri,
        item_id=item_id,
        uri=uri,
        digest=digest(run.read_json(run_uri, "run.json")["run_id"], item_id, units, look),
        look=look,
        pieces=tuple(pieces),
        index=zlib.compress(pickle.dumps(index), 1),
        apart=index.seekable,
    )


def digest(run_id: str, item_id: str, units: Sequence[Unit], look: Look) -> str:
    """What stands for all that a film is made from."""
    held = [(unit.first, unit.last, unit.frames) for unit in units]
    facts = [LAYOUT, run_id, item_id, held, _look_to_json(look)]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def encode_pieces(wanted: Order, pieces: Sequence[Piece], *, tick: Callable[[], None]) -> None:
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
    span = video.Segment(number=0, total=1, first_frame=first, last_frame=stop)
    with members.open_item(wanted.uri) as file:
        frames = _until_broken(video.decode_frames(_source(file, wanted.uri), index, span, stall_s=STALL_S))
        for piece in missing:
            storage.write_bytes(wanted.piece_uri(piece.number), _encoded(wanted, piece, index, frames, tick))


def _until_broken(frames: Iterator[video.VideoFrame]) -> Iterator[video.VideoFrame]:
    """Frames that are lost were not scored either, so nobody misses them here."""
    with contextlib.suppress(video.BrokenVideoError):
        yield from frames


def _encoded(
    wanted: Order,
    piece: Piece,
    index: video.VideoIndex,
    frames: Iterator[video.VideoFrame],
    tick: Callable[[], None],
) -> bytes:
    """One piece as a file; takes as many frames as it needs."""
    first, last = piece.frames[0], piece.frames[-1]
    rows = run.read_frames(
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


def assemble(wanted: Order) -> Film:
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
    stem = ids.file_stem(wanted.item_id)
    with tempfile.TemporaryDirectory(prefix="fsf-film-") as folder, members.open_item(wanted.uri) as file:
        made = Path(folder) / "film.mp4"
        source = _source(file, wanted.uri)
        joined = video.join(openers, times, source, made, end=end, zero_s=index.time_s(frames[0]))
        with made.open("rb") as finished:
            sha256 = hashlib.file_digest(finished, "sha256").hexdigest()
        path = f"{FOLDER}/{stem}.mp4"
        film = Film(
            item_id=wanted.item_id,
            path=path,
            digest=wanted.digest,
            sha256=sha256,
            bytes=made.stat().st_size,
            frames=len(frames),
            sound=joined.sound,
        )
        storage.remove(_receipt_uri(wanted.run_uri, wanted.item_id))  # no receipt ever describes other bytes
        storage.write_file(storage.join(wanted.run_uri, path), made)
    text = json.dumps(_receipt_to_json(film, wanted.look), indent=2, ensure_ascii=False)
    storage.write_bytes(_receipt_uri(wanted.run_uri, wanted.item_id), f"{text}\n".encode(), durable=True)
    storage.remove_folder(storage.join(wanted.run_uri, FOLDER, f".{wanted.digest}"))
    return film


def films(run_uri: str) -> Iterator[tuple[Film, Look]]:
    """The receipts of all films in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    folder = storage.join(run_uri, FOLDER)
    for entry in storage.list_files(folder) if storage.exists(folder) else ():
        if entry.relative.endswith(".json"):
            yield _read_receipt(entry.uri)


def listed(run_uri: str) -> list[dict[str, Any]]:
    """All films as the run's list of files names them."""
    return [
        {
            "part": None,
            "table": FOLDER,
            "path": film.path,
            "rows": film.frames,
            "bytes": film.bytes,
            "sha256": film.sha256,
        }
        for film, _ in films(run_uri)
    ]


def right(run_uri: str, *, look: Look | None = None) -> list[Film]:
    """The films that show the frames that the run has now, and the look that is asked for, where one is."""
    every = [(film, drawn) for film, drawn in films(run_uri) if look is None or drawn == look]
    if not every:
        return []
    run_id = run.read_json(run_uri, "run.json")["run_id"]
    units = catalogue(run_uri, {film.item_id for film, _ in every})
    return [
        film for film, drawn in every if film.digest == digest(run_id, film.item_id, units.get(film.item_id, ()), drawn)
    ]


def settle(run_uri: str) -> int:
    """Delete films that were made of other frames than the run has now, and what no receipt lists; returns how many."""
    known: set[str] = set()
    stale = 0
    for film in right(run_uri):
        known |= {film.path, f"{FOLDER}/{ids.file_stem(film.item_id)}.json"}
    folder = storage.join(run_uri, FOLDER)
    for entry in list(storage.list_files(folder, hidden=True)) if storage.exists(folder) else ():
        if f"{FOLDER}/{entry.relative}" not in known:
            storage.remove(entry.uri)
            stale += 1
    return stale


def verify(run_uri: str) -> list[str]:
    """Check every film against its receipt, and against what the run holds now; returns what is wrong, in words."""
    wrong: list[str] = []
    known: set[str] = set()
    fresh = {film.item_id for film in right(run_uri)}
    for film, _ in films(run_uri):
        known |= {film.path, f"{FOLDER}/{ids.file_stem(film.item_id)}.json"}
        wrong += _wrong_with(run_uri, film)
        if film.item_id not in fresh:
            wrong.append(f"stale: {film.path} was made of other frames than the run has now; run `fsf render` again")
    folder = storage.join(run_uri, FOLDER)
    found = storage.list_files(folder) if storage.exists(folder) else ()
    return wrong + [
        f"orphan: {FOLDER}/{entry.relative} has no receipt; it is not part of the run"
        for entry in found
        if f"{FOLDER}/{entry.relative}" not in known
    ]


def _wrong_with(run_uri: str, film: Film) -> list[str]:
    try:
        with storage.open_binary(storage.join(run_uri, film.path)) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # an open file has readinto
    except FetchError:
        return [f"missing: {film.path} has a receipt and is not there"]
    return [] if sha256 == film.sha256 else [f"torn: {film.path} differs from its receipt"]


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


def _source(file: Any, uri: str) -> video.Source:
    return str(storage.local_path(uri)) if storage.is_local(uri) else file


def _receipt_uri(run_uri: str, item_id: str) -> str:
    return storage.join(run_uri, FOLDER, f"{ids.file_stem(item_id)}.json")


def _look_to_json(look: Look) -> dict[str, Any]:
    """Return what a receipt holds of a look, and what its digest is made of: neither keys nor order may change."""
    return {
        "style": look.style,
        "legend": look.legend,
        "clear_background": look.clear_background,
        "names": look.names,
        "palette": look.palette,
    }


def _receipt_to_json(film: Film, look: Look) -> dict[str, Any]:
    """Return the receipt of a film. The keys are names on disk: they stay, whatever the fields are called."""
    return {
        "item_id": film.item_id,
        "path": film.path,
        "digest": film.digest,
        "sha256": film.sha256,
        "bytes": film.bytes,
        "frames": film.frames,
        "sound": film.sound,
        "look": _look_to_json(look),
    }


def _receipt_from_json(facts: Mapping[str, Any]) -> tuple[Film, Look]:
    film = Film(
        item_id=facts["item_id"],
        path=facts["path"],
        digest=facts["digest"],
        sha256=facts["sha256"],
        bytes=facts["bytes"],
        frames=facts["frames"],
        sound=facts["sound"],
    )
    drawn = facts["look"]
    look = Look(
        style=drawn["style"],
        legend=drawn["legend"],
        clear_background=drawn["clear_background"],
        names=tuple(drawn["names"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in drawn["palette"]),
    )
    return film, look


def _read_receipt(uri: str) -> tuple[Film, Look]:
    try:
        return _receipt_from_json(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError, KeyError) as error:
        raise OutputError(f"{storage.redact(uri)} is not the receipt of a film: {error}; delete it") from error
