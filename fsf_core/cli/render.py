"""`fsf render`: render the videos of a finished run with their masks, as H.264 that browsers play, with sound.

Writes RUN/videos/<name>.mp4 and its receipt. Started again, it renders what is missing or was drawn otherwise.
Exit codes: 0 done · 2 there is no finished run · 3 a video could not be rendered · 75 a store, a disk or the
cluster failed, try again · 129/130/131/143 interrupted, resumable.
"""

from typing import TYPE_CHECKING

from fsf_core.config import RenderConfig
from fsf_core.options import SCHEMES

if TYPE_CHECKING:
    from fsf_core.manifest import Selection


def run(run_folder: str, item: str | None, config: RenderConfig) -> int:
    """Render and report; returns the exit code."""
    from fsf_core import runs, storage
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show, show_error
    from fsf_core.manifest import open_manifest
    from fsf_core.report.inspect import find_item
    from fsf_core.score.render import render_run

    folder = runs.find_run(run_folder)
    outcome = render_run(
        folder,
        None if item is None else find_item(folder, item),
        style=config.style,
        legend=config.legend,
        clear=config.clear_background,
        address=config.ray_address,
        listed=open_manifest(config.manifest, reading_of(folder)) if config.manifest else None,
        access=storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts),
    )
    shown = run_folder if folder == storage.absolute(run_folder) else storage.redact(folder)
    for rendered in outcome.videos:
        show(f"{storage.join(shown, rendered.path)}: {rendered.frames} frames, sound: {rendered.sound}")
    for name, reason in outcome.failed.items():
        show_error(f"no rendered video of {name}: {reason}")
    print_json({"run": shown, "films": len(outcome.videos), "failed": outcome.failed})
    return EXIT_GATE if outcome.failed else 0


def reading_of(run_uri: str) -> "Selection":
    """Return how the run found the items of its folder, archives or tables.

    Raises:
        OutputError: there is no such run.
    """
    from fsf_core.manifest import Selection
    from fsf_core.runs import read_fingerprint

    facts = read_fingerprint(run_uri).get("selection", {})
    return Selection(
        exclude=tuple(facts.get("exclude", ())),
        tar_ids=facts.get("tar_ids", "key"),
        image_column=facts.get("image_column"),
    )
