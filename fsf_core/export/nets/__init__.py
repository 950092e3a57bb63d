"""The networks of the FastSegFormer publication, key for key as in its checkpoints.

Read in this order: `blocks` (the convolutions all share), `poolformer` and `efficientformer` (the two backbones),
`pyramid` (context on the coarsest grid), `fastsegformer` (how they are put together). Knows no files and no training.
"""
