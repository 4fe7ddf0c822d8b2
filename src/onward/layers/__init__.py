"""The layers of torch.nn that recurrent models use, and `Sequential`.

Layers are callables on arrays. They hold weights, never state.
"""
