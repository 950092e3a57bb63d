"""A folder of masks as PNG files, with the pictures beside them if wanted, and a table of which file is what.

masks/ID.png          class map: pixel value = class id, with the colours as its palette; 16-bit grey above 256 classes
masks/ID/000007.png   that of a frame of a video
images/               the pictures, by the same paths
index.parquet         item_id, frame_index, mask, image and further columns, one row per mask
classes.json          ids, names and colours of the classes
labelmap.txt          the same, as CVAT and Pascal VOC tools read it
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from fsf_core.publish.form import Form, RunFacts, image_path
from fsf_core.publish.frames import Frame
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target
from fsf_core.runs.folder import document_bytes

MASKS_FOLDER = "masks"

INDEX = pa.schema(
    [
        ("item_id", pa.string()),
        ("frame_index", pa.int64()),
        ("pts_s", pa.float64()),
        ("mask", pa.string()),
        ("image", pa.string()),
        ("uri", pa.string()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
    ]
)
"""Columns of index.parquet. Paths count from its folder; image is null where the picture is not copied."""


class PngForm(Form[dict[str, Any]]):
    """A folder of masks."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts

    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> dict[str, Any]:
        """Write the files of a frame; returns its row of the index."""
        mask = f"{MASKS_FOLDER}/{frame.path}.png"
        output.write(mask, frame.png)
        image = None
        if picture is not None:
            image = image_path(frame, picture.suffix)
            output.write(image, picture.data)
        row = {name: getattr(frame, name) for name in INDEX.names if name not in {"mask", "image"}}
        return row | {"mask": mask, "image": image}

    def write(self, rows: Iterable[dict[str, Any]], output: ChunkOutput) -> int:
        """Write the rows of the index as a piece of it."""
        table = pa.Table.from_pylist([*rows], schema=INDEX)
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
        output.write_piece("index", sink.getvalue().to_pybytes())
        return int(table.num_rows)

    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:
        """Write the classes and the index."""
        entries = self._facts.entries
        target.write("classes.json", document_bytes({"classes": entries, "run_id": self._facts.run_id}))
        target.write("labelmap.txt", label_map(entries))
        with target.local_file("index.parquet") as path, pyarrow.parquet.ParquetWriter(path, INDEX) as writer:
            for piece in target.pieces(receipts, "index"):
                writer.write_table(pyarrow.parquet.read_table(pa.BufferReader(piece)))


def label_map(entries: Sequence[dict[str, Any]]) -> bytes:
    """Return classes as labelmap.txt; colons end a name there, and line breaks a class."""
    rows = ["# label:color_rgb:parts:actions"]
    for entry in entries:
        name = entry["name"].replace(":", " ").replace("\n", " ")
        rows.append(f"{name}:{','.join(map(str, entry['color']))}::")
    return "\n".join([*rows, ""]).encode()
