"""Models that run step by step, as streams and pools; may import every folder up to layers.

`Stream` holds the state of one sequence, `Pool` the states of thousands.
"""
