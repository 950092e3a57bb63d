"""`fsf prune`: remove old runs of a series.

Exit codes: 0 done · 2 the options are wrong, there are no runs, or another prune is running · 75 a store or a disk
failed, or the command was killed: the same command goes on.
"""


def run(folder: str, *, keep: str | None, keep_last: int | None, dry_run: bool) -> int:
    """Remove and report; returns the exit code."""
    from fsf_core.cli.output import print_json, show
    from fsf_core.nights.prune import prune

    done = prune(folder, keep=keep, keep_last=keep_last, dry_run=dry_run)
    for each in done.kept:
        show(f"kept {each['run']}: {each['reason']}")
    for each in done.removed:
        show(f"{'would remove' if dry_run else 'removed'} {each['run']}: {each['bytes'] / 1e6:.1f} MB")
    print_json(
        {"runs": folder, "dry_run": dry_run, "removed": done.removed, "kept": done.kept, "bytes": done.bytes}
    )  # fmt: skip
    return 0
