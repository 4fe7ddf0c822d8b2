"""A server that runs live streams over WebSockets, and its page; may import every folder up to recipes.

`app.Server` is the server, `service.Service` what its connections share.
"""
