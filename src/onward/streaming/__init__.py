"""Run models step by step: `Stream` holds the state of one sequence, `Pool` the states of thousands.

May import errors, core and layers.
"""
