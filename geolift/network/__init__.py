"""The spectral inversion as numbers: its formula, its file, and what runs it."""
