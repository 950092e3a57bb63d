"""The scored frames of a finished run: in chunks that can be done again by themselves, and row by row.

Knows the committed parts. Knows no other program's form.
"""

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs, storage
from fsf_core.errors import LimitError, OutputError
from fsf_core.publish.choice import SHOWN, Choice
from fsf_core.publish.names import Names
from fsf_core.schema import MASKS, is_own

log = logging.getLogger("fsf")

CHUNK_FRAMES = 512
"""Parts are joined up to this many frames; it is the most that a resumed command repeats, but for larger parts."""

REGIONS = "regions"
"""Table of regions, in runs that list them."""

BATCH_ROWS = 64
"""Rows of masks that become Python objects at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One row of masks."""

    item_id: str
    frame_index: int
    pts_s: float | None
    """Time of the frame of a video; None for an image and for a page."""
    uri: str
    height_px: int
    width_px: int
    png: bytes
    """The class map."""
    item_sha256: str | None
    item_version: str | None
    path: str
    """Path of its files below a folder, without suffix."""
    others: Mapping[str, Any]
    """Further columns of masks, and those that the manifest passed through."""
    probabilities: Mapping[tuple[int, ...], float]
    """Mean probability of each region that the run lists, by class, pixels, left, top, width and height."""

    of_pages: bool
    """Whether the item is a TIFF of which several pages were scored."""

    @property
    def is_image(self) -> bool:
        """Whether it is an image file of its own, and neither a frame of a video nor a page."""
        return self.pts_s is None and not self.of_pages


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive parts of a run."""

    number: int
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What of a run is published, in which order."""

    ledger: runs.Ledger
    chunks: tuple[Chunk, ...]
    names: Names
    paged: frozenset[str]
    """Items of which several frames were scored, in a run of all pages; see `runs.paged_items`."""
    failed_items: int
    """Items of the choice that have a failure, and so no mask or not all."""


def plan_frames(run_uri: str, choice: Choice) -> Plan:
    """Read the receipts of a run, and join its parts to chunks.

    Raises:
        ConfigError: the choice names an item or a frame that the run does not know.
        OutputError: a part is lost.
    """
    ledger = runs.open_ledger(run_uri)
    held: list[list[str]] = []
    frames, failed, segmented = CHUNK_FRAMES, set[str](), set[str]()
    ids: list[str] = []
    for receipt in ledger.receipts():
        units = receipt.units
        chosen = units.filter(choice.holds_items(units.column("item_id")))
        failed.update(chosen.filter(chosen.column("failed")).column("item_id").to_pylist())
        # A video that failed as a whole may have segments that were committed before.
        whole = pc.and_not(pc.equal(units.column("segments"), 1), units.column("failed"))
        ids += units.filter(whole).column("item_id").to_pylist()
        segmented.update(units.filter(pc.invert(whole)).column("item_id").to_pylist())
        scored = pc.sum(chosen.column("frames")).as_py() or 0
        if not scored:
            continue
        if frames + scored > CHUNK_FRAMES:
            held.append([])
            frames = 0
        held[-1].append(receipt.part)
        frames += scored
    ids += sorted(segmented)
    choice.require_known(ids)
    if choice.names_frames:
        choice.require_frames(_held_frames(ledger, itertools.chain(*held), choice), failed=failed)
    if choice.frames is not None and failed:
        shown = sorted(failed)[:SHOWN]
        log.warning("event=chosen_items_failed items=%d of=%d first=%r", len(failed), len(choice.frames), shown)
    chunks = (Chunk(number=number, parts=tuple(parts)) for number, parts in enumerate(held))
    return Plan(
        ledger=ledger, chunks=tuple(chunks), names=Names(ids), paged=runs.paged_items(run_uri), failed_items=len(failed)
    )


def _held_frames(ledger: runs.Ledger, parts: Iterable[str], choice: Choice) -> set[tuple[str, int]]:
    """Return id and index of the chosen frames that some parts have."""
    found: set[tuple[str, int]] = set()
    for receipt in ledger.receipts([*parts]):
        rows = runs.read_part(ledger.uri, receipt, "masks", ["item_id", "frame_index"])
        rows = rows.filter(choice.holds_frames(rows))
        found.update(zip(rows.column("item_id").to_pylist(), rows.column("frame_index").to_pylist(), strict=True))
    return found


def read_frames(plan: Plan, chunk: Chunk, choice: Choice, *, passed: Sequence[str] = ()) -> Iterator[Frame]:
    """Yield the chosen frames of a chunk, after comparing the bytes of each part with its receipt.

    Args:
        plan: of the run.
        chunk: one of its chunks.
        choice: which frames.
        passed: further columns to read, as `Frame.others`.

    Raises:
        DamagedPartError: a file is missing, or differs from its receipt.
        OutputError: a mask is no PNG.
    """
    for receipt in plan.ledger.receipts(chunk.parts):
        masks = runs.read_part(plan.ledger.uri, receipt, "masks", checked=True)
        masks = masks.filter(choice.holds_frames(masks))
        probabilities = _probabilities(plan.ledger.uri, receipt)
        for batch in masks.to_batches(BATCH_ROWS):
            for row in batch.to_pylist():
                named = {name: row[name] for name in _COLUMNS}
                of_pages = row["pts_s"] is None and row["item_id"] in plan.paged
                image = row["pts_s"] is None and not of_pages
                path = plan.names.frame(row["item_id"], None if image else row["frame_index"])
                others = {name: row[name] for name in passed}
                yield Frame(
                    **named,
                    png=_png_of(row),
                    path=path,
                    of_pages=of_pages,
                    others=others,
                    probabilities=probabilities.get((row["item_id"], row["frame_index"]), {}),
                )


def _png_of(row: Mapping[str, Any]) -> bytes:
    """Return the PNG of a row of masks.

    Raises:
        OutputError: it has none.
    """
    try:
        return runs.png_of(row["mask"])
    except LimitError as error:
        raise OutputError(f"item {row['item_id']!r}: {error}, and publish the other items alone") from error


def _probabilities(run_uri: str, receipt: runs.Receipt) -> dict[tuple[str, int], dict[tuple[int, ...], float]]:
    """Return the mean probability of the regions that a part lists, frame by frame."""
    found: dict[tuple[str, int], dict[tuple[int, ...], float]] = defaultdict(dict)
    if REGIONS not in receipt.files:
        return found
    names = ("class_id", "pixels", "left_px", "top_px", "width_px", "height_px")
    table = runs.read_part(run_uri, receipt, REGIONS, ["item_id", "frame_index", *names, "mean_probability"])
    for item_id, frame_index, *key, probability in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if probability is not None:
            found[item_id, frame_index][tuple(key)] = probability
    return found


def common_folder(plan: Plan) -> str:
    """Return the folder that holds all images of a run, or nothing where some are parts of other files or elsewhere."""
    common: list[str] | None = None
    for receipt in plan.ledger.receipts():
        if "masks" not in receipt.files:
            continue
        masks = runs.read_part(plan.ledger.uri, receipt, "masks", ["uri", "pts_s"])
        for uri in pc.unique(masks.filter(pc.is_null(masks.column("pts_s"))).column("uri")).to_pylist():
            if storage.container_of(uri) != uri or storage.without_query(uri) != uri:
                return ""
            above = storage.parent(uri).split("/")
            common = above if common is None else [a for a, b in _while_same(common, above)]
    folder = "/".join(common or ())
    return "" if folder.endswith(":/") else folder  # of two buckets, or two hosts


def _while_same(one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, str]]:
    return itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))


def redacted_items(plan: Plan) -> set[str]:
    """Return the items whose URIs lack a credential that they had."""
    found = set()
    for receipt in plan.ledger.receipts():
        if "masks" in receipt.files:
            rows = runs.read_part(plan.ledger.uri, receipt, "masks", ["item_id", "uri"])
            pairs = zip(rows.column("item_id").to_pylist(), rows.column("uri").to_pylist(), strict=True)
            found |= {item_id for item_id, uri in pairs if storage.is_redacted(uri)}
    return found


def needs_copies(plan: Plan, choice: Choice) -> bool:
    """Return whether a chosen frame has no file of its own that anyone can open.

    That is a frame of a video, a page of a TIFF, a member of an archive, or a file whose address lacks its password or
    signature.
    """
    for chunk in plan.chunks:
        for receipt in plan.ledger.receipts(chunk.parts):
            rows = runs.read_part(plan.ledger.uri, receipt, "masks", ["item_id", "frame_index", "pts_s", "uri"])
            chosen = rows.filter(choice.holds_frames(rows))
            if not plan.paged.isdisjoint(chosen.column("item_id").to_pylist()):
                return True
            if chosen.column("pts_s").null_count < chosen.num_rows:
                return True
            if any(storage.container_of(uri) != uri or storage.is_redacted(uri) for uri in chosen["uri"].to_pylist()):
                return True
    return False


def columns_of(plan: Plan) -> pa.Schema:
    """Return the columns of masks of a run: those of this version, then those that its manifest passed through."""
    for receipt in plan.ledger.receipts():
        if "masks" in receipt.files:
            return runs.read_part(plan.ledger.uri, receipt, "masks").schema
    return MASKS


def passed_columns(schema: pa.Schema) -> pa.Schema:
    """Return the columns that the manifest passed through."""
    return pa.schema([field for field in schema if not is_own(field)])


_COLUMNS = (
    "item_id", "frame_index", "pts_s", "uri", "height_px", "width_px", "item_sha256", "item_version",
)  # fmt: skip
