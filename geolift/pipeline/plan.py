"""What was understood of two files, and what will be done: bands, spectra, window, cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import xarray as xr

from geolift.datamodel.cube import grid_of
from geolift.pair.region import RegionPlan
from geolift.pair.spectra import SpectralPlan
from geolift.pipeline.memory_plan import Cost
from geolift.provenance.record import ImageFacts
from geolift.provenance.sidecar import plain


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything settled before the first number is computed."""

    hsi: ImageFacts
    msi: ImageFacts
    spectra: SpectralPlan
    region: RegionPlan
    cost: Cost
    output: Path | None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return the plan as plain JSON types."""
        return {
            "hsi": self.hsi.model_dump(),
            "msi": self.msi.model_dump(),
            "spectra": self.spectra.to_json(),
            "region": self.region.to_json(),
            "cost": asdict(self.cost),
            "output": None if self.output is None else str(self.output),
            "warnings": list(self.warnings),
        }

    def lines(self) -> list[str]:
        """Return the plan as a person reads it."""
        rows, cols = self.region.grid.shape
        spectra = self.spectra
        out = [
            f"HSI     {_file_line(self.hsi)}, GSD {self.region.hsi_gsd_m:.4g} m",
            f"MSI     {_file_line(self.msi)}, GSD {self.region.msi_gsd_m:.4g} m",
            f"sensor  {spectra.sensor}, bands used {', '.join(spectra.msi_names)}",
        ]
        out += [f"        {name} dropped, {100 * share:.0f} % covered" for name, share in spectra.dropped]
        out += [
            f"bands   {len(spectra.hsi_bands)} in the output, {len(spectra.good)} of them good",
            f"output  {rows} × {cols} px of the MSI grid (ratio {self.region.ratio:.4g}) to {self.output or '–'}",
            f"cost    {self.cost.line()}",
        ]
        return out


def _file_line(facts: ImageFacts) -> str:
    rows, cols = facts.shape
    return f"{facts.source}: {facts.bands} bands, {rows} × {cols} px, {facts.crs or 'no CRS'}"


def file_facts(cube: xr.DataArray) -> ImageFacts:
    """Return what was understood of one input."""
    grid = grid_of(cube)
    crs = None
    if grid.crs is not None:
        code = grid.crs.to_epsg()
        crs = f"EPSG:{code}" if code else grid.crs.proj.name
    keys = ("source", "driver", "dtype", "scale", "offset", "nodata", "quantity", "acquired", "wavelengths_from")
    return ImageFacts.model_validate(
        plain({key: cube.attrs.get(key) for key in keys})
        | {"bands": cube.sizes["band"], "shape": [int(n) for n in grid.shape], "crs": crs}
    )
