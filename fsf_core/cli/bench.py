"""`fsf bench`: measure how much of the bare ONNX Runtime session's speed the job keeps, on your machine and images.

Scores the first items of the manifest into a temporary folder, then runs the bare session with the same model, batch,
threads and number of processes on inputs in memory. Runs on this machine only.
The last line on stdout is the comparison as one JSON document; `efficiency` is null where there are too few frames.
"""

import dataclasses

from fsf_core.config import BenchConfig


def run(config: BenchConfig) -> int:
    """Measure and report; returns the exit code."""
    from fsf_core.bench import measure
    from fsf_core.cli.output import print_json, show

    found = measure(config)
    show(f"{found.frames} frames, {found.sessions} sessions on {found.provider}, {config.precision}")
    for name, rate in (
        ("bare session", found.bare_frames_per_s),
        ("job, in steady state", found.steady_frames_per_s),
        ("job, start included", found.total_frames_per_s),
    ):
        if rate is not None:
            share = "" if found.steady_frames_per_s is None else f"{rate / found.bare_frames_per_s:8.2f}"
            show(f"  {name:<22}{rate:10.2f} frames/s{share}")
    if found.steady_frames_per_s is None:
        show(
            f"{found.frames} frames are too few to compare the job with the bare session: most of their time is the "
            f"start. Pass --frames {found.sufficient_frames}, and a manifest that has as many."
        )
    print_json(dataclasses.asdict(found) | {"efficiency": found.efficiency})
    return 0
