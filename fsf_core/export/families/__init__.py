"""Models as their own libraries store them: each family's files to a network, its preprocessing and its classes.

One module per family, listed in `registry`. Executes no code that comes with a model. Knows no options and no bundle.
"""
