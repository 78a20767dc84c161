"""The cross-sensor check: every planted mistake is named, clean pairs raise no alarm."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geolift.degradation.sampling import degrade_msi
from geolift.pair.checks import Candidate, CheckResult, Finding, Reading, check_pair
from geolift.pair.checks.identity import order_finding
from geolift.pair.checks.pair import PairedPixels
from geolift.pair.coregistration import estimate_shift
from geolift.srf import twins_of

FloatArray = NDArray[np.float32]
RATIO, MARGIN = 3, 2
CENTRES_NM = np.linspace(420, 2400, 60)
SENSORS = {
    "four": ((490, 65), (560, 35), (665, 30), (833, 106)),
    "twin": ((492, 65), (559, 35), (665, 30), (833, 104)),
    "cousin": ((470, 40), (610, 40), (720, 30), (1600, 90)),
    "six": ((490, 65), (560, 35), (665, 30), (705, 15), (783, 20), (865, 20)),
}
NAMES = {"four": "BGRN", "twin": "BGRN", "cousin": "KLMN", "six": "BGRE78"}


def weights(sensor: str) -> NDArray[np.float64]:
    centre, fwhm = np.array(SENSORS[sensor], float).T
    curve = np.exp(-4 * np.log(2) * ((CENTRES_NM - centre[:, None]) / np.maximum(fwhm[:, None], 30)) ** 2)
    return np.asarray(curve / curve.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Pair:
    """HSI cube on the LR grid, MSI on the fine grid, of one scene with an atmosphere between them."""

    hsi: FloatArray
    msi: FloatArray
    sensor: str

    def check(self, msi: FloatArray | None = None, **options: object) -> CheckResult:
        named = str(options.pop("sensor", self.sensor))
        simulated = np.einsum("bk,kyx->byx", weights(named), self.hsi).astype(np.float32)
        fine = self.msi if msi is None else msi
        fine = np.pad(fine, ((0, 0), (6, 6), (6, 6)), constant_values=np.nan).astype(np.float32)
        shift = estimate_shift(simulated, fine, RATIO, MARGIN)
        applied = (shift.dy, shift.dx) if shift.reliable else (0.0, 0.0)
        blur = shift.blur_sigma_y if np.isfinite(shift.blur_sigma_y) else 1.3
        degraded = degrade_msi(fine, RATIO, MARGIN, applied, (blur, blur))
        candidates = {
            name: Candidate(tuple(NAMES[name]), np.einsum("bk,kyx->byx", weights(name), self.hsi).astype(np.float32))
            for name in SENSORS
        }
        return check_pair(
            simulated,
            degraded,
            tuple(NAMES[named]),
            shift,
            RATIO,
            sensor=named,
            candidates=candidates,
            **options,  # type: ignore[arg-type]
        )


def cube(seed: int, side: int = 96) -> FloatArray:
    """Fields of vegetation, soil, water and roofs, mixed a little: (60, side, side)."""
    rng = np.random.default_rng(seed)
    nm = CENTRES_NM
    step = 1 / (1 + np.exp(-(nm - 715) / 12))
    dry = np.exp(-(((nm - 1450) / 120) ** 2)) + np.exp(-(((nm - 1940) / 130) ** 2))
    leaf = 0.04 + 0.05 * np.exp(-(((nm - 550) / 40) ** 2)) + 0.4 * step * np.exp(-nm / 4000) * (1 - 0.5 * dry)
    soil = 0.08 + 0.25 * (1 - np.exp(-(nm - 350) / 700))
    water = 0.06 * np.exp(-(nm - 420) / 150)
    roof = 0.25 + 0.05 * np.sin(nm / 300)
    rust = 0.05 + 0.3 / (1 + np.exp(-(nm - 590) / 25)) - 0.1 * np.exp(-(((nm - 870) / 90) ** 2))
    library = np.stack([leaf, soil, water, roof, rust])
    fields = rng.integers(0, 5, (side // 6 + 1, side // 6 + 1))
    share = np.stack([np.kron(fields == m, np.ones((6, 6)))[:side, :side] for m in range(5)])
    share = ndimage.gaussian_filter(share, (0, 1.0, 1.0)) * rng.uniform(0.7, 1.3, (1, side, side))
    share = ndimage.gaussian_filter(share, (0, 0.6, 0.6))
    return np.einsum("mk,myx->kyx", library, share).astype(np.float32)


def pair(seed: int, sensor: str = "four", seen_by: str | None = None) -> Pair:
    rng = np.random.default_rng(seed)
    fine = cube(seed)
    hsi = ndimage.gaussian_filter(fine, (0, 1.27, 1.27)).reshape(60, 32, 3, 32, 3).mean(axis=(2, 4))
    hsi = hsi + rng.normal(size=hsi.shape) * 0.004
    msi = np.einsum("bk,kyx->byx", weights(seen_by or sensor), fine)
    msi = msi * rng.normal(1.0, 0.08, (msi.shape[0], 1, 1)) + rng.normal(0.0, 0.01)
    msi = msi + rng.normal(size=msi.shape) * 0.003
    return Pair(hsi.astype(np.float32), msi.astype(np.float32), sensor)


def codes(result: CheckResult) -> set[str]:
    return {finding.code for finding in result.verdict}


SEEDS = range(3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sensor", ["four", "six"])
def test_clean_pairs_raise_no_alarm(seed: int, sensor: str) -> None:
    result = pair(seed, sensor).check()
    assert not result.alarms, result.verdict
    assert [band.name for band in result.bands] == list(NAMES[sensor])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("offset", "option"), [(0.1, "--msi-offset -0.1"), (-0.1, "--msi-offset 0.1")])
def test_an_offset_of_a_tenth_is_named_with_the_option(seed: int, offset: float, option: str) -> None:
    given = pair(seed)
    (finding,) = given.check(given.msi + offset).verdict
    assert (finding.code, finding.option) == ("offset", option)
    assert ("brighter" if offset > 0 else "darker") in finding.message


def test_the_option_for_an_offset_counts_what_the_reader_applied() -> None:
    given = pair(0)
    (finding,) = given.check(given.msi + 0.1, reading=Reading(msi_scale=1e-4, msi_offset=-0.02)).verdict
    assert finding.option == "--msi-offset -0.12"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("factor", "option"), [(1e4, "--msi-scale 0.0001"), (1e-4, "--msi-scale 10000")])
def test_a_factor_of_ten_thousand_is_named_with_the_option(seed: int, factor: float, option: str) -> None:
    given = pair(seed)
    (finding,) = given.check(given.msi * factor).verdict
    assert (finding.code, finding.option) == ("scale", option)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_factor_of_a_hundred_is_percent_unless_the_file_holds_bytes_or_the_bands_differ(seed: int) -> None:
    given = pair(seed)
    (percent,) = given.check(given.msi * 100).verdict
    assert (percent.code, percent.option) == ("scale", "--msi-scale 0.01")
    radiance = given.msi * np.array([[[590.0]], [[450.0]], [[100.0]], [[60.0]]])
    for result in (given.check(given.msi * 100, reading=Reading(msi_bytes=True)), given.check(radiance)):
        assert not result.alarms
        assert any("times the HSI's" in finding.message for finding in result.verdict)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_hsi_in_counts_beside_reflectance_is_named_and_radiance_is_not_taken_for_it(seed: int) -> None:
    given, unknown = pair(seed), Reading(reflectance=False)
    (finding,) = replace(given, hsi=given.hsi * 1e4).check(reading=unknown).verdict
    assert (finding.code, finding.option) == ("scale", "--hsi-scale 0.0001")
    sun = 1e4 * np.linspace(2.0, 0.3, len(CENTRES_NM), dtype=np.float32)[:, None, None]
    assert not replace(given, hsi=given.hsi * sun).check(reading=unknown).alarms


@pytest.mark.parametrize("factor", [255.0, 637.0])
def test_a_gain_that_is_no_power_of_ten_is_told_and_no_alarm(factor: float) -> None:
    given = pair(0)
    result = given.check(given.msi * factor)
    assert not result.alarms
    (told,) = (float(found[1]) for f in result.verdict if (found := re.search(r"are (\S+) times the HSI's", f.message)))
    assert told == pytest.approx(factor, rel=0.2)


def test_the_image_with_impossible_values_is_the_one_to_rescale() -> None:
    given = pair(1)
    dark = Pair(given.hsi * np.float32(1e4), given.msi, given.sensor)
    (finding,) = dark.check().verdict
    assert (finding.code, finding.option) == ("scale", "--hsi-scale 0.0001")


def test_landsat_numbers_read_as_reflectance_are_recognised() -> None:
    given = pair(2)
    (finding,) = given.check((given.msi + 0.2) / 0.275).verdict
    assert finding.code == "scale"
    assert "--msi-scale 2.75e-05 --msi-offset -0.2" in finding.option


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_in_reverse_order_are_named_with_the_right_list(seed: int) -> None:
    given = pair(seed, "six")
    (finding,) = given.check(given.msi[::-1]).verdict
    assert finding.code == "band-order"
    assert "reverse" in finding.message
    assert finding.option == "--msi-bands 8,7,E,R,G,B"


@pytest.mark.parametrize("seed", SEEDS)
def test_two_swapped_bands_are_named(seed: int) -> None:
    given = pair(seed, "six")
    (finding,) = given.check(given.msi[[0, 1, 5, 3, 4, 2]]).verdict
    assert finding.code == "band-order"
    assert finding.option == "--msi-bands B,G,8,E,7,R"


@pytest.mark.parametrize("seed", SEEDS)
def test_shade_that_all_bands_share_does_not_hide_their_order(seed: int) -> None:
    given = pair(seed, "four")
    shade = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=given.msi.shape[1:]), 2.0)
    level = given.msi.mean(axis=(1, 2), keepdims=True)
    shaded = (given.msi + 0.8 * level * shade / shade.std()).astype(np.float32)
    assert codes(given.check(shaded)) <= {"ok", "undetermined"}
    for order in ([1, 0, 2, 3], [3, 2, 1, 0]):
        (finding,) = given.check(shaded[order]).verdict
        assert finding.code == "band-order"
        assert finding.option == "--msi-bands " + ",".join("BGRN"[i] for i in order)


def test_an_order_whose_bands_correlate_alike_is_not_said_to_correlate_better() -> None:
    pixels = np.zeros((2, 9))
    for better, said in ((0.97, "0.95 as taken, 0.97 in the order"), (0.951, "each correlates alike (0.95)")):
        correlation = np.array([[0.95, better], [better, 0.95]])
        alike = PairedPixels(
            names=("B", "G"),
            own=np.ones((3, 3), bool),
            simulated=pixels,
            seen=pixels,
            outlier_fraction=0.0,
            outlier_core=0.0,
            correlation=correlation,
            noise_share=np.zeros(2),
        )
        finding = order_finding(alike, np.array([1, 0]))
        assert said in finding.message
        assert finding.option == "--msi-bands G,B"


def test_a_mistake_of_order_does_not_hide_one_of_offset() -> None:
    given = pair(0, "six")
    assert codes(given.check(given.msi[::-1] + 0.1)) == {"band-order", "offset"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sensor_of_another_family_is_named(seed: int) -> None:
    (finding,) = pair(seed, "four", seen_by="cousin").check().verdict
    assert finding.code == "sensor"
    assert finding.option.startswith("--sensor cousin")


def eight_bands(sixth_nm: float, fwhm_nm: float) -> NDArray[np.float64]:
    """Responses of eight bands (8, 60), of which the sixth may lie elsewhere."""
    centres = np.array([440, 480, 550, 610, 660, sixth_nm, 860, 950])[:, None]
    curves = np.exp(-4 * np.log(2) * ((CENTRES_NM - centres) / fwhm_nm) ** 2)
    return np.asarray(curves / curves.sum(axis=1, keepdims=True))


def verdict_on_eight(
    seed: int,
    named: NDArray[np.float64],
    other: NDArray[np.float64],
    seen: NDArray[np.float64],
    noise: float,
    twin: bool = False,
) -> list[Finding]:
    """Check an image made with the curves ``seen``, another sensor being the only candidate."""
    rng = np.random.default_rng(seed)
    truth = cube(seed).reshape(60, 32, 3, 32, 3).mean(axis=(2, 4))
    hsi = truth + noise * rng.normal(size=truth.shape)
    simulated, others = (np.einsum("bk,kyx->byx", curves, hsi).astype(np.float32) for curves in (named, other))
    msi = np.einsum("bk,kyx->byx", seen, truth) + 0.003 * rng.normal(size=(8, 32, 32))
    candidates = {"other": Candidate(tuple("abcdefgh"), others, twin)}
    result = check_pair(simulated, msi.astype(np.float32), "abcdefgh", None, 3, candidates=candidates)
    return list(result.verdict)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_band_of_eight_that_is_another_sensors_is_evidence_enough(seed: int) -> None:
    named, other = eight_bands(705, 60), eight_bands(725, 60)
    (finding,) = verdict_on_eight(seed, named, other, seen=other, noise=0.005)
    assert finding.code == "sensor"
    assert finding.option.startswith("--sensor other ")


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_of_narrow_bands_is_no_evidence_for_a_sensor_with_wider_ones(seed: int) -> None:
    narrow, wide = eight_bands(790, 30), eight_bands(790, 80)
    verdict = verdict_on_eight(seed, narrow, wide, seen=narrow, noise=0.02)
    assert {finding.code for finding in verdict} == {"undetermined"}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_cannot_be_told_apart_is_undetermined_and_not_ok(seed: int) -> None:
    result = pair(seed, "four", seen_by="twin").check()
    assert codes(result) == {"undetermined"}
    assert any("twin" in finding.message for finding in result.verdict)
    known = pair(seed, "four").check(reading=Reading(sensor_known=True, bands_known=True))
    assert codes(known) == {"ok"}


@pytest.mark.parametrize("seed", SEEDS)
def test_three_msi_pixels_of_misregistration_are_named_with_their_amount(seed: int) -> None:
    given = pair(seed)
    moved = ndimage.shift(given.msi, (0, 3, 0), order=1, cval=np.nan)
    (finding,) = given.check(moved).verdict
    assert finding.code == "shift"
    dy, dx = (float(v) for v in finding.option.removeprefix("--coregister ").split(","))
    assert (dy, dx) == pytest.approx((3.0, 0.0), abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_clouds_over_a_third_of_the_scene_are_named_with_their_share(seed: int) -> None:
    given = pair(seed)
    cloudy = given.msi.copy()
    rows, columns = np.mgrid[:96, :96]
    cloudy[:, np.hypot(rows - 35, columns - 50) < 30] = 0.7
    (finding,) = given.check(cloudy).verdict
    assert finding.code == "cloud-or-change"
    share = int(finding.message.split("%")[0])
    assert 30 <= share <= 45  # 31 % are cloud; every HSI pixel that sees some of it counts


@pytest.mark.parametrize("seed", SEEDS)
def test_an_hsi_of_another_place_is_named(seed: int) -> None:
    given, elsewhere = pair(seed), pair(seed + 40)
    assert codes(given.check(elsewhere.msi)) == {"other-place"}


def test_no_common_pixel_is_named() -> None:
    given = pair(0)
    assert codes(given.check(np.full_like(given.msi, np.nan))) == {"no-overlap"}


@pytest.mark.parametrize("seed", SEEDS)
def test_behind_a_lost_scale_the_lost_offset_is_named_too_and_both_options_go_together(seed: int) -> None:
    given = pair(seed)
    scale, offset = given.check((given.msi + 0.1) * 1e4).verdict
    assert (scale.code, scale.option) == ("scale", "--msi-scale 0.0001")
    assert (offset.code, offset.option) == ("offset", "--msi-offset -0.1")


def test_an_offset_that_was_applied_is_rescaled_with_the_scale() -> None:
    given = pair(0)
    (finding,) = given.check(given.msi * 1e4, reading=Reading(msi_scale=1.0, msi_offset=-1000.0)).verdict
    assert finding.option == "--msi-scale 0.0001 --msi-offset -0.1"


@pytest.mark.parametrize("seed", SEEDS)
def test_clouds_do_not_hide_a_lost_offset(seed: int) -> None:
    given = pair(seed)
    rng = np.random.default_rng(seed)
    cover = ndimage.gaussian_filter(rng.normal(size=given.msi.shape[1:]), 6.0)
    cover = np.clip((cover - np.quantile(cover, 0.7)) / cover.std() * 3, 0, 1)
    assert codes(given.check(given.msi * (1 - cover) + 0.8 * cover + 0.1)) == {"offset", "cloud-or-change"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_instrument_on_another_spacecraft_is_a_doubt_and_no_alarm_however_clear(seed: int) -> None:
    named, other = eight_bands(720, 30), eight_bands(790, 30)
    for twin, code in ((False, "sensor"), (True, "undetermined")):
        verdict = verdict_on_eight(seed, named, other, seen=other, noise=0.005, twin=twin)
        assert {finding.code for finding in verdict} == {code}
        assert any("other" in finding.message for finding in verdict)


def test_spacecraft_of_one_instrument_are_twins_and_those_whose_bands_differ_are_not() -> None:
    assert twins_of("sentinel-2b") == ("sentinel-2a", "sentinel-2c")
    assert "landsat-8-oli" not in twins_of("landsat-5-tm")
    assert "worldview-3" not in twins_of("worldview-2")


def layout(seed: int) -> FloatArray:
    """Land that brightens from one side to the other, with texture of its own: (3, 40, 40)."""
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 40)), 0.8)
    land = np.linspace(0.1, 0.4, 40)[:, None] + 0.1 * texture
    return np.stack([land, 0.8 * land + 0.02, 1.2 * land]).astype(np.float32)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_layout_that_agrees_by_chance_does_not_pass_for_one_place(seed: int) -> None:
    one, other = layout(seed), layout(seed + 10)
    assert np.corrcoef(one[0].ravel(), other[0].ravel())[0, 1] > 0.7
    assert codes(check_pair(one, other, "abc", None, RATIO)) == {"other-place"}
    assert "other-place" not in codes(check_pair(one, one + 0.01, "abc", None, RATIO))


@pytest.mark.parametrize("seed", SEEDS)
def test_open_water_shows_too_little_and_is_not_called_another_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    level = np.array([0.045, 0.03, 0.015])[:, None, None]
    one, other = (np.asarray(level + 0.002 * rng.normal(size=(3, 40, 40)), np.float32) for _ in range(2))
    (finding,) = check_pair(one, other, "abc", None, RATIO).verdict
    assert finding.code == "undetermined"
    assert "too little" in finding.message


def test_a_dead_band_is_named_and_never_ok() -> None:
    given = pair(0)
    dead = given.msi.copy()
    dead[1] = 0.1
    first = given.check(dead).verdict[0]
    assert first.code == "undetermined"
    assert "one value" in first.message
    assert first.message.count("G") == 1
    assert first in given.check(dead).remarks
    assert {f.code for f in given.check(np.full_like(given.msi, 0.1)).verdict} == {"undetermined"}


def test_a_band_that_is_nodata_throughout_is_named_as_the_reason() -> None:
    given = pair(0)
    empty = given.msi.copy()
    empty[2] = np.nan
    (finding,) = given.check(empty).verdict
    assert finding.code == "no-overlap"
    assert "the MSI's R is nodata" in finding.message


def test_hyperion_and_ali_over_paris_raise_no_alarm_and_show_their_mistakes(shared_data: Path) -> None:
    from scipy.io import loadmat

    images = loadmat(shared_data / "paris_eo1" / "paris_data_hs_ms.mat")
    srf = loadmat(shared_data / "paris_eo1" / "fuvar_R_HysureParis.mat")["R"]
    hsi = ndimage.gaussian_filter(images["HSim"].transpose(2, 0, 1), (0, 1.27, 1.27))
    hsi = hsi.reshape(128, 24, 3, 24, 3).mean(axis=(2, 4))
    simulated = np.einsum("bk,kyx->byx", srf / srf.sum(axis=1, keepdims=True), hsi).astype(np.float32)
    ali = images["MSim"].transpose(2, 0, 1)
    names = ("MS-1p", "MS-1", "MS-2", "MS-3", "MS-4", "MS-4p", "MS-5p", "MS-5", "MS-7")

    def verdict(msi: FloatArray) -> set[str]:
        fine = np.pad(msi, ((0, 0), (6, 6), (6, 6)), constant_values=np.nan).astype(np.float32)
        shift = estimate_shift(simulated, fine, 3, 2)
        applied = (shift.dy, shift.dx) if shift.reliable else (0.0, 0.0)
        degraded = degrade_msi(fine, 3, 2, applied, (shift.blur_sigma_y, shift.blur_sigma_x))
        return codes(check_pair(simulated, degraded, names, shift, 3)) - {"ok", "undetermined"}

    assert verdict(ali) == set()
    assert verdict(ali[::-1]) == {"band-order"}
    assert verdict(ali * 1e4) == {"scale"}
