"""Compiled inner loops: how they are compiled, and where their machine code is kept. Knows none of the loops.

Importing the package costs nothing; `compiling` imports numba, which only processes that run such loops need.
"""
