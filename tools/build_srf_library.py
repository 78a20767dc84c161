"""Build ``srf_library/*.csv`` from tables of measured curves, and ``docs/spectral-responses.md`` from it.

    python tools/build_srf_library.py FACTS_DIR   # its srf/*.csv, srf_bands.csv, srf_approx_bands.csv
    python tools/build_srf_library.py --docs      # from srf_library/

Which products a sensor has, and in which order their bands come, is said in ``srf_products.toml`` beside
this file; what people call the sensors in ``srf_library/names.toml``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geolift.srf import SpectralResponse, list_sensors

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "srf_library"
DOCS_PAGE = ROOT / "docs" / "spectral-responses.md"
SUPER_GAUSSIAN_EXPONENT = 6
GAUSSIAN_PAN_LIMIT_NM = 200.0  # no optical filter is a Gaussian that wide; its tails would leave the detector's range
SMALLEST_GAUSSIAN = 0.01  # the main lobe of the measured curves is cut at 1 % too
SMALLEST_SUPER_GAUSSIAN = 0.001


class Curves(NamedTuple):
    """One sensor's table: header entries, band names, wavelengths (n,) in nm, responses (n, bands)."""

    header: dict[str, str]
    bands: list[str]
    wavelength_nm: NDArray[np.float64]
    response: NDArray[np.float64]


def read_measured(path: Path) -> Curves:
    """Read one table of measured curves."""
    header: dict[str, str] = {}
    rows: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            key, colon, value = line[1:].partition(":")
            if colon:
                header[key.strip()] = value.strip()
        elif line:
            rows.append(line.split(","))
    table = np.array([[float(cell or 0) for cell in row] for row in rows[1:]])
    return Curves(header, rows[0][1:], table[:, 0], table[:, 1:])


def approximated(rows: list[dict[str, str]]) -> Curves:
    """Draw the bands of one sensor of which only centre and width are published."""
    centre = np.array([float(row["centre_nm"]) for row in rows])
    width = np.array([float(row["width_nm"]) for row in rows])
    gaussian = np.array([row["shape"] == "gaussian" for row in rows]) & (width < GAUSSIAN_PAN_LIMIT_NM)
    exponent = np.where(gaussian, 2, SUPER_GAUSSIAN_EXPONENT)
    smallest = np.where(gaussian, SMALLEST_GAUSSIAN, SMALLEST_SUPER_GAUSSIAN)
    half_range = (width / 2 * np.log2(1 / smallest) ** (1 / exponent)).max()
    grid = np.arange(np.floor(centre.min() - half_range) - 2, np.ceil(centre.max() + half_range) + 3)
    response = 2.0 ** -(np.abs(2 * (grid[:, None] - centre) / width) ** exponent)
    response = np.where(response >= smallest, np.round(response, 4), 0.0)
    shapes = {f"Gaussian (2^-|2(x-c)/w|^{p})" if p == 2 else f"super-Gaussian (2^-|2(x-c)/w|^{p})" for p in exponent}
    header = {
        "sensor": rows[0]["sensor"],
        "document": "; ".join(dict.fromkeys(row["source"] for row in rows)),
        "check": "none: drawn from the published centre c and width w of each band",
        "shape": ", ".join(sorted(shapes)),
    }
    return Curves(header, [row["band"] for row in rows], grid, response)


def bordered(curves: Curves) -> Curves:
    """Keep the rows where a band responds and one row of zeros at each end of such a run."""
    busy: NDArray[np.bool_] = np.any(curves.response > 0, axis=1)
    keep = busy.copy()
    keep[:-1] |= busy[1:]
    keep[1:] |= busy[:-1]
    return curves._replace(wavelength_nm=curves.wavelength_nm[keep], response=curves.response[keep])


def product_of(sensor: str, products: dict[str, Any]) -> dict[str, Any]:
    """What ``srf_products.toml`` says about one sensor, with what it takes from another."""
    own = products[sensor]
    return {**product_of(own["like"], products), **own} if "like" in own else own


def header_lines(curves: Curves, product: dict[str, Any], gsd_m: dict[str, str], is_drawn: bool) -> Iterable[str]:
    """Yield the header of one library file, one ``key: value`` a line."""
    yield f"sensor: {curves.header['sensor']}"
    yield f"title: {product['title']}"
    yield f"document: {curves.header['document']}"
    yield f"check: {curves.header['check']}"
    yield f"approximated: {'yes' if is_drawn else 'no'}"
    if "shape" in curves.header:
        yield f"shape: {curves.header['shape']}"
    if any(float(gsd) for gsd in gsd_m.values()):
        yield "gsd_m: " + ",".join(f"{band}={float(gsd_m[band]):g}" for band in curves.bands)
    if "common" in product:
        yield f"common_names: {product['common']}"
    orders = {len(order.split(",")): order for order in product.get("orders", [])}
    orders.setdefault(len(curves.bands), ",".join(curves.bands))
    yield f"default: {product.get('default', len(curves.bands))}"
    for count in sorted(orders):
        yield f"order {count}: {orders[count]}"


def write_library_file(curves: Curves, header: Iterable[str], folder: Path) -> None:
    """Write one sensor's file; a response of zero is an empty cell."""
    lines = [f"# {line}" for line in header] + [",".join(["wavelength_nm", *curves.bands])]
    for wavelength, row in zip(curves.wavelength_nm, curves.response, strict=True):
        lines.append(",".join([f"{wavelength:g}", *(f"{value:.4g}" if value else "" for value in row)]))
    path = folder / f"{curves.header['sensor']}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def build_library(facts: Path, folder: Path = LIBRARY) -> int:
    """Write every sensor's file and return their number."""
    products = tomllib.loads((Path(__file__).parent / "srf_products.toml").read_text(encoding="utf-8"))
    gsd: dict[str, dict[str, str]] = {}
    drawn: dict[str, list[dict[str, str]]] = {}
    for name in ("srf_bands.csv", "srf_approx_bands.csv"):
        with (facts / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                gsd.setdefault(row["sensor"], {})[row["band"]] = row["gsd_m"]
                if "shape" in row:
                    drawn.setdefault(row["sensor"], []).append(row)
    sensors = [read_measured(path) for path in sorted((facts / "srf").glob("*.csv"))]
    sensors += [approximated(rows) for rows in drawn.values()]
    for curves in sensors:
        sensor = curves.header["sensor"]
        header = header_lines(curves, product_of(sensor, products), gsd[sensor], sensor in drawn)
        write_library_file(bordered(curves), header, folder)
    return len(sensors)


def sensor_rows() -> Iterable[str]:
    """Yield the table of all sensors in Markdown."""
    yield "| `--sensor` | usual products: bands in a file, in its order | curves from |"
    yield "|---|---|---|"
    for name in list_sensors():
        sensor = SpectralResponse.from_library(name)
        orders = "<br>".join(f"{count}: {', '.join(order)}" for count, order in sorted(sensor.orders.items()))
        source = ("*approximated*: " if sensor.approximated else "") + sensor.source
        yield f"| `{name}` | {orders} | {source} |"


def family_rows() -> Iterable[str]:
    """Yield the table of names that several sensors share."""
    names = tomllib.loads((LIBRARY / "names.toml").read_text(encoding="utf-8"))
    yield "| typed | may mean | if nothing tells | why it matters |"
    yield "|---|---|---|---|"
    for family in names["family"]:
        default, counts = family.get("default"), family.get("by_count", {})
        members = dict.fromkeys([*family["evidence"], *counts.values(), *([default] if default else [])])
        typed = ", ".join(f"`{name}`" for name in family["names"])
        told = "; ".join(f"{count} bands: `{sensor}`" for count, sensor in counts.items())
        last = f"`{default}`, said" if default else "refused, with the list"
        listed = ", ".join(f"`{name}`" for name in members)
        yield f"| {typed} | {listed} | {'; '.join(filter(None, [told, last]))} | {family['why']} |"


def alias_rows() -> Iterable[str]:
    """Yield the table of short names."""
    names = tomllib.loads((LIBRARY / "names.toml").read_text(encoding="utf-8"))
    typed: dict[str, list[str]] = {}
    for alias, sensor in names["aliases"].items():
        typed.setdefault(sensor, []).append(f"`{alias}`")
    yield "| typed | means |"
    yield "|---|---|"
    for sensor in sorted(typed):
        yield f"| {', '.join(typed[sensor])} | `{sensor}` |"


def with_tables(page: str) -> str:
    """Return the page with the tables between its ``<!-- table: NAME -->`` marks written anew."""
    tables = {"sensors": sensor_rows, "families": family_rows, "aliases": alias_rows}
    for name, rows in tables.items():
        begin, end = f"<!-- table: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{DOCS_PAGE.name}: the marks of the table {name!r} are missing.")
        page = "".join([before, begin, "\n", "\n".join(rows()), "\n\n", end, after])
    return page


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", nargs="?", type=Path, help="folder with srf/, srf_bands.csv, srf_approx_bands.csv")
    parser.add_argument("--docs", action="store_true", help="write docs/spectral-responses.md from the library")
    options = parser.parse_args(arguments)
    if options.facts is None and not options.docs:
        parser.error("name the folder of figures, or pass --docs, or both")
    if options.facts is not None:
        print(f"{build_library(options.facts)} sensors written to {LIBRARY.name}/")
    if options.docs:
        DOCS_PAGE.write_text(with_tables(DOCS_PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
