"""What Ray runs: decode, infer, mask, write; the alphabet is the order of flow.

A stage is an ordinary callable over Arrow tables, tested without Ray. How many run, and where, stands in score.py.
"""
