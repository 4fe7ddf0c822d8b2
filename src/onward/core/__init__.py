"""Utilities that every other folder uses: arrays, argument checks, storage, threads, gate orders.

May import errors and the compiled core (_core) only.
"""
