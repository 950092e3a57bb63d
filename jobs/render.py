"""Render the videos of a finished run with their masks, as H.264 with the sound of the source.

On this machine:
    fsf render runs/today
    fsf render runs/today clip.mp4 --style mask --legend
On a cluster, from a checkout:
    ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.render s3://scores/2026-11-22 --legend

Reads   the masks of the run, and the videos from where they were scored. If their URIs held a password or a
        signature, the run does not know it: give --manifest.
Writes  RUN/videos/<name>.mp4 and its receipt. Started again, it renders what is missing or was drawn otherwise.
Exits   0 done · 2 there is no finished run · 3 a video could not be rendered · 75 a store, a disk or
        the cluster failed, try again · 129/130/131/143 interrupted, resumable.
Prints  how many videos were rendered, and why others were not, as one JSON document, the last line on stdout.
"""

import sys

from fsf_core.cli.app import run

if __name__ == "__main__":
    run(["render", *sys.argv[1:]])
