"""What a product was made from: the sidecar, and whether a product is still the one a run would make."""
