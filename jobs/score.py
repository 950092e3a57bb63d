"""Manifest and bundle to a run: masks, per-class statistics and failures as Parquet.

Here:
    fsf score --bundle bundles/oranges --manifest photos/ --out runs/today --provider cpu
On a cluster, every night, with the same words:
    ray job submit --working-dir . -- python -m jobs.score --bundle … --manifest … --out … --provider cuda

Reads a Parquet, CSV or JSON Lines table (`uri`, and if you like `id`, `kind` and columns of your own, which are passed
through), a text file of paths, a folder, a glob or one media file.
Writes RUN/masks, RUN/class_stats, RUN/failures, then summary.json and _SUCCESS. Started again it does the rest.
Exit codes: 0 done · 2 the command or its input is wrong, nothing ran · 3 more items failed than --max-failed-share
allows, or all of them · 130/143 interrupted, resumable. `ray job submit` itself shows 1 for any of them.
The last line on stdout is the summary as one JSON document.
"""

import sys

from fsf_core.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
