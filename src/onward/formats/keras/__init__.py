"""Reads the files of Keras without Keras."""
