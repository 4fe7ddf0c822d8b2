"""Models that run step by step: `Stream` holds the state of one sequence, `Pool` those of thousands.

May import errors, core and layers.
"""
