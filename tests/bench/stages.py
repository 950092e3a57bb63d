"""CPU time of every stage, in one process on one thread, without Ray: the lower bound of a frame's cost.

`python -m tests.bench.stages --bundle B --manifest M --frames N --out DIR` prints milliseconds per frame on a CPU, as
JSON. The GPU bench runs the stages in the same way.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from fsf_core import masks
from fsf_core.config import ScoreConfig
from fsf_core.manifest import open_manifest
from fsf_core.model.bundle_files import load_bundle
from fsf_core.runs.staging import take_over
from fsf_core.score import plan
from fsf_core.score.placement import Placement
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages.decode import decode
from fsf_core.stages.infer import Infer
from fsf_core.stages.mask import mask
from fsf_core.stages.write import write
from tests.support.decode_rows import decode_rows

BLOCK_ITEMS = 64

CPU_BATCH_FRAMES = 4

T = TypeVar("T")


def main() -> None:
    """Measure on a CPU, and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True, help="number of images, from the first one on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-region-px", type=int, help="also find connected regions, from this number of pixels on")
    given = parser.parse_args()
    more = {"regions": True, "min_region_px": given.min_region_px} if given.min_region_px else {}
    spec = specify(
        given.bundle, given.manifest, given.out, gpu=False, precision="fp32", threads=1, batch_frames=CPU_BATCH_FRAMES,
        **more,
    )  # fmt: skip
    print(json.dumps(costs(spec, open_model(spec, "cpu"), given.manifest, items=given.frames)))


def specify(bundle_folder: Path, manifest: Path, out: Path, *, gpu: bool, precision: str, **more: Any) -> PipelineSpec:
    """Return the pipeline that the job plans for a GPU, or for CPUs."""
    config = ScoreConfig(bundle=str(bundle_folder), manifest=str(manifest), out=str(out), precision=precision, **more)
    bundle = load_bundle(str(bundle_folder))
    out.mkdir(parents=True, exist_ok=True)
    attempt: Any = SimpleNamespace(staging=take_over(str(out), 1, adopt=False), run_id="bench")
    return plan.plan_pipeline(
        config,
        bundle=bundle,
        manifest=open_manifest(str(manifest)),
        appearance=plan.ClassAppearance(names=bundle.classes, palette=bundle.palette),
        placement=Placement(provider="cuda" if gpu else "cpu", min_actors=1, asked_actors=1, actors=1, threads=1),
        attempt=attempt,
        pending=1,
    )


def open_model(spec: PipelineSpec, provider: str, **more: Any) -> Infer:
    """Return the infer stage of a pipeline on a provider: on a CPU, that of a GPU pipeline is its rehearsal."""
    on_device = spec.separate_stages
    return Infer(**spec.model | {"provider": provider, "on_device": on_device} | more)


def decoded_tables(spec: PipelineSpec, manifest: Path, *, items: int | None = None) -> Iterator[pa.Table]:
    """Yield the tables that the decode stage outputs for the first items of a manifest, or for all."""
    rows = decode_rows(open_manifest(str(manifest))).slice(0, items)
    for start in range(0, len(rows), BLOCK_ITEMS):
        yield from decode(rows.slice(start, BLOCK_ITEMS), spec.decode)


def tables_of(out: Path) -> dict[str, pa.Table]:
    """Return the rows of every table that was written, in order of their keys."""
    found = {}
    for name, keys in (
        ("masks", ("item_id", "frame_index")),
        ("class_stats", ("item_id", "frame_index", "class_id")),
        ("regions", ("item_id", "frame_index", "region")),
        ("failures", ("item_id",)),
    ):
        parts = [pq.ParquetFile(path).read() for path in sorted(out.glob(f".attempt-*/{name}/*.parquet"))]
        if parts:
            found[name] = pa.concat_tables(parts).sort_by([(key, "ascending") for key in keys])
    return found


def costs(spec: PipelineSpec, infer: Infer, manifest: Path, *, items: int | None = None) -> dict[str, float]:
    """Return the CPU milliseconds per frame of every stage on one thread.

    Args:
        spec: of the pipeline.
        infer: its model, which the first item warms up.
        manifest: list of items.
        items: how many of them, from the first one on; all without a number.
    """
    cv2.setNumThreads(1)
    masks.compile_kernels()
    for table in decoded_tables(spec, manifest, items=1):
        list(infer(table))
    spent, frames = Counter[str](), 0

    def timed(name: str, call: Callable[[], T]) -> T:
        before = time.process_time()
        result = call()
        spent[name] += time.process_time() - before
        return result

    tables = decoded_tables(spec, manifest, items=items)
    while (table := timed("decode", lambda: next(tables, None))) is not None:
        inferred = timed("infer", lambda table=table: list(infer(table)))
        masked = timed("mask", lambda inferred=inferred: [mask(one, spec.mask) for one in inferred])
        timed("write", lambda masked=masked: write(pa.concat_tables(masked), spec.write))
        frames += sum(len(each) for each in table.column("frames").to_pylist())
    return {name: round(1e3 * seconds / max(1, frames), 3) for name, seconds in spent.items()}


if __name__ == "__main__":
    main()
