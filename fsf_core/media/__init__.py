"""Bytes to pixels: images and videos. Knows no stores and no model."""
