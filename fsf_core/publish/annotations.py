"""What annotators drew in Label Studio, as label PNGs and a list of them: the way back of its pre-labels.

Reads an export in the format "JSON". Brush strokes only; of several annotations of a task the newest counts.
"""

# H×W pixels

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core import masks, runs, storage
from fsf_core.errors import ConfigError, FetchError
from fsf_core.publish.names import Names
from fsf_core.publish.run_lengths import brush_mask
from fsf_core.runs import RunReader

LIST = "labels.csv"
"""The list that is written: id, uri and label_uri of every item with a label."""


@dataclass(frozen=True, kw_only=True)
class WrittenLabels:
    """What was written."""

    labels: int
    """Number of PNGs."""
    items: int
    """Number of images and videos that have any."""
    without_annotation: int
    """Tasks that nobody has finished."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A frame of the run."""

    height_px: int
    width_px: int
    uri: str
    has_frames: bool
    """Whether it is of a video, or one of the pages that were scored of a TIFF."""


def write_labels(run: RunReader, export: str, out: str) -> WrittenLabels:
    """Write the label of every annotated task, and a list of them.

    Example:
        >>> write_labels(open_run("runs/today"), "export.json", "labels")
        WrittenLabels(labels=20, items=20, without_annotation=3)

    Args:
        run: the run whose pre-labels were imported; it knows the classes, and the sizes of pictures without a stroke.
        export: the file that Label Studio exported.
        out: folder for <id>.png, or <id>/<frame>.png for frames of a video and pages of a TIFF, and labels.csv,
            which `fsf score` takes.

    Raises:
        ConfigError: the export is none, names frames or labels that the run does not have, or holds other shapes than
            brush strokes.
    """
    tasks = _read(export)
    sources = _sources(run)
    palette_K3 = np.asarray(run.palette, np.uint8)
    names = Names(dict.fromkeys(item_id for item_id, _ in sources))
    labels: dict[str, str] = {}
    count = without = 0
    for key, strokes in _annotations(tasks, sources, export):
        if strokes is None:
            without += 1
            continue
        class_map_HW = _drawn(strokes, sources[key], run.classes, f"{storage.redact(export)}, item {key[0]!r}")
        item_id, frame_index = key
        path = f"{names.frame(item_id, frame_index if sources[key].has_frames else None)}.png"
        storage.write_bytes(storage.join(out, path), masks.encode_png(class_map_HW, palette_K3))
        labels[item_id] = path.rpartition("/")[0] if sources[key].has_frames else path
        count += 1
    uris = {item_id: source.uri for (item_id, _), source in sources.items()}
    storage.write_bytes(storage.join(out, LIST), _list(labels, uris))
    return WrittenLabels(labels=count, items=len(labels), without_annotation=without)


def _read(export: str) -> list[dict[str, Any]]:
    """Return the tasks of an export.

    Raises:
        ConfigError: it cannot be read, or is no list of tasks.
    """
    try:
        tasks = json.loads(storage.read_bytes(export))
    except (FetchError, ValueError) as error:
        raise ConfigError(f"{storage.redact(export)} cannot be read ({error}); export the project as JSON") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "annotations" in task for task in tasks):
        raise ConfigError(
            f"{storage.redact(export)} is no list of tasks with annotations, expected Label Studio's format JSON (not "
            "JSON-MIN); export it again"
        )
    return tasks


def _sources(run: RunReader) -> dict[tuple[str, int], _Source]:
    columns = ["item_id", "frame_index", "height_px", "width_px", "uri", "pts_s"]
    paged = runs.paged_items(run.uri)
    return {
        (row["item_id"], row["frame_index"]): _Source(
            height_px=row["height_px"],
            width_px=row["width_px"],
            uri=row["uri"],
            has_frames=row["pts_s"] is not None or row["item_id"] in paged,
        )
        for batch in run.iter_batches("masks", columns=columns)
        for row in batch.to_pylist()
    }


def _annotations(
    tasks: list[dict[str, Any]], sources: Mapping[tuple[str, int], _Source], export: str
) -> Iterator[tuple[tuple[str, int], list[dict[str, Any]] | None]]:
    """Yield the frame of each task and its newest annotation; None where there is none.

    Raises:
        ConfigError: the run does not have the frame.
    """
    for task in tasks:
        data = task.get("data", {})
        key = (str(data.get("item_id")), int(data.get("frame_index") or 0))
        if key not in sources:
            raise ConfigError(
                f"{storage.redact(export)} has a task for frame {key[1]} of {key[0]!r}, which the run does not have; "
                "give the run that the tasks were published from"
            )
        finished = [each for each in task["annotations"] if not each.get("was_cancelled")]
        newest = max(finished, key=lambda each: str(each.get("updated_at", "")), default=None)
        yield key, None if newest is None else newest.get("result", [])


def _drawn(
    strokes: list[dict[str, Any]], source: _Source, classes: tuple[str, ...], place: str
) -> NDArray[np.unsignedinteger[Any]]:
    """Return the class map of an annotation: class 0 where there is no stroke, the last one where there are several.

    Raises:
        ConfigError: a stroke is no brush stroke, of no known class, or of a picture of another size.
    """
    class_map_HW = np.zeros((source.height_px, source.width_px), masks.class_map_dtype(len(classes)))
    for stroke in strokes:
        kind, value = str(stroke.get("type", "")), stroke.get("value", {})
        if kind != "brushlabels":
            if kind.endswith("labels"):
                raise ConfigError(f"{place} has {kind}, expected brush strokes (brushlabels); draw it with the brush")
            continue  # remarks, choices and ratings
        name = next(iter(value.get("brushlabels", ())), None)
        if name not in classes:
            raise ConfigError(f"{place} has the label {name!r}, expected one of {', '.join(classes)}; rename it")
        size = (stroke.get("original_height"), stroke.get("original_width"))
        if size != class_map_HW.shape:
            raise ConfigError(
                f"{place} was drawn on a picture of {size[1]}×{size[0]} pixels, expected {source.width_px}×"
                f"{source.height_px} as in the run; give the run that the tasks were published from"
            )
        try:
            inside_HW = brush_mask(bytes(value.get("rle", ())), class_map_HW.shape)
        except ValueError as error:
            raise ConfigError(f"{place} has a stroke that cannot be read: {error}; export it again") from error
        class_map_HW[inside_HW] = classes.index(name)
    return class_map_HW


def _list(labels: Mapping[str, str], uris: Mapping[str, str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "uri", "label_uri"))
    writer.writerows((item_id, uris[item_id], path) for item_id, path in labels.items())
    return text.getvalue().encode()
