"""`fsf pin`: keep a run whatever its age, or no longer."""


def run(run_folder: str, *, reason: str | None, unpin: bool) -> int:
    """Pin or unpin, and report; returns the exit code."""
    from fsf_core import runs, storage
    from fsf_core.cli.output import print_json, show
    from fsf_core.nights import pins

    uri = runs.find_run(run_folder)
    if unpin:
        pins.unpin(uri)
    else:
        pins.pin(uri, reason)
    shown = storage.redact(uri)
    show(f"{'unpinned' if unpin else 'pinned'} {shown}")
    print_json({"run": shown, "pinned": not unpin, "reason": None if unpin else reason})
    return 0
