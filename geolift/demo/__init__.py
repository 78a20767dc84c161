"""The demo: a landscape with its truth, fused, measured and drawn; and the self-test of an installation."""
