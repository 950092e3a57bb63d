"""From a request to a publication: what is asked for is checked before anything is written."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from fsf_core import __version__, runs, storage
from fsf_core.errors import ConfigError, OutputError
from fsf_core.manifest import Manifest, unredacted_uris
from fsf_core.media.video import EVERY_FRAME, Sampling
from fsf_core.options import PublishForm, Segmentation
from fsf_core.publish import delta
from fsf_core.publish.choice import Choice, read_choice
from fsf_core.publish.coco import CocoForm
from fsf_core.publish.cvat import CvatForm
from fsf_core.publish.form import Form, RunFacts
from fsf_core.publish.frames import (
    Frame,
    Plan,
    columns_of,
    common_folder,
    needs_copies,
    passed_columns,
    plan_frames,
    redacted_items,
)
from fsf_core.publish.hugging_face import HuggingFaceForm
from fsf_core.publish.label_studio import LabelStudioForm
from fsf_core.publish.png import PngForm
from fsf_core.publish.publication import Publication, run_publication
from fsf_core.publish.sources import Sources
from fsf_core.publish.target import require_target
from fsf_core.runs.folder import tables_of
from fsf_core.schema import FRAME_FIGURES, is_own

AT_IMAGE_SIZE = frozenset(("coco", "label-studio", "cvat"))
"""Forms that have one size for an image and its masks."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be published, and how."""

    run_uri: str
    where: str
    to: PublishForm
    items: str | None
    """List of items and frames; None for all."""
    segmentation: Segmentation
    with_images: bool
    manifest: Manifest | None
    """List with the full URIs, where those hold credentials."""
    image_url: str | None
    """Address that Label Studio finds pictures below."""
    shard_bytes: int
    access: storage.Access
    """Which addresses of pictures may be opened."""


def publish_run(request: Request) -> dict[str, Any]:
    """Publish a finished run, or do the rest of what a killed process has begun.

    Returns:
        What was written: files, rows, bytes, skipped, pictures_missing and facts of the form.

    Raises:
        ConfigError: the options or the list of items do not fit the run.
        OutputError: there is no finished run, or the folder holds something else.
        StorageError: a store refuses, before anything was written.
        ResumableError: a store or a disk failed in the middle.
    """
    _require_finished(request.run_uri)
    if request.to == "delta":
        return _publish_delta(request)
    fingerprint = runs.read_fingerprint(request.run_uri)
    if request.to in AT_IMAGE_SIZE and fingerprint.get("mask_size") == "model":
        raise OutputError(
            f"the masks of {storage.redact(request.run_uri)} have the size of the network's output, and --to "
            f"{request.to} needs that of the images; score with --mask-size original, or publish to png or hf"
        )
    choice = Choice() if request.items is None else read_choice(request.items)
    identity = _identity(request, choice)
    require_target(request.where, identity, run_uri=request.run_uri)
    plan = plan_frames(request.run_uri, choice)
    attempt = runs.read_document(request.run_uri, "run.json")["attempts"][-1]
    sources = Sources(
        access=request.access,
        honour_exif=bool(attempt.get("honour_exif", True)),
        sampling=Sampling(**fingerprint["sampling"]) if "sampling" in fingerprint else EVERY_FRAME,
        full_uris=unredacted_uris(request.manifest, redacted_items(plan)) if request.manifest else {},
    )
    publication = Publication(
        where=request.where,
        identity=identity,
        plan=plan,
        choice=choice,
        form=_form(request, plan, choice, _facts(request.run_uri, fingerprint)),
        sources=sources if request.with_images else None,
    )
    return run_publication(publication)


def _require_finished(run_uri: str) -> None:
    """Refuse a folder without a finished run.

    Raises:
        OutputError: found / expected / do.
    """
    runs.read_fingerprint(run_uri)
    if not runs.is_finished(run_uri):
        raise OutputError(
            f"{storage.redact(run_uri)} is not finished (_SUCCESS is missing), expected a finished run; start the "
            "score command that began it again"
        )


def _identity(request: Request, choice: Choice) -> dict[str, Any]:
    """Return what makes two publications the same: the run as it was published last, the form and its options."""
    listed = storage.read_bytes(storage.join(request.run_uri, "manifest.json"))
    return {
        "to": request.to,
        "run_id": runs.read_document(request.run_uri, "run.json")["run_id"],
        "run_sha256": hashlib.sha256(listed).hexdigest(),
        "options": {
            "items": choice.digest,
            "segmentation": request.segmentation if request.to == "coco" else "",
            "with_images": request.with_images,
            "image_url": request.image_url or "",
            "shard_bytes": request.shard_bytes if request.to == "hf" else 0,
        },
    }


def _facts(run_uri: str, fingerprint: dict[str, Any]) -> RunFacts:
    run = runs.open_run(run_uri)
    lineage = {
        "run_id": run.run_id,
        "bundle_sha256": fingerprint.get("bundle_sha256"),
        "precision": fingerprint.get("precision"),
        "manifest": storage.redact(str(fingerprint.get("manifest", ""))),
        "fsf_version": __version__,
    }
    return RunFacts(run_id=run.run_id, classes=run.classes, palette=run.palette, lineage=lineage)


def _form(request: Request, plan: Plan, choice: Choice, facts: RunFacts) -> Form[Any]:
    """Return the form that was asked for.

    Raises:
        ConfigError: it cannot show what is chosen.
    """
    if request.to == "png":
        return PngForm(facts)
    if request.to == "hf":
        columns = columns_of(plan)
        # A run of an older version may have a column of its manifest under the name of a figure.
        further = [columns.field(name) for name in FRAME_FIGURES if is_own(columns.field(name))]
        further += passed_columns(columns)
        return HuggingFaceForm(facts, pa.schema(further), shard_bytes=request.shard_bytes)
    root = "" if request.with_images else common_folder(plan)
    if request.to == "coco":
        return CocoForm(facts, request.segmentation, image_root=root)
    if request.to == "cvat":
        return CvatForm(facts, image_root=root)
    if not request.with_images and needs_copies(plan, choice):
        raise ConfigError(
            "found frames of videos, pages of TIFFs, members of archives, or addresses without their password or "
            "signature, expected pictures that Label Studio can open; pass --with-images, which copies them"
        )
    return LabelStudioForm(facts, _label_studio_address(request, root))


def _label_studio_address(request: Request, image_root: str) -> Callable[[Frame, str | None], str]:
    """Return a function that says where Label Studio finds a picture."""

    def address(frame: Frame, copy: str | None) -> str:
        if request.image_url is not None:
            name = copy if copy is not None else frame.uri.removeprefix(f"{image_root.rstrip('/')}/")
            return f"{request.image_url.rstrip('/')}/{quote(name)}"
        uri = frame.uri if copy is None else storage.join(request.where, copy)
        if not storage.is_local(uri):
            return uri
        return f"/data/local-files/?d={quote(str(storage.local_path(uri)).lstrip('/'))}"

    return address


def _publish_delta(request: Request) -> dict[str, Any]:
    """Write the rows to Delta tables, after trying each table."""
    plan = plan_frames(request.run_uri, Choice())
    extra = passed_columns(columns_of(plan))

    def values() -> Iterator[pa.Table]:
        for receipt in plan.ledger.receipts():
            if "masks" in receipt.files:
                rows = runs.read_part(plan.ledger.uri, receipt, "masks", extra.names)
                yield pa.table({"extra": rows.to_struct_array()})

    tables = tables_of(runs.read_fingerprint(request.run_uri))
    delta.require_tables(
        request.where, run_uri=request.run_uri, extra=extra, items=values, tables=tables, option="--out"
    )
    versions = delta.publish_delta(request.run_uri, request.where, recorded=False)
    files = [(name, file) for receipt in plan.ledger.receipts() for name, file in receipt.files.items()]
    rows = {table: sum(int(file["rows"]) for name, file in files if name == table) for table in versions}
    return {
        "to": "delta", "run_id": runs.read_document(request.run_uri, "run.json")["run_id"], "tables": versions,
        "rows": sum(rows.values()), "rows_by_table": rows, "skipped": 0, "pictures_missing": 0,
    }  # fmt: skip
