"""A demo that needs no download: drawn oranges with exact labels, and a small network trained on them.

Makes images, a video, a manifest and a checkpoint. Only the commands import it.
"""
