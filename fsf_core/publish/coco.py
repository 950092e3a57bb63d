"""A run as COCO's document of instances: one annotation per connected region of every class but 0.

Masks come back pixel for pixel: what no annotation covers is class 0. Regions of one class that touch, at corners too,
are one annotation; the tables say nothing of single objects.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fsf_core import masks, storage
from fsf_core.manifest.suffixes import suffix_of
from fsf_core.options import Segmentation
from fsf_core.publish.form import Form, RunFacts, image_path
from fsf_core.publish.frames import Frame
from fsf_core.publish.regions import Region, find_regions, outlines
from fsf_core.publish.run_lengths import coco_counts, compress_counts
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target

ANNOTATIONS = "annotations.json"
"""The document."""

Row = tuple[dict[str, Any], list[dict[str, Any]]]


class CocoForm(Form[Row]):
    """COCO's document."""

    def __init__(self, facts: RunFacts, segmentation: Segmentation, *, image_root: str) -> None:
        """Keep the settings.

        Args:
            facts: of the run.
            segmentation: how pixels are written.
            image_root: folder of the images of the run, which the names of those that are not copied count from.
        """
        self._facts = facts
        self._segmentation = segmentation
        self._image_root = image_root

    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> Row:
        """Return the record of an image and those of its regions, without their numbers."""
        name = file_name(frame, self._image_root)
        if picture is not None:
            name = image_path(frame, picture.suffix)
            output.write(name, picture.data)
        image = {
            "file_name": name, "width": frame.width_px, "height": frame.height_px, "item_id": frame.item_id,
            "frame_index": frame.frame_index, "uri": frame.uri,
        }  # fmt: skip
        class_map_HW = masks.decode_png(frame.png)
        return image, [self._annotation(frame, region) for region in find_regions(class_map_HW)]

    def _annotation(self, frame: Frame, region: Region) -> dict[str, Any]:
        found: dict[str, Any] = {
            "category_id": region.class_id, "bbox": [*region.box], "area": region.pixels, "iscrowd": 0,
            "segmentation": self._pixels(frame, region),
        }  # fmt: skip
        score = frame.probabilities.get((region.class_id, region.pixels, *region.box))
        return found if score is None else {**found, "score": score}

    def _pixels(self, frame: Frame, region: Region) -> list[list[int]] | dict[str, Any]:
        """Return the pixels of a region: as run lengths, or as polygons where it has no holes, which COCO's lack."""
        if self._segmentation == "polygon":
            lines = outlines(region)
            if len(lines) == 1:
                return lines
        counts = coco_counts(
            region.region_hw, top_px=region.top_px, left_px=region.left_px, height_px=frame.height_px,
            width_px=frame.width_px,
        )  # fmt: skip
        plain = self._segmentation == "rle-uncompressed"
        return {
            "size": [frame.height_px, frame.width_px],
            "counts": counts.tolist() if plain else compress_counts(counts),
        }

    def write(self, rows: Iterable[Row], output: ChunkOutput) -> int:
        """Write the records as lines."""
        row = annotations = as_rle = 0
        for row, (image, found) in enumerate(rows, 1):
            output.add_line("images", f"{row - 1} {row - 1} ".encode() + _members(image))
            for each in found:
                as_rle += isinstance(each["segmentation"], dict)
                output.add_line("annotations", f"{annotations} {row - 1} ".encode() + _members(each))
                annotations += 1
        output.facts.update({"images": row, "annotations": annotations, "as_rle": as_rle})
        return row

    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:
        """Join the records to one document."""
        target.join(ANNOTATIONS, self._document(target, receipts))

    def _document(self, target: Target, receipts: Sequence[dict[str, Any]]) -> Iterator[bytes]:
        polygons = self._segmentation == "polygon"
        info = {
            "description": f"predicted masks of run {self._facts.run_id}", "version": "1.0",
            "background": self._facts.classes[0], "image_root": self._image_root or None,
            "regions_with_holes_as_rle": sum(each["facts"]["as_rle"] for each in receipts) if polygons else None,
            "lineage": self._facts.lineage,
        }  # fmt: skip
        categories = [{**entry, "supercategory": ""} for entry in self._facts.entries[1:]]
        yield b'{"info": ' + _json(info) + b',\n"licenses": [],\n"categories": ' + _json(categories)
        yield b',\n"images": ['
        yield from separated(target.lines(receipts, "images", lambda _, row: f'{{"id": {row + 1}, '))
        yield b'],\n"annotations": ['
        head = '{{"id": {}, "image_id": {}, '
        yield from separated(
            target.lines(receipts, "annotations", lambda number, row: head.format(number + 1, row + 1))
        )
        yield b"]}\n"


def file_name(frame: Frame, image_root: str) -> str:
    """Return how a picture that is not copied is called: its path below the root, or the path that its copy would have.

    Args:
        frame: the frame.
        image_root: folder of the images of the run; empty for none.
    """
    below = name_below(frame, image_root)
    if below is not None:
        return below
    return image_path(frame, suffix_of(storage.name_of_range(frame.uri)) if frame.is_image else ".png")


def name_below(frame: Frame, image_root: str) -> str | None:
    """Return the path of an image below a folder; None for one that is elsewhere, and for a frame of a video."""
    root = f"{image_root.rstrip('/')}/"
    if frame.is_image and image_root and frame.uri.startswith(root):
        return frame.uri.removeprefix(root)
    return None


def separated(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the members of a list of JSON with what separates them."""
    separator = b"\n"
    for line in lines:
        yield separator + line
        separator = b",\n"


def _members(record: dict[str, Any]) -> bytes:
    """Return a record without its opening brace."""
    return _json(record)[1:]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
