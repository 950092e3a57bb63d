"""`fsf score`: run the job, print its totals, and exit with the code that the gates decide."""

from typing import Any

from fsf_core.config import ScoreConfig


def run(config: ScoreConfig) -> int:
    """Score and report; returns the exit code."""
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show, show_error
    from fsf_core.cli.score_table import table
    from fsf_core.score.gates import failed_gates
    from fsf_core.score.job import score

    summary = score(config)
    if "nights" in summary:
        return _report_nights(summary["nights"])
    show(table(summary), lines=True)
    print_json(summary)
    gates = failed_gates(summary, max_failed_share=config.max_failed_share)
    for sentence in gates:
        show_error(f"gate: {sentence}")
    return EXIT_GATE if gates else 0


def _report_nights(nights: list[dict[str, Any]]) -> int:
    """Report the nights of a range; returns the exit code: that of the gates where one was stopped or refused."""
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show, show_error

    for night in nights:
        items = night.get("items", {})
        scored = f": {items['scored']} of {items['total']} items scored, {items['failed']} failed" if items else ""
        show(f"{night['night']} {night['state']}{scored}")
    print_json({"nights": nights})
    for night in nights:
        for sentence in filter(None, [night.get("error"), *night.get("gates", ())]):
            show_error(f"gate: {night['night']}: {sentence}")
    return EXIT_GATE if any(night.get("error") or night.get("gates") for night in nights) else 0
