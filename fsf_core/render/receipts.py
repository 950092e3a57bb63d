"""The receipts of rendered videos, written after them."""

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


def rendered_videos(run_uri: str) -> Iterator[tuple[RenderedVideo, RenderStyle]]:
    """The receipts of all films in name order.

    Raises:
        OutputError: a receipt cannot be read.
    """
    folder = storage.join(run_uri, FOLDER)
    for entry in storage.list_files(folder) if storage.exists(folder) else ():
        if entry.relative.endswith(".json"):
            yield _read_receipt(entry.uri)


def manifest_entries(run_uri: str) -> list[dict[str, Any]]:
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
        for film, _ in rendered_videos(run_uri)
    ]


def receipt_uri(run_uri: str, item_id: str) -> str:
    """Return where the receipt of an item's rendered video lies."""
    return storage.join(run_uri, FOLDER, f"{file_stem(item_id)}.json")


def look_to_json(look: RenderStyle) -> dict[str, Any]:
    """Return what a receipt holds of a look, and what its digest is made of: neither keys nor order may change."""
    return {
        "style": look.style,
        "legend": look.legend,
        "clear_background": look.clear_background,
        "names": look.names,
        "palette": look.palette,
    }


def receipt_to_json(film: RenderedVideo, look: RenderStyle) -> dict[str, Any]:
    """Return the receipt of a film. The keys are names on disk: they stay, whatever the fields are called."""
    return {
        "item_id": film.item_id,
        "path": film.path,
        "digest": film.digest,
        "sha256": film.sha256,
        "bytes": film.bytes,
        "frames": film.frames,
        "sound": film.sound,
        "look": look_to_json(look),
    }


def _receipt_from_json(facts: Mapping[str, Any]) -> tuple[RenderedVideo, RenderStyle]:
    film = RenderedVideo(
        item_id=facts["item_id"],
        path=facts["path"],
        digest=facts["digest"],
        sha256=facts["sha256"],
        bytes=facts["bytes"],
        frames=facts["frames"],
        sound=facts["sound"],
    )
    drawn = facts["look"]
    look = RenderStyle(
        style=drawn["style"],
        legend=drawn["legend"],
        clear_background=drawn["clear_background"],
        names=tuple(drawn["names"]),
        palette=tuple((int(r), int(g), int(b)) for r, g, b in drawn["palette"]),
    )
    return film, look


def _read_receipt(uri: str) -> tuple[RenderedVideo, RenderStyle]:
    try:
        return _receipt_from_json(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError, KeyError) as error:
        raise OutputError(f"{storage.redact(uri)} is not the receipt of a film: {error}; delete it") from error
