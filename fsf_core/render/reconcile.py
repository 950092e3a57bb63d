"""Which rendered videos show what the run holds now; the others are deleted, or reported."""

from fsf_core import runs, storage
from fsf_core.errors import FetchError
from fsf_core.keys import file_stem
from fsf_core.render.draw import RenderStyle
from fsf_core.render.plan import digest, locate_frames
from fsf_core.render.receipts import FOLDER, RenderedVideo, rendered_videos


def up_to_date(run_uri: str, *, look: RenderStyle | None = None) -> list[RenderedVideo]:
    """The films that show the frames that the run has now, and the look that is asked for, where one is."""
    every = [(film, drawn) for film, drawn in rendered_videos(run_uri) if look is None or drawn == look]
    if not every:
        return []
    run_id = runs.read_document(run_uri, "run.json")["run_id"]
    units = locate_frames(run_uri, {film.item_id for film, _ in every})
    return [
        film for film, drawn in every if film.digest == digest(run_id, film.item_id, units.get(film.item_id, ()), drawn)
    ]


def remove_stale(run_uri: str) -> int:
    """Delete films that were made of other frames than the run has now, and what no receipt lists; returns how many."""
    known: set[str] = set()
    stale = 0
    for film in up_to_date(run_uri):
        known |= {film.path, f"{FOLDER}/{file_stem(film.item_id)}.json"}
    folder = storage.join(run_uri, FOLDER)
    for entry in list(storage.list_files(folder, hidden=True)) if storage.exists(folder) else ():
        if f"{FOLDER}/{entry.relative}" not in known:
            storage.remove(entry.uri)
            stale += 1
    return stale


def verify(run_uri: str) -> list[str]:
    """Check every film against its receipt, and against what the run holds now; returns what is wrong, in words."""
    wrong: list[str] = []
    known: set[str] = set()
    fresh = {film.item_id for film in up_to_date(run_uri)}
    for film, _ in rendered_videos(run_uri):
        known |= {film.path, f"{FOLDER}/{file_stem(film.item_id)}.json"}
        wrong += _wrong_with(run_uri, film)
        if film.item_id not in fresh:
            wrong.append(f"stale: {film.path} was made of other frames than the run has now; run `fsf render` again")
    folder = storage.join(run_uri, FOLDER)
    found = storage.list_files(folder) if storage.exists(folder) else ()
    return wrong + [
        f"orphan: {FOLDER}/{entry.relative} has no receipt; it is not part of the run"
        for entry in found
        if f"{FOLDER}/{entry.relative}" not in known
    ]


def _wrong_with(run_uri: str, film: RenderedVideo) -> list[str]:
    try:
        with storage.open_binary(storage.join(run_uri, film.path)) as file:
            sha256 = storage.sha256_of(file)
    except FetchError:
        return [f"missing: {film.path} has a receipt and is not there"]
    return [] if sha256 == film.sha256 else [f"torn: {film.path} differs from its receipt"]
