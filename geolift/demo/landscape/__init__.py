"""A made-up, georeferenced scene with its truth, for ``geolift demo`` and for tests."""

from geolift.demo.landscape.scene import DemoScene, make_scene, observe, sample_places

__all__ = ["DemoScene", "make_scene", "observe", "sample_places"]
