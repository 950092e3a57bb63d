"""Receipts of rendered videos: what a file under RUN/videos shows, written after it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.errors import FetchError, OutputError
from fsf_core.keys import file_stem
from fsf_core.render.draw import RenderStyle

FOLDER = "videos"


@dataclass(frozen=True, kw_only=True)
class RenderedVideo:
    """The receipt of a rendered video."""

    item_id: str
    path: str
    """Of the MP4 file, relative to the run folder."""
    digest: str
    """Of all that the video was made from; see plan.digest."""
    sha256: str
    """Of the MP4 file."""
    bytes: int
    frames: int
    sound: str
    """none, copied or aac, with the second at which it could no longer be read, if that happened."""


def rendered_videos(run_uri: str) -> Iterator[tuple[RenderedVideo, RenderStyle]]:
    """Read the receipts of all rendered videos, in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    folder = storage.join(run_uri, FOLDER)
    for entry in storage.list_files(folder) if storage.exists(folder) else ():
        if entry.relative.endswith(".json"):
            yield _read_receipt(entry.uri)


def manifest_entries(run_uri: str) -> list[dict[str, Any]]:
    """Return the rendered videos as entries of the run's manifest.json."""
    return [
        {
            "part": None,
            "table": FOLDER,
            "path": rendered.path,
            "rows": rendered.frames,
            "bytes": rendered.bytes,
            "sha256": rendered.sha256,
        }
        for rendered, _ in rendered_videos(run_uri)
    ]


def receipt_uri(run_uri: str, item_id: str) -> str:
    """Return the URI of the receipt of an item's rendered video."""
    return storage.join(run_uri, FOLDER, f"{file_stem(item_id)}.json")


def look_to_json(look: RenderStyle) -> dict[str, Any]:
    """Return the style as receipts store it and the digest includes it: neither keys nor their order may change."""
    return {
        "style": look.style,
        "legend": look.legend,
        "clear_background": look.clear_background,
        "names": look.names,
        "palette": look.palette,
    }


def receipt_to_json(rendered: RenderedVideo, look: RenderStyle) -> dict[str, Any]:
    """Return the receipt as JSON. The keys are names on disk and never change, whatever the fields are called."""
    return {
        "item_id": rendered.item_id,
        "path": rendered.path,
        "digest": rendered.digest,
        "sha256": rendered.sha256,
        "bytes": rendered.bytes,
        "frames": rendered.frames,
        "sound": rendered.sound,
        "look": look_to_json(look),
    }


def _receipt_from_json(facts: Mapping[str, Any]) -> tuple[RenderedVideo, RenderStyle]:
    """Return the video and its style from a receipt's JSON."""
    rendered = RenderedVideo(
        item_id=facts["item_id"],
        path=facts["path"],
        digest=facts["digest"],
        sha256=facts["sha256"],
        bytes=facts["bytes"],
        frames=facts["frames"],
        sound=facts["sound"],
    )
    style = facts["look"]
    look = RenderStyle(
        style=style["style"],
        legend=style["legend"],
        clear_background=style["clear_background"],
        names=tuple(style["names"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in style["palette"]),
    )
    return rendered, look


def _read_receipt(uri: str) -> tuple[RenderedVideo, RenderStyle]:
    """Read one receipt.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return _receipt_from_json(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError, KeyError) as error:
        raise OutputError(
            f"{storage.redact(uri)} is not the receipt of a rendered video: {error}; delete it"
        ) from error
