"""Receipts of rendered videos: what a file under RUN/videos shows, written after it.

A new video and its receipt are first in the folder of the attempt that made them; publishing moves both.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fsf_core import storage
from fsf_core.errors import FetchError
from fsf_core.keys import file_stem
from fsf_core.render.draw import RenderStyle
from fsf_core.runs import staging
from fsf_core.runs.publish import VIDEOS, Derived

FOLDER = VIDEOS

log = logging.getLogger("fsf")


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
    """none, copied or aac, with what was lost and why in parentheses, if anything was."""


@dataclass(frozen=True, kw_only=True)
class FoundVideo:
    """A rendered video with its receipt, published or staged."""

    video: RenderedVideo
    style: RenderStyle
    path: str
    """Where the MP4 file is now, inside the run."""
    receipt_path: str
    """Where the receipt is now."""

    def derived(self) -> list[Derived]:
        """Return video and receipt for publication."""
        facts = {"rows": self.video.frames, "bytes": self.video.bytes, "sha256": self.video.sha256}
        receipt = receipt_path(self.video.item_id)
        return [
            Derived(table=FOLDER, path=self.video.path, staged=_unless_equal(self.path, self.video.path), facts=facts),
            Derived(
                table=FOLDER,
                path=receipt,
                staged=_unless_equal(self.receipt_path, receipt),
                facts=None,
            ),
        ]


def find_videos(run_uri: str) -> Iterator[FoundVideo]:
    """Read the receipts of all rendered videos: staged ones first, the newest before others, then published ones.

    A video whose receipt is damaged does not exist: it is rendered again.
    """
    folders = [*map(staging.folder_name, staging.attempt_numbers(run_uri)), ""]
    sizes = {join_path(folder, FOLDER): staging.list_sizes(run_uri, [join_path(folder, FOLDER)]) for folder in folders}
    known = {path: size for listed in sizes.values() for path, size in listed.items()}
    for folder, listed in sizes.items():
        for path in sorted(listed):
            if path.endswith(".json") and path.count("/") == folder.count("/") + 1:
                receipt = _read_receipt(storage.join(run_uri, path))
                if receipt is None:
                    log.warning("event=video_receipt_damaged path=%s", path)
                    continue
                video, style = receipt
                candidates = [f"{folder}/{video.path.rpartition('/')[2]}", video.path]
                # A publication that was interrupted moved one of the two files only.
                now = next((each for each in candidates if known.get(each) == video.bytes), None)
                if now is not None:
                    yield FoundVideo(video=video, style=style, path=now, receipt_path=path)


def published_videos(run_uri: str) -> Iterator[tuple[str, RenderedVideo | None]]:
    """Read the receipts of the published videos, whether their files are there or not, in name order.

    Yields:
        The path of a receipt inside the run, and its video; None if it is damaged.
    """
    folder = storage.join(run_uri, FOLDER)
    for entry in storage.list_files(folder) if storage.exists(folder) else ():
        if entry.relative.endswith(".json"):
            receipt = _read_receipt(entry.uri)
            yield f"{FOLDER}/{entry.relative}", receipt and receipt[0]


def receipt_path(item_id: str) -> str:
    """Return the path of the receipt of an item's rendered video, inside the run or the folder of an attempt."""
    return f"{FOLDER}/{file_stem(item_id)}.json"


def join_path(folder: str, name: str) -> str:
    """Join a folder inside the run, or the run itself, and a name."""
    return f"{folder}/{name}" if folder else name


def _unless_equal(now: str, path: str) -> str | None:
    return None if now == path else now


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


def _read_receipt(uri: str) -> tuple[RenderedVideo, RenderStyle] | None:
    """Read one receipt; None if it is damaged."""
    try:
        return _receipt_from_json(json.loads(storage.read_bytes(uri)))
    except (FetchError, TypeError, ValueError, KeyError):
        return None
