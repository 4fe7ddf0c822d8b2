"""Record and plot every gate and state of a model as it runs."""
