"""The marks of the quality raster: their colours and what they mean, in the report and in QGIS."""

from __future__ import annotations

from geolift.datamodel.quality import Flag, marks_in_words

FLAG_COLOURS = {
    Flag.NODATA: ("#9aa3a9", "no data in the MSI"),
    Flag.MASKED: ("#6c4ab6", "masked: cloud, shadow or your mask"),
    Flag.OUT_OF_RANGE: ("#e08a1e", "out of range: brighter or darker than anything learned"),
    Flag.LOW_CONFIDENCE: ("#c8384f", "co-registration not trusted"),
    Flag.OUTSIDE_HSI: ("#2a7fb8", "outside the HSI: learned elsewhere"),
    Flag.DIFFERS: ("#d6519f", "the sensors differ: cloud, shadow, change, saturation or a fault"),
    Flag.NOT_REFINED: ("#e7c3d9", "not refined: beside such a place"),
}
OTHER_COLOURS = ("#b8860b", "#008b8b", "#8b4789")
"""Of marks that have none above."""
TRUSTED = "#cfe5cf"
NOTHING = "nothing known against it"


def mark_of(flag: Flag) -> tuple[str, str]:
    """Return a mark's colour and meaning."""
    other = OTHER_COLOURS[flag.value.bit_length() % len(OTHER_COLOURS)], marks_in_words(flag)
    return FLAG_COLOURS.get(flag) or other


def class_of(bits: int) -> tuple[str, str]:
    """Return the colour and the meaning of a pixel's bits: the colour of its first mark, the names of them all.

    >>> class_of(0)[1], class_of(20)[1]
    ('nothing known against it', 'out of range, outside HSI')
    """
    flags = [flag for flag in Flag if bits & flag]
    if not flags:
        return TRUSTED, NOTHING
    return mark_of(flags[0])[0], marks_in_words(bits)
