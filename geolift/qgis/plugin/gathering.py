# SPDX-License-Identifier: GPL-2.0-or-later
# mypy: disable-error-code="import-not-found,import-untyped,misc,no-untyped-call"
"""The algorithms that take several products: spectra at places, and mosaics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterRasterDestination,
)

from .algorithms import GeoliftAlgorithm, is_file
from .style import prepare_layer

LIBRARIES = "Tables (*.csv);;ENVI spectral libraries (*.sli)"


class _Gathering(GeoliftAlgorithm):
    """An algorithm over several products; ``layer`` is what QGIS calls its result, if that is a raster."""

    layer = ""

    def add_own(self) -> None:
        """Add the products."""
        field = QgsProcessingParameterMultipleLayers("PRODUCTS", "Products", QgsProcessing.TypeRaster)
        field.setHelp("What Fuse has written.")
        self.addParameter(field)

    def own_words(self, parameters: Mapping[str, object], context: Any) -> list[str]:
        """Return the files of the products."""
        given = parameters.get("PRODUCTS")
        names = given if isinstance(given, (list, tuple)) else [given]
        if names and all(isinstance(name, str) and Path(name).exists() for name in names):
            return [str(name) for name in names]
        layers = self.parameterAsLayerList(parameters, "PRODUCTS", context) or []
        if not layers:
            raise QgsProcessingException("No product is named.")
        return [str(layer.source()) for layer in layers]

    def output_words(self, parameters: Mapping[str, object], context: Any, words: list[str]) -> list[str]:
        """Name the output."""
        ask = self.parameterAsOutputLayer if self.layer else self.parameterAsFileOutput
        self.target = ask(parameters, "OUTPUT", context)
        return [f"--output={self.target}", "--overwrite"]

    def outcome(self, result: Any, parameters: Mapping[str, object], context: Any) -> dict[str, object]:
        """Hand the result over, a raster named and coloured."""
        self.require_output()
        if self.layer:
            prepare_layer(context, self.target, self.layer)
        return {"OUTPUT": self.target}


class Spectra(_Gathering):
    """`geolift spectra`."""

    command = "spectra"
    title = "Spectra at places"
    words = "spectrum points polygons plots spectral library field"
    basic: ClassVar[tuple[str, ...]] = ()

    def add_own(self) -> None:
        """Add the products and the places."""
        super().add_own()
        kinds = [QgsProcessing.TypeVectorPoint, QgsProcessing.TypeVectorPolygon]
        field = QgsProcessingParameterFeatureSource("PLACES", "Points or polygons", kinds)
        field.setHelp("Each place has the spectra of HSI, MSI and product; a polygon their mean.")
        self.addParameter(field)

    def own_words(self, parameters: Mapping[str, object], context: Any) -> list[str]:
        """Return the products, then the places: a file, or a layer, which is written first if it is in memory."""
        places = parameters.get("PLACES")
        if not is_file(places):  # a table of coordinates is no layer with places to QGIS, but it is one to geolift
            kinds = ["gpkg", "geojson"]
            places = self.parameterAsCompatibleSourceLayerPath(parameters, "PLACES", context, kinds, "gpkg")
        return [*super().own_words(parameters, context), str(places).partition("|")[0]]

    def add_output(self) -> None:
        """Add the table."""
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", "Spectra", LIBRARIES))


class Mosaic(_Gathering):
    """`geolift mosaic`."""

    command = "mosaic"
    title = "Mosaic of products"
    words = "merge tiles feather blend campaign"
    layer = "Mosaic"
    basic: ClassVar[tuple[str, ...]] = ("blend",)

    def add_output(self) -> None:
        """Add the raster."""
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Mosaic"))


GATHERING = (Spectra, Mosaic)
