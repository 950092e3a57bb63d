"""Bytes to pixels: pictures and videos. Knows no stores and no model."""
