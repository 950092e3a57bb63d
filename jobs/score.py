"""Score a manifest with a bundle: masks, statistics per class and failures as Parquet.

On this machine:
    fsf score --bundle bundles/oranges --manifest photos/ --out runs/today --provider cpu
On a cluster, from a checkout; every night the same command:
    ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.score --bundle s3://models/oranges
        --manifest s3://data/today.parquet --out "s3://scores/{date}" --provider cuda

Reads   a table (Parquet, CSV, JSON Lines) with the column `uri`, and `id`, `kind` and your own columns if you like;
        or a .txt of paths, a tar archive, a glob, one media file, or a folder.
Writes  RUN/masks, RUN/class_stats, RUN/failures, at the end summary.json and _SUCCESS. Every node must see the folder.
Resumes when it is started again: what is committed is not scored again, failed items are retried.
Exits   0 done · 2 the command or its input is wrong, nothing ran · 3 a gate failed: more failures than
        --max-failed-share allows, or only failures · 75 a store, a disk, a GPU or the cluster failed, try again ·
        129/130/131/143 interrupted, resumable.
        The command `ray job submit` itself exits with 1 for any of them; the job's status has the code.
Prints  the summary as one JSON document, the last line on stdout.
"""

import sys

from fsf_core.cli.app import run

if __name__ == "__main__":
    run(["score", *sys.argv[1:]])
