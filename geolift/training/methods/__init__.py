"""The ways to learn the spectral inversion; each fits a training set and returns a SpectralModel."""
