"""The separate stages as sleepers: each takes the time of its work and no CPU, so that what remains is Ray's."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from ray.data.block import Block
from ray.data.datasource import Datasink

from fsf_core.stages import units
from fsf_core.stages.decode_settings import TABLE_UNITS
from fsf_core.stages.infer import CHUNK_FRAMES
from tests.bench.sleeping_model import SleepingGpu

MASK_BYTES = 2_000
"""Bytes of a mask of 512×512."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Milliseconds per frame of each stage, and the bytes that it hands on."""

    decode_ms: float
    mask_ms: float
    write_ms: float
    infer_ms: float
    input_bytes: int
    output_bytes: int
    table_units: int = TABLE_UNITS
    """Set by the pipeline, as that of the decode stage."""


def decode(rows: pa.Table, settings: Costs, **_: Any) -> Iterator[pa.Table]:
    """Return rows with as many input bytes as frames have."""
    for start in range(0, rows.num_rows, settings.table_units):
        part = rows.slice(start, settings.table_units).select(["item_id"])
        time.sleep(settings.decode_ms * part.num_rows / 1e3)
        yield _with_bytes(part, "inputs", settings.input_bytes)


def mask(table: pa.Table, settings: Costs, **_: Any) -> pa.Table:
    """Return rows with as many bytes as masks have."""
    time.sleep(settings.mask_ms * table.num_rows / 1e3)
    return _with_bytes(table.drop_columns(["outputs"]), "masks", MASK_BYTES)


class Infer:
    """An actor whose GPU serves one call at a time."""

    def __init__(self, *, costs: Costs, times: str, **_: Any) -> None:
        self._costs, self._gpu = costs, SleepingGpu(costs.infer_ms / 1e3, times, None)

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Return rows with as many bytes as outputs have."""
        for start in range(0, table.num_rows, CHUNK_FRAMES):
            part = table.slice(start, CHUNK_FRAMES)
            with self._gpu.call(part.num_rows):
                inferred = _with_bytes(part.drop_columns(["inputs"]), "outputs", self._costs.output_bytes)
            yield inferred


class Sink(Datasink[None]):
    """A sink that keeps nothing."""

    def __init__(self, costs: Costs, part_units: int) -> None:
        self._costs, self._part_units = costs, part_units

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """Take the time that a part takes."""
        del ctx
        time.sleep(self._costs.write_ms * sum(block.num_rows for block in blocks) / 1e3)

    @property
    def min_rows_per_write(self) -> int | None:
        """Units that are collected for one part."""
        return self._part_units


def _with_bytes(table: pa.Table, name: str, size: int) -> pa.Table:
    return table.append_column(name, units.from_bytes(units.allocate(size * table.num_rows), [size] * table.num_rows))
