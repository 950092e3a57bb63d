"""A finished run in the shapes that other programs read: each format in a file of its own.

Knows the committed rows of a run and the forms of others. Knows no Ray, no model and no options.
"""
