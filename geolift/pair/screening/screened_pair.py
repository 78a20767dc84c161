"""The pair whose HSI has been screened."""

from __future__ import annotations

from dataclasses import replace

from geolift.datamodel.alignment import gsd_m, gsd_ratio
from geolift.datamodel.cube import grid_of
from geolift.pair.scene_pair import ScenePair
from geolift.pair.screening.screen import screen_hsi
from geolift.settings import ScreenSettings


def screened_pair(pair: ScenePair, settings: ScreenSettings) -> ScenePair:
    """Return the pair with the faults of its HSI set right or left out, and told in ``screening``.

    An HSI that was resampled comes back on the grid it came from; the window of the product stays.
    """
    hsi, screening = screen_hsi(pair.hsi, pair.learned_bands, settings)
    region = pair.region
    if hsi.shape != pair.hsi.shape:
        grid = grid_of(hsi)
        region = replace(region, ratio=gsd_ratio(grid, pair.msi_grid), hsi_gsd_m=gsd_m(grid))
    return replace(pair, hsi=hsi, region=region, screening=screening)
