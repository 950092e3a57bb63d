"""Which rendered videos still match the run: the others are deleted, or reported."""

from fsf_core import runs, storage
from fsf_core.errors import FetchError
from fsf_core.keys import file_stem
from fsf_core.render.draw import RenderStyle
from fsf_core.render.plan import digest, locate_frames
from fsf_core.render.receipts import FOLDER, RenderedVideo, rendered_videos


def up_to_date(run_uri: str, *, look: RenderStyle | None = None) -> list[RenderedVideo]:
    """Return the rendered videos that show exactly the frames of the run, drawn in a given style, or in any.

    Args:
        run_uri: the run.
        look: the style; None for any.
    """
    candidates = [(each, drawn) for each, drawn in rendered_videos(run_uri) if look is None or drawn == look]
    if not candidates:
        return []
    run_id = runs.read_document(run_uri, "run.json")["run_id"]
    spans = locate_frames(run_uri, {each.item_id for each, _ in candidates})
    return [
        each
        for each, drawn in candidates
        if each.digest == digest(run_id, each.item_id, spans.get(each.item_id, ()), drawn)
    ]


def remove_stale(run_uri: str) -> int:
    """Delete rendered videos that show other frames than the run has, and files that no receipt lists.

    Returns:
        How many files were deleted.
    """
    keep: set[str] = set()
    for each in up_to_date(run_uri):
        keep |= _files_of(each)
    folder = storage.join(run_uri, FOLDER)
    entries = list(storage.list_files(folder, hidden=True)) if storage.exists(folder) else []
    stale = [entry.uri for entry in entries if f"{FOLDER}/{entry.relative}" not in keep]
    for uri in stale:
        storage.remove(uri)
    return len(stale)


def verify(run_uri: str) -> list[str]:
    """Check every rendered video against its receipt and against the run; return one line per problem."""
    problems: list[str] = []
    known: set[str] = set()
    fresh = {each.item_id for each in up_to_date(run_uri)}
    for each, _ in rendered_videos(run_uri):
        known |= _files_of(each)
        problems += _check_file(run_uri, each)
        if each.item_id not in fresh:
            problems.append(f"stale: {each.path} shows other frames than the run has; run `fsf render` again")
    folder = storage.join(run_uri, FOLDER)
    entries = storage.list_files(folder) if storage.exists(folder) else ()
    return problems + [
        f"orphan: {FOLDER}/{entry.relative} has no receipt; it is not part of the run"
        for entry in entries
        if f"{FOLDER}/{entry.relative}" not in known
    ]


def _files_of(rendered: RenderedVideo) -> set[str]:
    """Return the paths of a rendered video and its receipt, relative to the run folder."""
    return {rendered.path, f"{FOLDER}/{file_stem(rendered.item_id)}.json"}


def _check_file(run_uri: str, rendered: RenderedVideo) -> list[str]:
    """Compare a file's checksum with its receipt; return the problem, if there is one."""
    try:
        with storage.open_binary(storage.join(run_uri, rendered.path)) as file:
            sha256 = storage.file_sha256(file)
    except FetchError:
        return [f"missing: {rendered.path} has a receipt, but the file does not exist"]
    return [] if sha256 == rendered.sha256 else [f"torn: {rendered.path} differs from its receipt"]
