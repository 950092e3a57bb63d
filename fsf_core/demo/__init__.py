"""A demo that needs no download: drawn oranges with exact labels, and a model that was trained on them.

Makes images, a video and a manifest, and holds the model's weights and their training. Only the commands import it.
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("oranges.safetensors")
"""Weights of `model.build`, in half precision."""
