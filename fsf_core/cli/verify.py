"""`fsf verify`: check every committed file against its receipt, every unit once, every item with one outcome.

Exit codes: 0 whole · 2 there is no run · 3 something is damaged, duplicate or missing, or the run has not finished.
"""


def run(run_folder: str, *, repair: bool) -> int:
    """Print one line per problem, and repair the run where asked; returns the exit code."""
    from fsf_core import render, runs, storage
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show
    from fsf_core.runs import video_stats

    folder = runs.find_run(run_folder)
    shown = run_folder if folder == storage.absolute(run_folder) else storage.redact(folder)
    problems = runs.verify(folder) + video_stats.verify(folder) + render.verify(folder)
    for problem in problems:
        show(problem)
    document: dict[str, object] = {"run": shown, "problems": len(problems)}
    if problems and repair:
        outcome = runs.repair(folder, render.sound_videos)
        document["repaired"] = {
            "parts": len(outcome.damaged),
            "files": outcome.removed_files,
            "finished": outcome.finished,
        }
        show(
            "repaired: the run is whole; a rendered video that was damaged is made again by `fsf render`"
            if outcome.finished
            else f"repaired: what was damaged left the run ({len(outcome.damaged)} parts); start its score command "
            "again, which scores their items anew"
        )
        problems = [] if outcome.finished else problems
    elif problems:
        show("run `fsf verify --repair`, then start the score command again")
    print_json(document)
    return EXIT_GATE if problems else 0
