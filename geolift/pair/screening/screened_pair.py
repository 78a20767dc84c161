"""The pair whose HSI has been screened."""

from __future__ import annotations

from dataclasses import replace

from geolift.pair.scene_pair import ScenePair
from geolift.pair.screening.screen import screen_hsi
from geolift.settings import ScreenSettings


def screened_pair(pair: ScenePair, settings: ScreenSettings) -> ScenePair:
    """Return the pair with the faults of its HSI set right or left out, and told in ``screening``."""
    hsi, screening = screen_hsi(pair.hsi, pair.learned_bands, settings)
    return replace(pair, hsi=hsi, screening=screening)
