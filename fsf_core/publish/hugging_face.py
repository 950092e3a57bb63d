"""A run as a folder that Hugging Face's datasets opens: pictures and masks in Parquet, and a card with its features.

data/train-000000-00.parquet   rows with image and mask; no larger than wanted, but for a picture that alone is
README.md                      the card: features, class names, where the data come from; written last
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import yaml

from fsf_core import masks
from fsf_core.publish.form import Form, RunFacts
from fsf_core.publish.frames import Frame
from fsf_core.publish.sources import Picture
from fsf_core.publish.target import ChunkOutput, Target
from fsf_core.schema import MASK_IMAGE

GROUP_ROWS = 100
"""Rows of a row group, as datasets writes tables with images: a viewer reads one at a time."""

DATA = "data"

SPLIT = "train"
"""Name of the only split; datasets gives this name to files that belong to none."""

_OWN = pa.schema(
    [
        ("image", MASK_IMAGE),
        ("mask", MASK_IMAGE),
        ("classes", pa.list_(pa.int64())),
        ("item_id", pa.string()),
        ("frame_index", pa.int64()),
        ("pts_s", pa.float64()),
        ("uri", pa.string()),
        ("height_px", pa.int32()),
        ("width_px", pa.int32()),
    ]
)

_PLAIN = {
    pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool",
    pa.string(): "string", pa.binary(): "binary", pa.date32(): "date32",
}  # fmt: skip
"""Types that datasets names otherwise than by Arrow's name, or as it does."""


class HuggingFaceForm(Form[dict[str, Any]]):
    """A dataset folder."""

    def __init__(self, facts: RunFacts, passed: pa.Schema, *, shard_bytes: int) -> None:
        """Keep the settings.

        Args:
            facts: of the run.
            passed: columns that its manifest passed through.
            shard_bytes: size up to which rows share a file.
        """
        self._facts = facts
        self._shard_bytes = shard_bytes
        self._passed = {_free_name(field.name, passed.names): field for field in passed}
        self.passed = passed.names
        fields = [pa.field(name, _kept_type(field.type)) for name, field in self._passed.items()]
        schema = pa.schema([*_OWN, *fields])
        self._features = {field.name: _feature(field, facts.classes) for field in schema}
        described = json.dumps({"info": {"features": {name: each[0] for name, each in self._features.items()}}})
        self._schema = schema.with_metadata({"huggingface": described})

    def convert(self, frame: Frame, picture: Picture | None, output: ChunkOutput) -> dict[str, Any]:  # noqa: ARG002 - of other forms
        """Return the row of a frame."""
        present = np.flatnonzero(np.bincount(masks.decode_png(frame.png).ravel()))
        name = frame.path.rpartition("/")[2]
        row = {name: getattr(frame, name) for name in _OWN.names if name not in {"image", "mask", "classes"}}
        row |= {name: _kept_value(frame.others[field.name], field.type) for name, field in self._passed.items()}
        return row | {
            "image": None if picture is None else {"bytes": picture.data, "path": f"{name}{picture.suffix}"},
            "mask": {"bytes": frame.png, "path": f"{name}.png"},
            "classes": present.tolist(),
        }

    def write(self, rows: Iterable[dict[str, Any]], output: ChunkOutput) -> int:
        """Write the rows as files of a bounded size."""
        held: list[dict[str, Any]] = []
        held_bytes = written = 0
        for row in rows:
            size = sum(len(row[name]["bytes"]) for name in ("image", "mask") if row[name])
            if held and held_bytes + size > self._shard_bytes:
                self._write_shard(held, output)
                written, held, held_bytes = written + len(held), [], 0
            held.append(row)
            held_bytes += size
        if held:
            self._write_shard(held, output)
        output.remove_others(DATA, f"{SPLIT}-{output.number:06d}-")
        return written + len(held)

    def _write_shard(self, rows: list[dict[str, Any]], output: ChunkOutput) -> None:
        shard = output.facts.get("shards", 0)
        sink = pa.BufferOutputStream()
        plain = [name for name in self._schema.names if name not in {"image", "mask"}]
        with pyarrow.parquet.ParquetWriter(
            sink, self._schema, compression="zstd", use_dictionary=plain, write_statistics=plain
        ) as writer:
            for start in range(0, len(rows), GROUP_ROWS):
                writer.write_table(pa.Table.from_pylist(rows[start : start + GROUP_ROWS], schema=self._schema))
        output.write_named(f"{DATA}/{SPLIT}-{output.number:06d}-{shard:02d}.parquet", sink.getvalue().to_pybytes())
        output.facts["shards"] = shard + 1

    def finish(self, target: Target, receipts: Sequence[dict[str, Any]]) -> None:
        """Write the card, and a file without rows where there are none."""
        rows = sum(receipt["rows"] for receipt in receipts)
        if not rows:
            sink = pa.BufferOutputStream()
            pyarrow.parquet.ParquetWriter(sink, self._schema).close()  # datasets fails on a row group without rows
            target.write(f"{DATA}/{SPLIT}-000000-00.parquet", sink.getvalue().to_pybytes())
        missing = sum(len(receipt["missing"]) for receipt in receipts)
        size_bytes = sum(receipt["bytes"] for receipt in receipts)
        target.write("README.md", self._card(rows, size_bytes, missing).encode())

    def _card(self, rows: int, size_bytes: int, missing: int) -> str:
        head = {
            "task_categories": ["image-segmentation"],
            "tags": ["semantic-segmentation", "predictions"],
            "configs": [{"config_name": "default", "data_files": [{"split": SPLIT, "path": f"{DATA}/*.parquet"}]}],
            "dataset_info": {
                "features": [{"name": name, **each[1]} for name, each in self._features.items()],
                "splits": [{"name": SPLIT, "num_bytes": size_bytes, "num_examples": rows}],
                "download_size": size_bytes,
                "dataset_size": size_bytes,
            },
        }
        text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
        table = "\n".join(
            f"| {entry['id']} | {_cell(entry['name'])} | {entry['color']} |" for entry in self._facts.entries
        )
        lineage = "\n".join(f"- {name}: `{_cell(str(value))}`" for name, value in self._facts.lineage.items())
        lacking = f"\n{missing} rows have no image: their picture was missing or had changed.\n" if missing else ""
        return f"""---
{text}---

# Predicted masks of run {self._facts.run_id}

The masks are predictions of a model, not ground truth. A pixel of `mask` is a class id; `classes` are the ids that
occur in it.
{lacking}
| id | class | RGB |
|---|---|---|
{table}

{lineage}
"""


def _free_name(name: str, passed: Sequence[str]) -> str:
    """Return the name of a column of the manifest, which is another one if the name is taken."""
    if name not in _OWN.names:
        return name
    free = f"manifest_{name}"
    while free in passed:
        free = f"manifest_{free}"
    return free


def _kept_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column of the manifest is written: text where datasets knows no such type."""
    if pa.types.is_dictionary(kind):
        return _kept_type(kind.value_type)
    if kind in _PLAIN or pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_decimal128(kind):
        return kind
    return pa.string()


def _kept_value(value: Any, kind: pa.DataType) -> Any:
    if value is None or isinstance(value, str) or _kept_type(kind) != pa.string():
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def _feature(field: pa.Field, classes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a column as datasets describes it: in the metadata of a table, and in a card."""
    if field.type == MASK_IMAGE:
        return {"_type": "Image"}, {"dtype": "image"}
    if field.name == "classes":
        named = {str(number): name for number, name in enumerate(classes)}
        return (
            {"_type": "List", "feature": {"_type": "ClassLabel", "names": [*classes]}},
            {"list": {"class_label": {"names": named}}},
        )
    dtype = _PLAIN.get(field.type, str(field.type))
    return {"_type": "Value", "dtype": dtype}, {"dtype": dtype}


def _cell(text: str) -> str:
    """Return text that a table of Markdown shows as it is."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
