"""Which rendered videos still match the run: the others leave it at its next publication, or are reported."""

from fsf_core import runs, storage
from fsf_core.errors import FetchError
from fsf_core.render.draw import RenderStyle
from fsf_core.render.plan import digest, locate_frames
from fsf_core.render.receipts import FOLDER, FoundVideo, RenderedVideo, find_videos, published_videos
from fsf_core.runs import Ledger
from fsf_core.runs.publish import Derived


def up_to_date(ledger: Ledger, *, look: RenderStyle | None = None) -> list[FoundVideo]:
    """Return the rendered videos that show exactly the frames of the run, drawn in a given style, or in any.

    Args:
        ledger: of the run.
        look: the style; None for any.
    """
    candidates = [each for each in find_videos(ledger.uri) if look is None or each.style == look]
    if not candidates:
        return []
    run_id = runs.read_document(ledger.uri, "run.json")["run_id"]
    spans = locate_frames(ledger, {each.video.item_id for each in candidates})
    found: dict[str, FoundVideo] = {}
    for each in candidates:
        item = each.video.item_id
        if each.video.digest == digest(run_id, item, spans.get(item, ()), each.style):
            found.setdefault(item, each)
    return [*found.values()]


def derived_videos(ledger: Ledger, *, look: RenderStyle | None = None) -> list[Derived]:
    """Return the files of all rendered videos that are up to date, for publication.

    Args:
        ledger: of the run.
        look: the style that was asked for: of two videos of an item that drawn in it is taken.
    """
    found = {each.video.item_id: each for each in up_to_date(ledger)}
    if look is not None:
        found |= {each.video.item_id: each for each in up_to_date(ledger, look=look)}
    return [file for each in found.values() for file in each.derived()]


def sound_videos(ledger: Ledger) -> list[Derived]:
    """Return the files of the rendered videos that are up to date and whose bytes are those of their receipts."""
    found = [each for each in up_to_date(ledger) if not _check_file(ledger.uri, each.video, each.path)]
    return [file for each in found for file in each.derived()]


def verify(run_uri: str) -> list[str]:
    """Check every rendered video against its receipt and against the run; return one line per problem."""
    problems: list[str] = []
    known: set[str] = set()
    listed = _listed_videos(run_uri)
    fresh = {each.video.item_id for each in up_to_date(runs.open_ledger(run_uri))}
    for receipt, each in published_videos(run_uri):
        known.add(receipt)
        if each is None:
            problems.append(f"torn: {receipt} is not the receipt of a rendered video; run `fsf render` again")
            continue
        known.add(each.path)
        damage = _check_file(run_uri, each, each.path)
        problems += damage
        if listed.pop(each.path, each.sha256) != each.sha256:
            problems.append(f"torn: the receipt of {each.path} differs from manifest.json")
        if each.item_id not in fresh and not damage:
            problems.append(f"stale: {each.path} shows other frames than the run has; run `fsf render` again")
    problems += [f"missing: {path} is listed in manifest.json and has no receipt" for path in listed]
    folder = storage.join(run_uri, FOLDER)
    entries = storage.list_files(folder) if storage.exists(folder) else ()
    return problems + [
        f"orphan: {FOLDER}/{entry.relative} has no receipt; it is not part of the run"
        for entry in entries
        if f"{FOLDER}/{entry.relative}" not in known
    ]


def _listed_videos(run_uri: str) -> dict[str, str]:
    """Return path and sha256 of the videos that manifest.json lists; none while the run is not finished."""
    if not storage.exists(storage.join(run_uri, "_SUCCESS")):
        return {}
    files = runs.read_document(run_uri, "manifest.json")["files"]
    return {file["path"]: file["sha256"] for file in files if file["table"] == FOLDER}


def _check_file(run_uri: str, rendered: RenderedVideo, path: str) -> list[str]:
    """Compare the checksum of a file with its receipt; return the problem, if there is one.

    Args:
        run_uri: the run folder.
        rendered: the receipt.
        path: where the file is now, inside the run.
    """
    try:
        with storage.open_binary(storage.join(run_uri, path)) as file:
            sha256 = storage.file_sha256(file)
    except FetchError:
        return [f"missing: {rendered.path} has a receipt, but the file does not exist"]
    return [] if sha256 == rendered.sha256 else [f"torn: {rendered.path} differs from its receipt"]
