"""Models over tables of sequences: arrays, CSV, Arrow, Parquet and Ray Data."""
