"""Foundations that every other folder uses: arrays, argument checks, storage, threads, gate orders.

Imports `errors` and the compiled core only.
"""
