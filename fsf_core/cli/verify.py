"""Check a run: every committed file against its receipt, every unit once, every item accounted for.

    fsf verify runs/today

Exit codes: 0 whole · 2 no run is there · 3 something is torn, duplicate or missing, or the run has not finished.
"""


def run(run_folder: str) -> int:
    """Print what is wrong, if anything; returns the exit code."""
    from fsf_core import render, storage
    from fsf_core import runs as ledger
    from fsf_core.cli.app import EXIT_GATE, print_json
    from fsf_core.runs import video_stats

    folder = storage.absolute(run_folder)
    wrong = ledger.verify(folder) + video_stats.verify(folder) + render.verify(folder)
    for line in wrong:
        print(line)
    print_json({"run": run_folder, "problems": len(wrong)})
    return EXIT_GATE if wrong else 0
