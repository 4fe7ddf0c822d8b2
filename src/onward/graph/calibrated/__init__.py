"""Integers of 8 bits with scales that fit some data; may import `graph` and its folders."""
