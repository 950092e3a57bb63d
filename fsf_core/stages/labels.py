"""Labels beside their items: a PNG for an image; for a video a label video, or a folder of PNGs by frame index.

Whatever is wrong with a label is a LabelError of its item or frame, never a guess and never an item without a label.
Knows how labels are stored. Reads no classes: the mask stage does.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

import numpy as np

from fsf_core import storage
from fsf_core.errors import DecodeError, FSFError, ItemError, LabelError
from fsf_core.manifest.frame_labels import numbered_pngs
from fsf_core.media import images, video
from fsf_core.stages import units
from fsf_core.stages.decode_settings import DecodeSettings
from fsf_core.stages.units import Label, Unit
from fsf_core.stages.whole_files import read_whole, size_of

STAGE = "label"
"""Name of the stage of a label's failure."""

_DO = "correct the label or its address, or leave label_uri empty"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelPlan:
    """Where the labels of a video are: made once, and used by every task that decodes a share of the video."""

    uri: str
    names: Mapping[int, str] | None = None
    """Frame number to the name of a PNG in the folder; None for a label video."""
    index: video.VideoIndex | None = None
    """Of a label video."""
    sha256: str | None = None
    """Digest of a label video on a disk."""
    error: str | None = None
    """Why the labels cannot be used; None if they can."""


def plan_labels(
    uri: str, frames: int, settings: DecodeSettings, *, heartbeat: Callable[[], None] = lambda: None
) -> LabelPlan:
    """Find the labels of a video; what is wrong with them is in the plan, and raises nothing.

    Args:
        uri: the label video, or the folder.
        frames: number of frames of the video.
        settings: of the decode stage.
        heartbeat: called every few frames while the frames of a label video are counted by decoding.
    """
    try:
        settings.access.require(uri)
        if storage.scheme(uri) not in {"http", "https"} and storage.is_folder(uri):
            return LabelPlan(uri=uri, names=numbered_pngs(uri, frames=frames))
        return _plan_label_video(uri, frames, settings, heartbeat)
    except (FSFError, OSError) as error:
        return LabelPlan(uri=uri, error=str(_as_label_error(error, uri)))


def label_of_image(unit: Unit, uri: str, opener: storage.Opener, settings: DecodeSettings) -> Unit:
    """Return the unit of an image with its label; without frames, and with the failure, if that cannot be read."""
    try:
        with opener() as file:
            return replace(unit, labels=[_read_label(file, uri, settings)])
    except (ItemError, OSError) as error:
        why = units.failure(STAGE, _as_label_error(error, uri))
        return replace(unit, frames=[], inputs_HWC=[], source_images=[]).failed(why)


class FrameLabels:
    """Labels of the frames of one share of a video, read in the order of the frames."""

    def __init__(self, plan: LabelPlan, wanted: Sequence[int], settings: DecodeSettings) -> None:
        """Prepare reading.

        Args:
            plan: without an error.
            wanted: frames whose labels may be asked for, ascending.
            settings: of the decode stage.
        """
        self._uri = plan.uri
        self._covers_all = plan.names is None
        found = (
            _labels_in_folder(plan, wanted, settings)
            if plan.names is not None
            else _labels_in_video(plan, wanted, settings)
        )
        self._rest = iter(found)
        self._next: tuple[int, Callable[[], Label]] | None = None
        self._error: LabelError | None = None

    def attach(self, unit: Unit) -> Unit:
        """Return a unit with the labels of its frames; it ends before the first frame whose label cannot be read."""
        labels: list[Label | None] = []
        for at, frame in enumerate(unit.frames):
            try:
                labels.append(self._label_of(frame.frame_index))
            except LabelError as error:
                cut = replace(
                    unit,
                    frames=unit.frames[:at],
                    inputs_HWC=unit.inputs_HWC[:at],
                    source_images=unit.source_images[:at],
                    labels=labels,
                )
                return cut.failed(units.failure(STAGE, error, frame_index=frame.frame_index))
        return replace(unit, labels=labels)

    def _label_of(self, frame: int) -> Label | None:
        """Return the label of a frame, later than those before; None if it has none.

        Raises:
            LabelError: it cannot be read.
        """
        while self._error is None and (self._next is None or self._next[0] < frame):
            self._advance()
            if self._next is None:
                break
        if self._next is not None and self._next[0] == frame:
            try:
                return self._next[1]()
            except (ItemError, OSError) as error:
                raise _as_label_error(error, self._uri, frame) from error
        if self._error is not None:
            raise self._error
        if self._covers_all:
            raise _as_label_error(DecodeError("the frame cannot be decoded"), self._uri, frame)
        return None

    def _advance(self) -> None:
        """Move to the next label; what ends the labels is raised for every frame after them."""
        try:
            self._next = next(self._rest, None)
        except (ItemError, OSError) as error:
            self._next, self._error = None, _as_label_error(error, self._uri)


def _plan_label_video(uri: str, frames: int, settings: DecodeSettings, heartbeat: Callable[[], None]) -> LabelPlan:
    """Index a label video.

    Raises:
        FetchError, DecodeError, LimitError: it cannot be read, or does not keep values.
        LabelError: it does not have the frames of the video.
    """
    with storage.open_binary(uri, settings.access) as file:
        head = file.read(images.HEAD_BYTES)
        kind = images.sniff(head)
        if kind or not video.sniff_container(head):
            found = f"an image ({kind})" if kind else "another kind of file"
            raise LabelError(f"found {found}, expected a label video, or a folder of PNGs by frame index; {_DO}")
        source = storage.path_or_file(uri, file)
        video.require_stored_values(source)
        index = video.index_video(
            source, max_frame_px=settings.limits.max_pixels, max_frames=settings.max_frames, heartbeat=heartbeat
        )
        if index.shortfall:
            raise DecodeError(f"the label video is incomplete: {index.shortfall}")
        if index.frames != frames:
            raise LabelError(
                f"found a label video of {index.frames} frames, expected the {frames} of the video; write one label "
                "per frame"
            )
        file.seek(0)
        digest = storage.file_sha256(file) if storage.is_local(uri) else None
    return LabelPlan(uri=uri, index=index, sha256=digest)


def _labels_in_folder(
    plan: LabelPlan, wanted: Sequence[int], settings: DecodeSettings
) -> Iterator[tuple[int, Callable[[], Label]]]:
    """Yield the labels of the wanted frames that have one, while the next are fetched."""
    names = plan.names or {}
    numbers = [number for number in wanted if number in names]
    uris = [storage.join(plan.uri, names[number]) for number in numbers]
    for number, uri, opener in zip(numbers, uris, storage.open_prefetched(uris, settings.access), strict=True):

        def read(uri: str = uri, opener: storage.Opener = opener) -> Label:
            with opener() as file:
                return _read_label(file, uri, settings)

        yield number, read


def _labels_in_video(
    plan: LabelPlan, wanted: Sequence[int], settings: DecodeSettings
) -> Iterator[tuple[int, Callable[[], Label]]]:
    """Yield the wanted frames of a label video, decoded one after the other.

    Raises:
        ItemError: frames cannot be decoded; after all that can.
    """
    assert plan.index is not None
    with storage.open_binary(plan.uri, settings.access) as file:
        frames = video.decode_stored(
            storage.path_or_file(plan.uri, file),
            plan.index,
            np.asarray(wanted, np.int64),
            max_frame_px=settings.limits.max_pixels,
        )
        for number, png in frames:
            yield number, partial(Label, data=png, sha256=plan.sha256)


def _read_label(file: BinaryIO, uri: str, settings: DecodeSettings) -> Label:
    """Read a PNG within the limits of images."""
    data = read_whole(file, uri, size=size_of(file), max_bytes=settings.limits.max_bytes)
    return Label(data=data, sha256=hashlib.sha256(data).hexdigest())


def _as_label_error(error: Exception, uri: str, frame: int | None = None) -> LabelError:
    """Return what is wrong with a label as a LabelError that names it."""
    reason, shown = units.failure(STAGE, error).error_message, storage.redact(uri)
    place = "label" if frame is None else f"label of frame {frame}"
    named = f"{place}: {reason}" if shown in reason else f"{place} {shown}: {reason}"
    return LabelError(named if ";" in reason else f"{named}; {_DO}")  # most reasons end with what to do
