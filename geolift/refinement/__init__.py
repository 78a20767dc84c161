"""Agreement with the HSI: what the per-pixel inversion leaves of it, brought back to the fine pixels.

The product of the inversion, seen through the HSI's footprint, should be the HSI. What is left is modelled as a
Gaussian process (`process`) whose expectation is added to the product. Everything that takes more than a window is
done beforehand on the HSI's own grid (`residual`), in blocks that depend on the inputs alone; a tile of the product
then only looks up the solution around it (`correction`). `docs/method.md` gives equations and measurements.
"""

from geolift.refinement.change import Change, ChangedPair, find_change
from geolift.refinement.find import Refined, find_refinement, refine_arrays
from geolift.refinement.learning_twice import Lesson, learn_arrays_twice, learn_twice
from geolift.refinement.patchwork import Patchwork
from geolift.refinement.residual import BandsApart

__all__ = [
    "BandsApart",
    "Change",
    "ChangedPair",
    "Lesson",
    "Patchwork",
    "Refined",
    "find_change",
    "find_refinement",
    "learn_arrays_twice",
    "learn_twice",
    "refine_arrays",
]
