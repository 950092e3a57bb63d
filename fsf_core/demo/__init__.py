"""What `fsf` can be tried on with nothing at hand: drawn oranges with exact labels, and a network trained on them.

Knows how to make pictures, a video, a manifest and a checkpoint. Nothing else in the project imports it.
"""
