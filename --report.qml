<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<!-- style of geolift -->
<qgis version="3.22">
<pipe>
<rasterrenderer type="multibandcolor" opacity="1" alphaBand="-1" redBand="47" greenBand="30" blueBand="14">
<minMaxOrigin><limits>None</limits><extent>WholeRaster</extent><statAccuracy>Estimated</statAccuracy><cumulativeCutLower>0.02</cumulativeCutLower><cumulativeCutUpper>0.98</cumulativeCutUpper></minMaxOrigin>
<redContrastEnhancement><minValue>0.00019</minValue><maxValue>0.00037</maxValue><algorithm>StretchToMinimumMaximum</algorithm></redContrastEnhancement>
<greenContrastEnhancement><minValue>0.00019</minValue><maxValue>0.00037</maxValue><algorithm>StretchToMinimumMaximum</algorithm></greenContrastEnhancement>
<blueContrastEnhancement><minValue>0.00019</minValue><maxValue>0.00037</maxValue><algorithm>StretchToMinimumMaximum</algorithm></blueContrastEnhancement>
</rasterrenderer>
</pipe>
</qgis>
