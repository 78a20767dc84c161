"""The machine a run has: CPUs, memory, disk, scratch arrays, and whoever listens to its progress."""
