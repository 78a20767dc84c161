"""Learning the spectral inversion: which pixels, which noise, which method."""
