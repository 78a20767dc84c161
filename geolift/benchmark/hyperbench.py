"""geolift as a method inside HyperBench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geolift.benchmark.methods import REFINED, Refine, fuse_arrays, require_known
from geolift.errors import InputError


class HyperBenchPipeline:
    """A method of geolift for ``hyperbench.PipelineAdapter(pipeline)``, with NumPy as the backend (the default).

    Parameters
    ----------
    method
        As `geolift benchmark` names it.
    refine
        Whether the product is brought to agree with the LR-HSI: `on`, `off`, or `auto`, where it helps.
    seed
        Of everything random.

    Raises
    ------
    UsageError
        For an unknown method.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> pipeline = HyperBenchPipeline("linear", refine="off")
    >>> srf = np.full((2, 5), 0.2, np.float32)
    >>> pipeline.run_pipeline(rng.random((8, 12, 2)), rng.random((4, 6, 5)), srf).shape
    (8, 12, 5)
    """

    def __init__(self, method: str = "auto", refine: Refine | Literal["off"] = "auto", seed: int = 0) -> None:
        self.method = method if refine == "off" else method.removesuffix(REFINED) + REFINED
        self.refine: Refine = "on" if refine == "on" else "auto"
        self.seed = seed
        require_known(self.method)

    def run_pipeline(
        self,
        HR_MSI: NDArray[Any],
        LR_HSI: NDArray[Any],
        srf: NDArray[Any],
        psf: NDArray[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> NDArray[np.float32]:
        """Fuse one case of HyperBench.

        Raises InputError if the arrays do not fit each other, or `refine` is `on` and impossible, as where LR pixels
        are no whole blocks of HR pixels: HyperBench makes them so of scenes that the ratio does not divide.

        Parameters
        ----------
        HR_MSI, LR_HSI
            (rows, cols, bands), scaled to [0, 1], or the same with a leading axis of length 1.
        srf
            (MSI bands, HSI bands).
        psf, metadata
            Not used: geolift works without knowing them.

        Returns
        -------
        numpy.ndarray
            (rows, cols, HSI bands) float32 in [0, 1], with a leading axis if the MSI has one.
        """
        msi, hsi = (np.asarray(array, np.float32) for array in (HR_MSI, LR_HSI))
        batch = msi.ndim == 4
        if batch and len(msi) == len(hsi) == 1:
            msi, hsi = msi[0], hsi[0]
        weights = np.asarray(srf, np.float32)
        if msi.ndim != 3 or hsi.ndim != 3 or weights.shape != (msi.shape[2], hsi.shape[2]):
            raise InputError(
                f"HR-MSI {np.shape(HR_MSI)}, LR-HSI {np.shape(LR_HSI)}, SRF {np.shape(srf)}: expected are (rows, cols, "
                "bands), twice, and (MSI bands, HSI bands), as HyperBench passes them with input_backend='numpy'"
            )
        hsi, msi = (np.ascontiguousarray(np.moveaxis(cube, 2, 0)) for cube in (hsi, msi))
        fused = fuse_arrays(self.method, hsi, msi, weights, seed=self.seed, refine=self.refine)
        product = np.ascontiguousarray(np.moveaxis(fused.product, 0, 2))
        return product[np.newaxis] if batch else product
