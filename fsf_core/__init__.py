"""Offline batch semantic segmentation that people trust with a nightly dataset."""

__version__ = "0.1.0"
