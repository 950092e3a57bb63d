"""CPU time of the steps inside decode and infer, beside the bare calls of the libraries that do the work.

    python -m tests.bench.stage_steps                           the null model over 512 drawn JPEGs of 512×512
    python -m tests.bench.stage_steps --bundle B --manifest M   another model over other JPEGs

One process, one thread, without Ray. A step is a function of the program, with all it does around the library. The bare
calls take turns with the stages, block by block, so that both find the machine in the same state; of the rest of
decode, they read the file and hash it. Prints milliseconds a frame, the medians of the blocks.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg

from fsf_core.manifest import open_manifest
from fsf_core.media import images
from fsf_core.model import preprocess
from fsf_core.model.bundle_files import read_model
from fsf_core.model.session import Session
from fsf_core.score.spec import PipelineSpec
from fsf_core.stages import decode, units
from fsf_core.stages.infer import Infer
from tests.bench.inputs import draw, null_model, write_manifest
from tests.bench.stages import BLOCK_ITEMS, CPU_BATCH_FRAMES, open_model, specify
from tests.support.decode_rows import decode_rows

WHOLE, REST = "in all", "the rest"

STEPS = {
    ("decode", "header and pixels"): (images, "decode_image"),
    ("decode", "fit into the input"): (decode, "fit_within"),
    ("decode", "figures of the input"): (decode, "input_figures"),
    ("decode", "units to a table"): (units, "to_table"),
    ("infer", "normalise"): (preprocess, "normalise"),
    ("infer", "run the session"): (Session, "run_into"),
}
"""Where a stage looks the function of a step up."""

Spent = Counter[tuple[str, str]]
"""CPU seconds by stage and step."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--frames", type=int, default=512, help="number of images, from the first one on")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="fsf-bench-") as folder:
        home = Path(folder)
        manifest = given.manifest
        if manifest is None:
            drawn = draw(home / "images", frames=40, height_px=512, width_px=512)
            manifest = write_manifest(drawn, home / "images.csv", given.frames)
        spec = specify(given.bundle or null_model(home), manifest, home / "out", gpu=False, precision="fp32")
        show(measure(spec, decode_rows(open_manifest(str(manifest))).slice(0, given.frames)))


def measure(spec: PipelineSpec, rows: pa.Table) -> list[tuple[Spent, Spent]]:
    """Return the CPU seconds a frame of the steps and of the bare calls, for every block of images."""
    infer = open_model(spec, "cpu", threads=1, batch_frames=CPU_BATCH_FRAMES)
    bare = Session(read_model(spec.bundle, spec.variant), provider="cpu", threads=1)
    found = []
    for start in (0, *range(0, len(rows), BLOCK_ITEMS)):
        block = rows.slice(start, BLOCK_ITEMS)
        both = of_stages(block, spec, infer), of_libraries(block, spec, bare)
        found.append(tuple(Spent({step: seconds / len(block) for step, seconds in each.items()}) for each in both))
    return found[1:]  # the first block warms up


def of_stages(rows: pa.Table, spec: PipelineSpec, infer: Infer) -> Spent:
    """Return the CPU seconds of the stages and their steps."""
    spent = Spent()
    with ExitStack() as patches:
        for step, (owner, name) in STEPS.items():
            patches.enter_context(mock.patch.object(owner, name, timed(spent, step, getattr(owner, name))))
        with counted(spent, ("decode", WHOLE)):
            tables = [*decode.decode(rows, spec.decode)]
        with counted(spent, ("infer", WHOLE)):
            for table in tables:
                for _ in infer(table):  # none is kept, as in the scoring actor
                    pass
    for stage in ("decode", "infer"):
        spent[stage, REST] = spent[stage, WHOLE] - sum(spent[step] for step in STEPS if step[0] == stage)
    return spent


def of_libraries(rows: pa.Table, spec: PipelineSpec, session: Session) -> Spent:
    """Return the CPU seconds of the bare calls, which decode and resize into memory that is used again."""
    spent, inputs = Spent(), []
    profile = spec.decode.profile
    room, resized = np.empty(0, np.uint8), np.empty((profile.height_px, profile.width_px, 3), np.uint8)
    for uri in rows.column("uri").to_pylist():
        with counted(spent, ("decode", REST)), Path(uri).open("rb") as file:
            data = file.read()
        height_px, width_px = simplejpeg.decode_jpeg_header(data)[:2]
        if room.size < 3 * height_px * width_px:
            room = np.empty(3 * height_px * width_px, np.uint8)
        with counted(spent, ("decode", "header and pixels")):
            image_HWC = simplejpeg.decode_jpeg(data, "BGR", strict=True, buffer=room)
        with counted(spent, ("decode", "fit into the input")):
            cv2.resize(image_HWC, (profile.width_px, profile.height_px), dst=resized)
        with counted(spent, ("decode", REST)):
            hashlib.sha256(data).hexdigest()
        inputs.append(resized.copy())
    batch_NCHW = preprocess.normalise(np.stack(inputs), profile.levels())
    for start in range(0, len(batch_NCHW), CPU_BATCH_FRAMES):
        with counted(spent, ("infer", "run the session")):
            session.run(batch_NCHW[start : start + CPU_BATCH_FRAMES])
    for stage in ("decode", "infer"):
        spent[stage, WHOLE] = sum(seconds for step, seconds in spent.items() if step[0] == stage)
    return spent


def timed(spent: Spent, step: tuple[str, str], call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose CPU time is counted for a step."""

    def counting(*arguments: Any, **named: Any) -> Any:
        with counted(spent, step):
            return call(*arguments, **named)

    return counting


@contextmanager
def counted(spent: Spent, step: tuple[str, str]) -> Iterator[None]:
    """Count the CPU time of the block for a step."""
    before = time.process_time()
    yield
    spent[step] += time.process_time() - before


def show(found: list[tuple[Spent, Spent]]) -> None:
    """Print the medians of all blocks."""
    print("| CPU ms a frame | the stage | the bare call |\n|---|---|---|")
    for stage in ("decode", "infer"):
        for step in [*(step for step in STEPS if step[0] == stage), (stage, REST), (stage, WHOLE)]:
            ours, bare = (1e3 * statistics.median(each[at][step] for each in found) for at in (0, 1))
            print(f"| {stage}: {step[1]} | {ours:.3f} | {f'{bare:.3f}' if bare else ''} |")


if __name__ == "__main__":
    main()
