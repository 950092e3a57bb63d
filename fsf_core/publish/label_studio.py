"""A run as pre-labels of Label Studio: a task per frame, with a brush stroke per class but 0.

label_config.xml        labelling interface of the project: names and colours of the classes
tasks-000000-00.json    tasks with predictions, to be imported; several files of a bounded size
images/                 the pictures, where they are copied
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from fsf_core import masks
from fsf_core.publish.form import Form, RunFacts, image_path
from fsf_core.publish.frames import Frame
from fsf_core.publish.run_lengths import brush_bytes
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target

FILE_BYTES = 64 << 20
"""Size up to which tasks share a file; Label Studio takes 200 MB at once."""

STROKES, IMAGE = "classes", "image"
"""Names of the tags in the labelling interface, which the predictions refer to."""


class LabelStudioForm(Form[bytes]):
    """Tasks with predictions."""

    def __init__(self, facts: RunFacts, address: Callable[[Frame, str | None], str]) -> None:
        """Keep the settings.

        Args:
            facts: of the run.
            address: returns where Label Studio finds a picture, from its frame and the path of its copy, or None.
        """
        self._facts = facts
        self._address = address

    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> bytes:
        """Return the task of a frame."""
        copy = None
        if picture is not None:
            copy = image_path(frame, picture.suffix)
            output.write(copy, picture.data)
        class_map_HW = masks.decode_png(frame.png)
        present = np.flatnonzero(np.bincount(class_map_HW.ravel()))
        strokes = [self._stroke(frame, class_map_HW, int(class_id)) for class_id in present if class_id]
        task = {
            "data": {IMAGE: self._address(frame, copy), "item_id": frame.item_id, "frame_index": frame.frame_index},
            "predictions": [{"model_version": self._facts.run_id, "result": strokes}],
        }
        return json.dumps(task, ensure_ascii=False).encode()

    def _stroke(self, frame: Frame, class_map_HW: masks.ClassMap, class_id: int) -> dict[str, Any]:
        return {
            "id": f"class-{class_id}", "type": "brushlabels", "from_name": STROKES, "to_name": IMAGE, "origin":
            "prediction", "original_width": frame.width_px, "original_height": frame.height_px, "image_rotation": 0,
            "value": {
                "format": "rle", "rle": [*brush_bytes(class_map_HW == class_id)],
                "brushlabels": [self._facts.classes[class_id]],
            },
        }  # fmt: skip

    def write(self, rows: Iterable[bytes], output: ChunkOutput) -> int:
        """Write the tasks as files of a bounded size."""
        held: list[bytes] = []
        held_bytes = written = 0
        for row in rows:
            if held and held_bytes + len(row) > FILE_BYTES:
                _write_tasks(held, output)
                written, held, held_bytes = written + len(held), [], 0
            held.append(row)
            held_bytes += len(row)
        if held:
            _write_tasks(held, output)
        output.remove_others("", f"tasks-{output.number:06d}-")
        return written + len(held)

    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:  # noqa: ARG002 - of other forms
        """Write the labelling interface."""
        labels = "\n".join(
            f'    <Label value={quoteattr(entry["name"])} background="#{bytes(entry["color"]).hex()}"/>'
            for entry in self._facts.entries[1:]
        )
        text = (
            f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n'
            f'  <BrushLabels name="{STROKES}" toName="{IMAGE}">\n{labels}\n  </BrushLabels>\n</View>\n'
        )
        target.write("label_config.xml", text.encode())


def _write_tasks(tasks: Sequence[bytes], output: ChunkOutput) -> None:
    number = output.facts.get("task_files", 0)
    output.write_named(f"tasks-{output.number:06d}-{number:02d}.json", b"[\n" + b",\n".join(tasks) + b"\n]\n")
    output.facts["task_files"] = number + 1
