"""How far the product may be from the truth."""
