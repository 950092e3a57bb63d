"""What a rendered video is made from: which frames, which files hold their masks, and which piece each belongs to."""

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
from fsf_core.runs import Ledger
from fsf_core.runs.staging import Staging, earlier_folders

LAYOUT = 1
"""Part of the digest: raising it makes every rendered video stale."""

PIECE_FRAMES = 512
"""Frames per piece, and so per task."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ScoredSpan:
    """Scored frames of a video whose masks are in one file."""

    first: int
    """Number of the first frame."""
    last: int
    """Number of the last frame, inclusive."""
    frames: int
    """How many of them were scored."""
    path: str
    """Of the part of the masks table, relative to the run folder."""
    row_digest: str
    """Of the video's row in the manifest, hexadecimal; empty in runs of older versions."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive scored frames of a video, encoded by one task."""

    number: int
    frames: tuple[int, ...]
    """Frame numbers in the source, ascending."""
    paths: tuple[str, ...]
    """Parts of the masks table that hold their masks, relative to the run folder."""


@dataclass(frozen=True, kw_only=True)
class RenderPlan:
    """All that tasks need to make one rendered video; small enough to send to each of them."""

    staging: Staging
    """Where the attempt writes."""
    earlier: tuple[str, ...]
    """URIs of the folders of earlier attempts, which may hold pieces; in a store only."""
    item_id: str
    uri: str
    """Of the source."""
    access: storage.Access | None
    """Which addresses of sources may be opened; None for any."""
    digest: str
    """Of all that the video is made from."""
    look: RenderStyle
    pieces: tuple[Piece, ...]
    index: bytes
    """Pickled and compressed index of the source."""
    separable: bool
    """Whether pieces can be encoded by separate tasks; otherwise each would decode the source from its start."""

    def tasks(self) -> list[tuple[Piece, ...]]:
        """Return the pieces of each task."""
        return [(piece,) for piece in self.pieces] if self.separable else [self.pieces]

    def piece_path(self, number: int) -> str:
        """Return the path of a finished piece in the folder of an attempt."""
        return f"{FOLDER}/{self.digest}/{number:05d}.mp4"

    def find_piece(self, number: int) -> str | None:
        """Return the URI of a piece that this attempt or an earlier one has finished, or None."""
        folders = [self.staging.folder, *self.earlier]
        uris = [storage.join(folder, self.piece_path(number)) for folder in folders]
        return next((uri for uri in uris if storage.exists(uri)), None)


def video_item_ids(ledger: Ledger) -> list[str]:
    """Return the ids of the videos that have scored frames, sorted."""
    found: set[str] = set()
    for receipt in runs.video_parts(ledger):
        table = runs.read_part(ledger.uri, receipt, "masks", ["item_id", "pts_s"])
        found.update(table.filter(pc.is_valid(table.column("pts_s"))).column("item_id").unique().to_pylist())
    return sorted(found)


def locate_frames(ledger: Ledger, items: Collection[str]) -> dict[str, tuple[ScoredSpan, ...]]:
    """Return the spans of these videos by item id, in order; items without frames are left out.

    Reads every receipt once.
    """
    wanted = pa.array(sorted(items), pa.string())
    found: dict[str, list[ScoredSpan]] = {}
    for receipt in ledger.receipts() if items else ():
        inside = pc.and_(
            pc.is_in(receipt.units.column("item_id"), wanted), pc.greater(receipt.units.column("frames"), 0)
        )
        path = str(receipt.files.get("masks", {}).get("path"))
        for row in receipt.units.filter(inside).to_pylist():
            span = ScoredSpan(
                first=row["first_frame"],
                last=row["last_frame"],
                frames=row["frames"],
                path=path,
                row_digest=(row["row_digest"] or b"").hex(),
            )
            found.setdefault(row["item_id"], []).append(span)
    return {item: tuple(sorted(spans)) for item, spans in found.items()}


def plan_render(
    staging: Staging,
    item_id: str,
    spans: Sequence[ScoredSpan],
    look: RenderStyle,
    *,
    source: str | None = None,
    access: storage.Access | None = None,
) -> RenderPlan:
    """Index the source of a video and assign its scored frames to pieces.

    Args:
        staging: where the attempt writes; its run has no duplicate units.
        item_id: the video.
        spans: its spans, from locate_frames.
        look: how frames are drawn.
        source: the video's full URI, if the tables hold it without its credentials.
        access: which addresses of sources may be opened; None for any.

    Raises:
        OutputError: the run has no frames of this video.
        FetchError, DecodeError: the source is missing, or is not the one that was scored.
    """
    run_uri = staging.run_uri
    if not spans:
        raise OutputError(f"the run has no frames of {item_id!r}; see its failures with `fsf inspect`")
    first, last = spans[0].first, max(span.last for span in spans)
    paths = dict.fromkeys(span.path for span in spans)
    uri, scored = "", list[int]()
    for row in runs.read_frames(run_uri, paths, item_id=item_id, first=first, last=last, columns=["uri"]):
        uri = row["uri"]
        scored.append(row["frame_index"])
    scored.sort()
    uri = with_credentials(uri, source)
    with members.open_item(uri, access) as file:
        index = video.index_video(storage.path_or_file(uri, file))
    if scored[-1] >= index.frames:
        raise DecodeError(
            f"{storage.redact(uri)} has {index.frames} frames, but frame {scored[-1]} was scored; was it replaced?"
        )
    return RenderPlan(
        staging=staging,
        earlier=earlier_folders(staging),
        item_id=item_id,
        uri=uri,
        access=access,
        digest=digest(runs.read_document(run_uri, "run.json")["run_id"], item_id, spans, look),
        look=look,
        pieces=_pieces(scored, spans),
        index=zlib.compress(pickle.dumps(index), 1),
        separable=index.seekable,
    )


def with_credentials(uri: str, source: str | None) -> str:
    """Return the full URI of a source whose URI in the tables may lack its credentials.

    Raises:
        FetchError: it lacks them, and `source` is not its full URI.
    """
    if source is not None and storage.redact(source) == uri:
        return source
    if storage.is_redacted(uri):
        raise FetchError(
            f"{uri} lacks its password or signature, which a run does not store; pass the manifest that has the full "
            "URI with --manifest"
        )
    return uri


def _pieces(scored: Sequence[int], spans: Sequence[ScoredSpan]) -> tuple[Piece, ...]:
    """Cut ascending frame numbers into pieces of PIECE_FRAMES."""
    pieces: list[Piece] = []
    for start in range(0, len(scored), PIECE_FRAMES):
        frames = tuple(scored[start : start + PIECE_FRAMES])
        paths = dict.fromkeys(span.path for span in spans if span.first <= frames[-1] and span.last >= frames[0])
        pieces.append(Piece(number=len(pieces), frames=frames, paths=tuple(paths)))
    return tuple(pieces)


def digest(run_id: str, item_id: str, spans: Sequence[ScoredSpan], look: RenderStyle) -> str:
    """Return a digest of all that a rendered video is made from."""
    held = [(span.first, span.last, span.frames) for span in spans]
    rows = sorted({span.row_digest for span in spans} - {""})
    facts = [LAYOUT, run_id, item_id, held, look_to_json(look), *rows]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()
