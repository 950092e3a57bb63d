"""What every form of a published run has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fsf_core.publish.frames import Frame
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target

IMAGES = "images"
"""Folder of the pictures, where they are copied."""

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a form says of the run."""

    run_id: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    lineage: dict[str, Any]
    """Bundle, manifest and versions, as JSON."""

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The classes as JSON: id, name, RGB colour."""
        named = zip(self.classes, self.palette, strict=True)
        return [{"id": number, "name": name, "color": [*colour]} for number, (name, colour) in enumerate(named)]


class Form(ABC, Generic[Row]):
    """A form of a published run. Frames are converted in several threads, and come in order to `write`."""

    passed: Sequence[str] = ()
    """Columns of masks that `convert` wants beside those of every frame."""

    @abstractmethod
    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> Row:
        """Return what `write` needs of a frame.

        Args:
            frame: the frame.
            picture: what it was made from; None where pictures are not wanted, or this one is missing.
            output: of its chunk, for files of this frame alone.
        """

    @abstractmethod
    def write(self, rows: Iterable[Row], output: ChunkOutput) -> int:
        """Write the frames of a chunk; returns their number."""

    @abstractmethod
    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:
        """Write what describes the whole, from the receipts of all chunks in order."""


def image_path(frame: Frame, suffix: str) -> str:
    """Return the path of the copy of a picture."""
    return f"{IMAGES}/{frame.path}{suffix}"
