"""What a rendered video is made from: which frames, where their masks lie, and how the work is cut."""

import hashlib
import json
import pickle
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.errors import DecodeError, FetchError, OutputError
from fsf_core.manifest import members
from fsf_core.media import video
from fsf_core.render.draw import RenderStyle
from fsf_core.render.receipts import FOLDER, look_to_json

LAYOUT = 1
"""Another number makes every film anew."""

PIECE_FRAMES = 512


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ScoredSpan:
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
class RenderPlan:
    """All that it takes to make a film; small enough to travel to every task."""

    run_uri: str
    item_id: str
    uri: str
    digest: str
    look: RenderStyle
    pieces: tuple[Piece, ...]
    index: bytes
    """Packed index of the source."""
    separable: bool
    """Whether pieces can be encoded apart; otherwise each would read the source from its start."""

    def shares(self) -> list[tuple[Piece, ...]]:
        """The pieces of each task."""
        return [(piece,) for piece in self.pieces] if self.separable else [self.pieces]

    def piece_uri(self, number: int) -> str:
        """Where a finished piece lies."""
        return storage.join(self.run_uri, FOLDER, f".{self.digest}", f"{number:05d}.mp4")


def video_item_ids(run_uri: str) -> list[str]:
    """Ids of the videos that have scored frames, in name order."""
    found: set[str] = set()
    for receipt in runs.video_parts(run_uri):
        table = runs.read_part(run_uri, receipt, "masks", ["item_id", "pts_s"])
        found.update(table.filter(pc.is_valid(table.column("pts_s"))).column("item_id").unique().to_pylist())
    return sorted(found)


def locate_frames(run_uri: str, items: Collection[str]) -> dict[str, tuple[ScoredSpan, ...]]:
    """Where the frames of these videos lie, in order; nothing of those that have none. Reads every receipt once."""
    wanted = pa.array(sorted(items), pa.string())
    found: dict[str, list[ScoredSpan]] = {}
    for receipt in runs.receipts(run_uri) if items else ():
        inside = pc.and_(
            pc.is_in(receipt.units.column("item_id"), wanted), pc.greater(receipt.units.column("frames"), 0)
        )
        path = str(receipt.files.get("masks", {}).get("path"))
        for row in receipt.units.filter(inside).to_pylist():
            unit = ScoredSpan(first=row["first_frame"], last=row["last_frame"], frames=row["frames"], path=path)
            found.setdefault(row["item_id"], []).append(unit)
    return {item: tuple(sorted(units)) for item, units in found.items()}


def plan_render(
    run_uri: str, item_id: str, units: Sequence[ScoredSpan], look: RenderStyle, *, source: str | None = None
) -> RenderPlan:
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
    for row in runs.read_frames(run_uri, lying, item_id=item_id, first=first, last=last, columns=["uri"]):
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
        index = video.index_video(storage.path_or_file(uri, file))
    if scored[-1] >= index.frames:
        raise DecodeError(f"{storage.redact(uri)} has {index.frames} frames, scored was {scored[-1]}; was it replaced?")
    pieces: list[Piece] = []
    for start in range(0, len(scored), PIECE_FRAMES):
        chosen = tuple(scored[start : start + PIECE_FRAMES])
        within = [unit for unit in units if unit.first <= chosen[-1] and unit.last >= chosen[0]]
        paths = tuple(dict.fromkeys(unit.path for unit in within))
        pieces.append(Piece(number=len(pieces), frames=chosen, paths=paths))
    return RenderPlan(
        run_uri=run_uri,
        item_id=item_id,
        uri=uri,
        digest=digest(runs.read_document(run_uri, "run.json")["run_id"], item_id, units, look),
        look=look,
        pieces=tuple(pieces),
        index=zlib.compress(pickle.dumps(index), 1),
        separable=index.seekable,
    )


def digest(run_id: str, item_id: str, units: Sequence[ScoredSpan], look: RenderStyle) -> str:
    """What stands for all that a film is made from."""
    held = [(unit.first, unit.last, unit.frames) for unit in units]
    facts = [LAYOUT, run_id, item_id, held, look_to_json(look)]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
