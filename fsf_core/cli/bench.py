"""`fsf bench`: measure how much of the bare ONNX Runtime session's speed the job keeps, on your machine and images.

Scores the first items of the manifest into a temporary folder, then runs the bare session with the same model, batch,
threads and number of processes on inputs in memory. Runs on this machine only.
The last line on stdout is the comparison as one JSON document.
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
        show(f"  {name:<22}{rate:10.2f} frames/s{rate / found.bare_frames_per_s:8.2f}")
    print_json(dataclasses.asdict(found) | {"efficiency": found.efficiency})
    return 0
