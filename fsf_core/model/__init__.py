"""Bundles, sessions and preprocessing: which model runs, where, and on what input."""
