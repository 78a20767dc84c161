"""What things are: a cube on its grid, its bands, its stored numbers, its quality flags."""
