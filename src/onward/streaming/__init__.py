"""Models that run step by step: `Stream` holds the state of one sequence, `Pool` the states of thousands."""
