"""A run as pre-labels of CVAT, in "CVAT for images 1.1": a mask per connected region of every class but 0.

annotations.xml    to be uploaded to a task with the same pictures; they are found by their names
labels.json        the labels of the task, for the tab "Raw" where it is made
images/            the pictures, where they are copied: what the task is made of
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from fsf_core import masks
from fsf_core.publish.coco import file_name, name_below
from fsf_core.publish.form import IMAGES, Form, RunFacts, image_path
from fsf_core.publish.frames import Frame
from fsf_core.publish.regions import Region, find_regions
from fsf_core.publish.run_lengths import row_counts
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target

ANNOTATIONS = "annotations.xml"

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class CvatForm(Form[str]):
    """CVAT's file of annotations."""

    def __init__(self, facts: RunFacts, *, image_root: str) -> None:
        """Keep the settings.

        Args:
            facts: of the run.
            image_root: folder of the images of the run, which the names of those that are not copied count from.
        """
        self._facts = facts
        self._image_root = image_root

    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> str:
        """Return the element of an image, without its number."""
        name = name_below(frame, self._image_root)
        if name is None:
            path = file_name(frame, "") if picture is None else image_path(frame, picture.suffix)
            name = path.removeprefix(f"{IMAGES}/")
            if picture is not None:
                output.write(path, picture.data)
        head = f'name={_quoted(name)} width="{frame.width_px}" height="{frame.height_px}">'
        return "".join([head, *map(self._mask, find_regions(masks.decode_png(frame.png))), "</image>"])

    def _mask(self, region: Region) -> str:
        left, top, width, height = region.box
        counts = ", ".join(map(str, row_counts(region.region_hw).tolist()))
        return (
            f'<mask label={_quoted(self._facts.classes[region.class_id])} source="auto" occluded="0" rle="{counts}" '
            f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>'
        )

    def write(self, rows: Iterable[str], output: ChunkOutput) -> int:
        """Write the elements as lines."""
        written = 0
        for element in rows:
            output.add_line("images", f"{written} {written} {element}".encode())
            written += 1
        output.facts["images"] = written
        return written

    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:
        """Join the elements to one document, and write the labels."""
        labels = [
            {"name": entry["name"], "color": f"#{bytes(entry['color']).hex()}", "type": "mask", "attributes": []}
            for entry in self._facts.entries[1:]
        ]
        target.write("labels.json", (json.dumps(labels, indent=2, ensure_ascii=False) + "\n").encode())
        target.join(ANNOTATIONS, self._document(target, receipts, labels))

    def _document(
        self, target: Target, receipts: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]
    ) -> Iterator[bytes]:
        named = "".join(
            f"<label><name>{_text(label['name'])}</name><color>{label['color']}</color><type>mask</type>"
            "<attributes></attributes></label>"
            for label in labels
        )
        size = sum(receipt["rows"] for receipt in receipts)
        yield (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>'
            f"<name>{_text(self._facts.run_id)}</name><size>{size}</size><mode>annotation</mode>"
            f"<labels>{named}</labels></task></meta>\n"
        ).encode()
        for line in target.lines(receipts, "images", lambda number, _: f'<image id="{number}" '):
            yield line + b"\n"
        yield b"</annotations>\n"


def _text(text: str) -> str:
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _quoted(text: str) -> str:
    return quoteattr(_NOT_IN_XML.sub("\ufffd", text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
