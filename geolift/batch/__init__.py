"""Many pairs: their list, and one run after the other."""
