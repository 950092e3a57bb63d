"""What the rewrites of a graph save on a CPU: the graph as the exporter writes it, compared with the one in the bundle.

Run `python -m tests.bench.bench_graph` (P, E, and P in int8; two minutes) or with `--only p,e,int8`; with
`--precisions` the rewritten P and E in fp32, fp16 and int8 are compared instead. Sessions with one thread take turns in
one process, batches of 4, and count CPU time, so that other load on the machine affects all alike. The last line is
JSON.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from fsf_core.export.graph import model_bytes
from fsf_core.export.precisions import to_fp16, to_int8
from fsf_core.export.rewrite import rewrite
from fsf_core.export.sample_images import drawn_images
from fsf_core.model.preprocess import PROFILES, fit, normalise
from fsf_core.model.session import Session
from tests.bench import meter
from tests.bench.inputs import written_graph

BATCH, WARM_UP, ROUNDS = 4, 2, 21
PROFILE = PROFILES["fastsegformer"]
MODELS = ("p", "e", "int8")


def inputs() -> list[NDArray[np.float32]]:
    """Return drawn oranges and other drawn images as the network's input [1, 3, 224, 224]."""
    return [normalise(fit(sample.image_HWC, PROFILE)[None], PROFILE.levels()) for sample in drawn_images()]


def models(name: str) -> dict[str, onnx.ModelProto]:
    """Return the graph as it is written and as it is rewritten; of int8, both quantized."""
    written = written_graph("p" if name == "int8" else name)
    both = {"as written": written, "rewritten": rewrite(written).model}
    return {graph: to_int8(model, inputs()) for graph, model in both.items()} if name == "int8" else both


def cpu_ms(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return the CPU time of each call in milliseconds, round by round; a round makes every call once."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP + ROUNDS):
        for name, call in calls.items():
            started = time.process_time()
            call()
            spent[name].append(1e3 * (time.process_time() - started))
    return {name: each[WARM_UP:] for name, each in spent.items()}


def measure(name: str) -> dict[str, float]:
    """Compare both graphs of one model; times are per frame."""
    sessions = {graph: Session(model_bytes(model)) for graph, model in models(name).items()}
    batch_NCHW = np.random.default_rng(0).random((BATCH, 3, 224, 224), np.float32)
    spent = cpu_ms({graph: lambda session=session: session.run(batch_NCHW) for graph, session in sessions.items()})
    before, after = (np.array(spent[graph]) for graph in ("as written", "rewritten"))
    wanted, found = (
        np.concatenate([session.run(one) for one in inputs()]) for session in (sessions[graph] for graph in sessions)
    )
    return {
        "written_ms": round(float(np.median(before)) / BATCH, 2),
        "rewritten_ms": round(float(np.median(after)) / BATCH, 2),
        "ratio": round(float(np.median(after / before)), 4),
        "ratio_quartiles": [round(float(each), 4) for each in np.quantile(after / before, (0.25, 0.75))],
        "logit_difference": float(np.abs(wanted - found).max()),
        "logit_absmax": float(np.abs(wanted).max()),
        "pixels": int(wanted[:, 0].size),
        "differing_px": int((wanted.argmax(1) != found.argmax(1)).sum()),
    }


def precision_ms(name: str) -> dict[str, float]:
    """Return the CPU time of a frame in each precision of one network, of random weights, in milliseconds."""
    plain = rewrite(written_graph(name)).model
    graphs = {"fp32": plain, "fp16": to_fp16(plain), "int8": to_int8(plain, inputs())}
    sessions = {precision: Session(model_bytes(graph)) for precision, graph in graphs.items()}
    batch_NCHW = np.random.default_rng(0).random((BATCH, 3, 224, 224), np.float32)
    spent = cpu_ms({each: lambda session=session: session.run(batch_NCHW) for each, session in sessions.items()})
    return {precision: round(float(np.median(each)) / BATCH, 2) for precision, each in spent.items()}


def main() -> None:
    """Measure the chosen models, and print a line for each and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(MODELS), help=f"some of {','.join(MODELS)}")
    parser.add_argument("--precisions", action="store_true", help="compare the precisions of P and E instead")
    given = parser.parse_args()
    if given.precisions:
        times = {name: precision_ms(name) for name in ("p", "e")}
        for name, row in times.items():
            print(f"{name:<6}" + "".join(f"{ms:8.2f} ms {precision}" for precision, ms in row.items()))
        print(json.dumps({"machine": meter.machine(), "rounds": ROUNDS, **times}))
        return
    found = {name: measure(name) for name in given.only.split(",")}
    for name, row in found.items():
        times = f"{row['written_ms']:8.2f} ms as written {row['rewritten_ms']:8.2f} ms rewritten"
        print(f"{name:<6}{times}{row['ratio']:8.3f}{row['differing_px']:8} of {row['pixels']} pixels differ")
    print(json.dumps({"machine": meter.machine(), "rounds": ROUNDS, **found}))


if __name__ == "__main__":
    main()
