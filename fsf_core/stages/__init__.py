"""The pipeline's stages, decode, infer, mask and write: callables over Arrow tables, tested without Ray.

`score` decides how many of each run, and where.
"""
