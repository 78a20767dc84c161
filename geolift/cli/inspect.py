"""`geolift info` and `geolift sensors`: what is understood, what is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geolift.cli.arguments import FilePath
from geolift.cli.command import command
from geolift.cli.console import Console
from geolift.cli.options import complete_sensor, run_options
from geolift.settings import Reading

if TYPE_CHECKING:
    from geolift.srf import SpectralResponse


@command("info")
@click.argument("file")
@click.option("--wavelengths", type=click.Path(path_type=Path), help="CSV of wavelengths, one row per band.")
@run_options
def info_command(file: str, wavelengths: Path | None, console: Console) -> None:
    """Tell what geolift understood of FILE: grid, scale, nodata, wavelengths, bad bands, sensor.

    \b
    Example:
      geolift info enmap.tif
    """
    from geolift.pipeline import describe
    from geolift.readers import open_cube

    cube = open_cube(file, Reading(wavelengths=wavelengths))
    told = describe.describe(cube)
    for text in cube.attrs["warnings"]:
        console.warn(text)
    console.result("\n".join(describe.lines(told)), told.model_dump())


@command("sensors")
@click.argument("name", required=False, shell_complete=complete_sensor)
@click.option("--plot", type=FilePath(), help="Write a picture of the response curves (PNG).")
@click.option("--overwrite", is_flag=True, help="Replace the picture if it exists.")
@run_options
def sensors_command(name: str | None, plot: Path | None, overwrite: bool, console: Console) -> None:
    """List the sensors; with NAME one sensor's bands, centres, FWHM and source.

    \b
    Examples:
      geolift sensors
      geolift sensors sentinel-2b --plot s2b.png
    """
    from geolift.srf import SpectralResponse, list_sensors, resolve_sensor

    if name is None:
        if plot is not None:
            raise click.UsageError("--plot needs the NAME of a sensor")
        responses = [SpectralResponse.from_library(sensor) for sensor in list_sensors()]
        rows = [
            {"sensor": r.sensor, "title": r.title, "bands": len(r.band_names), "approximated": r.approximated}
            for r in responses
        ]
        text = "\n".join(
            f"{row['sensor']:32} {row['bands']:3} bands  {row['title']}"
            f"{' (approximated)' if row['approximated'] else ''}"
            for row in rows
        )
        console.result(text, {"sensors": rows})
        return
    resolved = resolve_sensor(name)
    if resolved.assumed:
        console.warn(resolved.message)
    response = SpectralResponse.from_library(resolved.sensor_id)
    if plot is not None:
        from geolift.pipeline.touched_files import Output, require_untouched
        from geolift.plotting import srf_picture

        require_untouched([], [Output(plot)], overwrite=overwrite)
        srf_picture(response.wavelength_nm, response.response, response.band_names, plot, title=response.title)
    document = _sensor_document(response)
    lines = [f"{response.sensor}: {response.title}", f"source: {response.source}"]
    if response.approximated:
        lines.append("approximated: drawn from published centres and widths, not measured")
    lines += [
        f"{name:14} centre {centre:8.1f} nm  FWHM {width:7.1f} nm"
        for name, centre, width in zip(response.band_names, response.centres_nm, response.fwhm_nm, strict=True)
    ]
    lines += [f"order of {count} bands: {','.join(order)}" for count, order in sorted(response.orders.items())]
    console.result("\n".join(lines), document)


def _sensor_document(response: SpectralResponse) -> dict[str, object]:
    centres, widths = response.centres_nm, response.fwhm_nm
    return {
        "sensor": response.sensor,
        "title": response.title,
        "source": response.source,
        "approximated": response.approximated,
        "bands": [
            {"name": name, "centre_nm": float(c), "fwhm_nm": float(w), "gsd_m": response.gsd_m.get(name)}
            for name, c, w in zip(response.band_names, centres, widths, strict=True)
        ],
        "orders": {str(count): list(order) for count, order in response.orders.items()},
    }
