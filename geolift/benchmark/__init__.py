"""Sweeps of degradations and methods with HyperBench's axes, and geolift as a method inside HyperBench."""

from geolift.benchmark.hyperbench import HyperBenchPipeline

__all__ = ["HyperBenchPipeline"]
