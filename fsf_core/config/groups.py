"""The groups that help shows options in, in their order."""

from cyclopts import Group

MODEL = Group("Model", sort_key=1)
CHECKPOINT = Group("Checkpoint to export", sort_key=2)
INTERFACE = Group("Input and output of a model; only FastSegFormer's have defaults", sort_key=3)
ITEMS = Group("Items to score; a resumed run must choose the same", sort_key=4)
VIDEO = Group("Videos", sort_key=5)
SCALE = Group("Speed and size", sort_key=6)
LIMITS = Group("Limits; an item beyond one is a failure", sort_key=7)
