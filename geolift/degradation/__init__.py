"""From fine to coarse: point spread functions, block means, noise, sub-pixel sampling, spectral responses."""
