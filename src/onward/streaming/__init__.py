"""Models that run step by step: `Stream` holds the state of one sequence, `Pool` those of thousands.

Imports `core` and `layers` only.
"""
