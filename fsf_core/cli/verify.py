"""`fsf verify`: check every committed file against its receipt, every unit once, every item with one outcome.

Exit codes: 0 whole · 2 there is no run · 3 something is damaged, duplicate or missing, or the run has not finished.
"""


def run(run_folder: str) -> int:
    """Print one line per problem; returns the exit code."""
    from fsf_core import render, runs, storage
    from fsf_core.cli.app import EXIT_GATE, print_json
    from fsf_core.runs import video_stats

    folder = storage.absolute(run_folder)
    problems = runs.verify(folder) + video_stats.verify(folder) + render.verify(folder)
    for problem in problems:
        print(problem)
    print_json({"run": run_folder, "problems": len(problems)})
    return EXIT_GATE if problems else 0
