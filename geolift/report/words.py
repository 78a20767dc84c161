"""The facts of a sidecar as sentences and table rows for a person; what a run did not record is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import hypot
from typing import Any

from markupsafe import Markup
from pydantic import JsonValue

from geolift.provenance.record import (
    CoregistrationFacts,
    ExplainedVarianceFacts,
    HarmonizationFacts,
    LearnedTwiceFacts,
    Number,
    ProductBand,
    ProductFile,
    RefinementFacts,
    RunRecord,
    UncertaintyFacts,
)

VERDICTS = {
    "ok": "Nothing wrong found",
    "undetermined": "What the images cannot tell",
    "offset": "A constant is missing or too much",
    "scale": "The scale does not fit",
    "units": "The units differ",
    "band-order": "Bands are taken for others",
    "sensor": "Another sensor fits better",
    "shift": "The images are shifted",
    "bad-values": "Values in the HSI that no sensor measures",
    "stripes": "Dead or striped columns in the HSI",
    "line-jitter": "Lines of the HSI recorded twice",
    "noisy-bands": "Bands of the HSI hold little but noise",
    "keystone": "Bands of the HSI lie apart",
    "smile": "Wavelengths differ across the HSI",
    "no-gain": "Fusing hardly pays",
    "resampled": "An image was put onto another grid",
    "band-shift": "Bands of the MSI lie apart",
    "local-shift": "The shift varies over the scene",
    "non-linear": "The sensors are related by a curve",
    "haze": "Haze over part of the MSI",
    "saturation": "Bands of the MSI are saturated",
    "cloud-or-change": "Clouds, shadows or change between the dates",
    "no-overlap": "The images do not overlap",
    "other-place": "The images show different places",
}

RELATION_NAMES = {
    "identity": "no relation",
    "gain": "one factor per band",
    "gain-offset": "factor and offset per band",
    "affine": "affine map across the bands",
}

AS_MUCH = 0.1
"""Two errors that differ by less are called equal."""

HARMLESS = {"ok", "undetermined"}

RELATIONS = {
    "identity": "none: the MSI was used as it is",
    "gain": "one factor per band",
    "gain-offset": "a factor and an offset per band",
    "affine": "an affine map across the bands",
}

WELL_DETERMINED = 0.9
"""Share of a band's variance from which on the report counts it as determined by the MSI."""

LISTED = 6
"""Numbers of a longer list that are written out."""

TOLD_SHARE = 0.002
"""Share of HSI pixels at which the sensors differ that is worth a sentence."""

NO_SHIFT_PX = 0.02
"""A smaller shift of the HSI, in MSI pixels, is told as none."""

GRADES = ("Usable with care", "Usable", "Look first")
"""What a verdict begins with."""

METHODS = {
    "auto": "regression on sharpened pixels, averaged with a small network",
    "linear": "least squares",
    "spectralift": "SpectraLift's network",
    "spectramorph": "mixtures of endmembers",
}


@dataclass(frozen=True)
class Decision:
    """Something the run settled: what about, what, and why."""

    subject: str
    outcome: str
    reason: str


def times(ratio: float) -> str:
    """Return how a figure compares with another, before its name.

    >>> times(1.04), times(2.34)
    ('about', '2.3 times')
    """
    return "about" if abs(ratio - 1) < AS_MUCH else f"{number(ratio, 2)} times"


def number(value: Any, digits: int = 4) -> str:
    """Return a number as people write it, with a true minus; anything else as text.

    >>> number(-0.123456), number(25000.0), number(3), number(None)
    ('−0.1235', '25000', '3', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    text = f"{value:.{digits}g}"
    if "e+" in text and abs(value) < 1e12:
        text = f"{value:.0f}"
    return text.replace("-", "−")


def sentence(text: str) -> str:
    """Return a text as a sentence.

    >>> sentence("the units differ")
    'The units differ.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "!", "?")) else ".")


def emphasised(text: str) -> Markup:
    """Return a verdict with the grade that it begins with in bold.

    >>> emphasised("Look first: do not use it.")
    Markup('<strong>Look first</strong>: do not use it.')
    """
    grade = next((grade for grade in GRADES if text.startswith(grade)), "")
    return Markup("<strong>{}</strong>{}").format(grade, text.removeprefix(grade))


def fixed(value: Any, decimals: int) -> str:
    """Return a number with so many decimals, zero without a sign; anything else, such as "nan", as text.

    >>> fixed(-0.123, 2), fixed(-0.001, 2)
    ('−0.12', '0.00')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:z.{decimals}f}".replace("-", "−")


def moment(value: Any) -> str:
    """Return a time as people write it; anything else as text.

    >>> moment("2026-05-04T10:30:31.024000Z"), moment("2026-05-04"), moment(None)
    ('2026-05-04 10:30 UTC', '2026-05-04', '')
    """
    text = "" if value is None else str(value)
    day, _, clock = text.partition("T")
    return f"{day} {clock[:5]} UTC" if clock.endswith(("Z", "+00:00")) else text


def percent(value: Any) -> str:
    """Return a share as per cent: 0.0546 is "5.5 %"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    share = 100 * value
    if share == round(share) or abs(share) >= 99.95:
        text = f"{share:.0f}"
    else:
        text = f"{share:.1f}" if abs(share) >= 0.95 else (f"{share:.2f}" if abs(share) >= 0.1 else f"{share:.2g}")
    return f"{text} %".replace("-", "−")


def largest(values: Sequence[Number]) -> float:
    """Return the largest of some numbers, of which a sidecar writes the infinite ones as words."""
    return max(float(value) for value in values if value is not None)


def decisions(record: RunRecord, product: ProductFile) -> list[Decision]:
    """Return what the run settled, in the order it did."""
    found = [
        *_bands(record, product.bands),
        *_region(record),
        *_shift(record.coregistration),
        *_harmonization(record.harmonization),
        *_method(record),
        *_refinement(record.refinement),
        *_uncertainty(record.uncertainty),
        *_written(record, product),
    ]
    return [decision for decision in found if decision.outcome]


def _bands(record: RunRecord, bands: Sequence[ProductBand]) -> list[Decision]:
    model, plan = record.trained, record.plan
    used = ", ".join(model.msi_bands)
    dropped = (
        [f"{band.name} ({100 * band.coverage:.0f} % covered)" for band in plan.spectra.msi_bands_dropped]
        if plan
        else []
    )
    reason = "Their response is covered by good HSI bands."
    if dropped:
        reason = f"Left out, because good HSI bands do not cover their response: {', '.join(dropped)}."
    out = [Decision("Multispectral bands", f"{used} of {model.sensor or 'the sensor'}" if used else "", reason)]
    good = sum(band.good for band in bands)
    if bands:
        bad = "None is flagged bad." if good == len(bands) else f"Bad, so nodata in the product: {_bad_ranges(bands)}."
        out.append(Decision("Hyperspectral bands", f"{good} learned, {len(bands)} in the product", bad))
    return out


def _bad_ranges(bands: Sequence[ProductBand]) -> str:
    """Return the stretches of bad bands by wavelength: "1342–1425 nm (9 bands)"."""
    return ", ".join(_stretch(list(part)) for good, part in groupby(bands, lambda band: band.good) if not good)


def _stretch(bands: Sequence[ProductBand]) -> str:
    first, last = bands[0].center_wavelength, bands[-1].center_wavelength
    if first is None or last is None:
        return bands[0].name if len(bands) == 1 else f"{bands[0].name} to {bands[-1].name}"
    first, last = 1000 * first, 1000 * last
    return f"{first:.0f} nm" if len(bands) == 1 else f"{first:.0f}–{last:.0f} nm ({len(bands)} bands)"


def _region(record: RunRecord) -> list[Decision]:
    if record.plan is None:
        return []
    region = record.plan.region
    rows, cols = region.shape
    grid = (
        f"{rows} × {cols} pixels of {number(region.msi_gsd_m)} m; {number(region.ratio)} along one HSI pixel "
        f"of {number(region.hsi_gsd_m)} m"
    )
    reason = {"overlap": "The MSI's pixels that cover the HSI.", "msi": "The whole MSI was asked for."}
    why = reason.get(str(record.settings.get("extent")), "")
    if record.pixels_without_hsi:
        why += (
            f" {record.pixels_without_hsi} of them lie on no valid HSI pixel: what stands there was learned elsewhere."
        )
    return [Decision("Grid", grid, why.strip())]


def _shift(told: CoregistrationFacts | None) -> list[Decision]:
    if told is None:
        return []
    what, why = shift(told), "The user said so."
    if told.sigma_dy is not None:
        reason = "the images lie on each other already" if told.applied and _is_none(told) else told.reason
        why = f"Confidence {float(told.confidence or 0.0):.2f}: {sentence(reason)}"
    return [Decision("Shift of the HSI", what, why)]


def shift(told: CoregistrationFacts) -> str:
    """Say how far the HSI was moved, in MSI pixels and metres, and whether it was."""
    down, right = told.shift_msi_px.dy, told.shift_msi_px.dx
    known = told.sigma_dy is not None
    if not known and not told.applied:
        return "not looked for"
    moved = f"{abs(down):.2f} px {'up' if down < 0 else 'down'}, {abs(right):.2f} px {'left' if right < 0 else 'right'}"
    if told.shift_m is not None:
        moved += f" ({number(hypot(told.shift_m.dy, told.shift_m.dx), 2)} m)"
    if known and _is_none(told):
        moved = f"none: less than {NO_SHIFT_PX} px"
    if not known:
        return f"{moved}, as given by the user"
    error = largest([told.sigma_dy, told.sigma_dx])
    moved += f" ± {error:.2f} px" if error >= NO_SHIFT_PX else ""
    return moved if told.applied or _is_none(told) else f"{moved}; not applied"


def _is_none(told: CoregistrationFacts) -> bool:
    return max(abs(told.shift_msi_px.dy), abs(told.shift_msi_px.dx)) < NO_SHIFT_PX


def _harmonization(told: HarmonizationFacts | None) -> list[Decision]:
    if told is None:
        return []
    model = RELATIONS.get(told.model, told.model)
    reason = sentence(told.reason)
    if told.pixels:
        alike = 1.0 if told.inlier_fraction is None else float(told.inlier_fraction)
        reason += f" Judged on {told.pixels} HSI pixels, {100 * alike:.0f} % of them alike."
    return [Decision("Harmonisation of the MSI", model, reason)]


def _method(record: RunRecord) -> list[Decision]:
    model = record.trained
    if model.method is None:
        return []
    name = model.method
    told = f"{name}: {METHODS[name]}" if name in METHODS else name
    pixels = "?" if model.train_pixels is None else model.train_pixels
    why = f"Learned on {pixels} HSI pixels with seed {model.seed}"
    return [Decision("Method", told, f"{why}. What it chose itself stands at the end of this page.")]


def choices(told: Mapping[str, JsonValue]) -> str:
    """Return what a method's fit settled itself: "components 16, ridges 0.01 / 0.1"."""
    return ", ".join(f"{key.replace('_', ' ')} {_choice(value)}" for key, value in told.items())


def _choice(value: JsonValue) -> str:
    if isinstance(value, list):
        shown = " / ".join(number(part, 3) for part in value[:LISTED])
        return shown if len(value) <= LISTED else f"{shown} / … ({len(value)} values)"
    return number(value)


def _refinement(told: RefinementFacts | None) -> list[Decision]:
    if told is None:
        return []
    reason, errors = sentence(told.reason), told.agreement_with_hsi
    if errors is not None and errors.rmse_after is not None:
        reason += (
            f" In the HSI's {told.components or ''} main components, so without most of its noise, the product "
            f"differs from it by {number(errors.rmse_after, 2)} (RMSE), before by {number(errors.rmse_before, 2)}."
        )
    differing = float(told.differing_share or 0.0)
    if differing >= TOLD_SHARE:
        reason += (
            f" At {differing:.1%} of the HSI pixels the sensors do not show the same (cloud, shadow, change, "
            "saturation or a fault): they were left out, and the product there is what the MSI shows. --qa marks them."
        )
    changed = float(told.changed_share or 0.0)
    if changed:
        reason += (
            f" At {changed:.1%} of the pixels the MSI does not show the ground that the HSI saw (change, cloud, "
            "shadow): the product there shows what the HSI does, no sharper than it. --qa marks them."
        )
    outcome = "corrected to agree with the HSI" if told.applied else "not corrected: as the MSI gives it"
    return [Decision("Agreement with the HSI", outcome, reason), *_learned_twice(told.learned_twice)]


def _learned_twice(told: LearnedTwiceFacts | None) -> list[Decision]:
    """What came of learning again from the refined product; nothing where there was none to learn from."""
    if told is None or told.pixels is None:
        return []
    outcome = (
        f"on {number(told.pixels)} pixels of the refined product" if told.applied else "not: the first model stays"
    )
    return [Decision("Learned twice", outcome, sentence(told.reason))]


def _uncertainty(told: UncertaintyFacts | None) -> list[Decision]:
    if told is None:
        return []
    what = f"standard error, median {number(told.median_sigma, 3)}"
    why = f"Calibrated on {told.held_out_pixels} HSI pixels, each judged by a model that had not seen it."
    needed, share = told.needed_one_level_down, told.refined_share
    if needed is not None:
        why += f" One level down, where it is known, the error of fine pixels was {times(float(needed))} theirs."
    if share < 1:
        why += f" Agreement with the HSI leaves {percent(share)} of the error, as measured one level down."
    return [Decision("Uncertainty", what, why)]


def information(told: ExplainedVarianceFacts) -> str:
    """Say in one sentence how far the MSI determines the spectra."""
    known = [
        (float(share), float(centre))
        for share, centre in zip(told.explained, told.wavelength_nm, strict=True)
        if share is not None and centre is not None
    ]
    shares = [share for share, _ in known]
    least, where = min(known)
    well = sum(share >= WELL_DETERMINED for share in shares)
    return (
        f"On {told.held_out_pixels} HSI pixels held out, the MSI's bands explain {percent(_mean(shares))} of an "
        f"HSI band's variance on average. {well} of {len(known)} HSI bands are explained to "
        f"{percent(WELL_DETERMINED)} or more; least is the one at {fixed(where, 0)} nm ({percent(max(least, 0.0))})."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _written(record: RunRecord, product: ProductFile) -> list[Decision]:
    written = record.written
    if written is None or not product.stored:
        return []
    stored, clipped = product.stored[0], written.clipped_values
    what = f"{stored.data_type}, value = number × {number(stored.scale)}, nodata {number(stored.nodata, 6)}"
    told = f" ({number(100 * clipped / max(1, written.values), 2)} %)" if clipped else ""
    return [Decision("Written as", what, f"{written.valid_pixels} valid pixels; {clipped} values clipped{told}.")]
