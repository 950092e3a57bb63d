"""The networks of the FastSegFormer publication, key for key as in its checkpoints.

Read in this order: `blocks` (shared convolutions), `poolformer` and `efficientformer` (the two backbones),
`pyramid` (context on the coarsest grid), `fastsegformer` (the whole network). Knows no files and no training.
"""
