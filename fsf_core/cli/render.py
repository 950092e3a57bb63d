"""Films of a finished run: every video with its masks drawn in, as H.264 that browsers play, with the source's sound.

    fsf render runs/today
    fsf render runs/today clip.mp4 --style mask --legend

Writes RUN/videos/<name>.mp4 and its receipt. Started again it makes what is missing, or was made of other frames.
Exit codes: 0 done · 2 no finished run is there · 3 a film could not be made · 130/143 interrupted, resumable.
"""

import sys

from fsf_core.config import RenderConfig


def run(run_folder: str, item: str | None, config: RenderConfig) -> int:
    """Render and report; returns the exit code."""
    from fsf_core import storage
    from fsf_core.cli.app import EXIT_GATE, print_json
    from fsf_core.manifest import open_manifest
    from fsf_core.report.inspect import find_item
    from fsf_core.score.render import render_run

    folder = storage.absolute(run_folder)
    drawn = render_run(
        folder,
        None if item is None else find_item(folder, item),
        style=config.style,
        legend=config.legend,
        clear=config.clear_background,
        address=config.ray_address,
        listed=open_manifest(config.manifest) if config.manifest else None,
    )
    for film in drawn.videos:
        print(f"{storage.join(run_folder, film.path)}: {film.frames} frames, sound: {film.sound}")
    for name, reason in drawn.failed.items():
        print(f"no film of {name}: {reason}", file=sys.stderr)
    print_json({"run": run_folder, "films": len(drawn.videos), "failed": drawn.failed})
    return EXIT_GATE if drawn.failed else 0
