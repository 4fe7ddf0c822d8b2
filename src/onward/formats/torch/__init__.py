"""Reads the files of PyTorch without torch."""
