"""`fsf score`: run the job, print what it found, and end with the exit code that the gates decide."""

import sys

from fsf_core.config import ScoreConfig


def run(config: ScoreConfig) -> int:
    """Score and report; returns the exit code."""
    from fsf_core.cli.app import EXIT_GATE, print_json
    from fsf_core.score.job import score

    summary = score(config)
    items = summary["items"]
    print(_table(summary))
    print_json(summary)
    share = items["failed"] / items["total"]
    if share > config.max_failed_share or items["failed"] == items["total"]:
        print(
            f"gate: {items['failed']} of {items['total']} items failed, more than --max-failed-share "
            f"{config.max_failed_share:g} allows; see the failures table in {summary['out']}",
            file=sys.stderr,
        )
        return EXIT_GATE
    unmade = summary.get("videos", {}).get("failed", {})
    for name, reason in unmade.items():
        print(f"gate: no film of {name}: {reason}", file=sys.stderr)
    return EXIT_GATE if unmade else 0


def _table(summary: dict[str, object]) -> str:
    """What people look for first."""
    import numpy as np

    from fsf_core.masks import count_table

    classes: list[dict[str, object]] = summary["classes"]  # type: ignore[assignment] # JSON document
    items: dict[str, int] = summary["items"]  # type: ignore[assignment] # JSON document
    counts = count_table([str(c["name"]) for c in classes], np.asarray([c["pixels"] for c in classes], np.int64))
    failures = ", ".join(f"{count} {name}" for name, count in dict(summary["failures"]).items())  # type: ignore[call-overload] # JSON document
    scored = f"{items['scored']} of {items['total']} items scored, {summary['frames']} frames"
    return f"{counts}\n{scored}, {items['failed']} failed{f' ({failures})' if failures else ''}"
