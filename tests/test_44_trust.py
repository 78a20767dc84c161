"""Two files become one place, and nothing is silently wrong: shifts, radiometry, mistakes, masks, quality, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from command_line import run
from rasterio.crs import CRS
from scenes import ORIGIN, Pair, make_pair, spectra_of, write
from scipy import ndimage

import geolift
from geolift.datamodel.cube import grid_of
from geolift.datamodel.quality import Flag
from geolift.errors import InputError, TrustError
from geolift.pair.checks import noise_amplification
from geolift.pipeline import files, pair_check
from geolift.runtime.progress import Silent, heard_by
from geolift.settings import FuseSettings, PairSettings
from geolift.srf import SpectralResponse

NAMES = ("B02", "B03", "B04", "B08")
QUICK = {"sensor": "sentinel-2a", "max_train_pixels": 600}
SIZE = 180


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    """A larger scene with texture at every scale, with a margin of 9 pixels around it."""
    wavelength = np.linspace(420, 1000, 30)
    rng = np.random.default_rng(5)
    rough = spectra_of(wavelength, SIZE + 18, SIZE + 18, seed=3)
    light = 1 + 0.3 * ndimage.gaussian_filter(rng.standard_normal((SIZE + 18, SIZE + 18)), 2.0)
    return (rough * light).astype(np.float32), wavelength


def planted(folder: Path, truth: tuple[np.ndarray, np.ndarray], dy: int = 0, dx: int = 0, **change: object) -> Pair:
    """Write a pair whose HSI must move by (dy, dx) MSI pixels; ``change`` spoils the MSI's values or adds ``noise`` to
    the HSI's."""
    values, wavelength = truth
    folder.mkdir(parents=True, exist_ok=True)
    fwhm = np.full(30, 21.0)
    fine = values[:, 9 : 9 + SIZE, 9 : 9 + SIZE]
    # What the HSI calls its first pixel shows ground that the MSI has (dy, dx) further down and right.
    moved = values[:, 9 + dy : 9 + dy + SIZE, 9 + dx : 9 + dx + SIZE]
    blurred = ndimage.gaussian_filter(moved, (0, 1.2, 1.2))
    coarse = blurred.reshape(30, SIZE // 3, 3, SIZE // 3, 3).mean(axis=(2, 4))
    weights = SpectralResponse.from_library("sentinel-2a").select(NAMES).weights(wavelength, fwhm).weights
    msi = np.einsum("cb,byx->cyx", weights, fine)
    rng = np.random.default_rng(1)
    msi = msi + 0.0005 * rng.standard_normal(msi.shape)
    spoil = change.pop("spoil", None)
    if callable(spoil):
        msi = spoil(msi)
    coarse = coarse + float(change.pop("noise", 0.0)) * rng.standard_normal(coarse.shape)  # type: ignore[arg-type]
    hsi_file = write(folder / "hsi.tif", coarse, gsd=30, wavelength_nm=wavelength, fwhm_nm=fwhm)
    msi_file = write(folder / "msi.tif", msi, gsd=10, names=NAMES, dtype="float32", scale=None, nodata=None)
    return Pair(hsi_file, msi_file, fine, wavelength, fwhm)


class Remembering(Silent):
    """A listener that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def codes(pair: Pair, **options: object) -> list[str]:
    document = pair_check.check_files(pair.hsi, pair.msi, PairSettings(sensor="sentinel-2a", **options))
    return [finding["code"] for finding in document["verdict"]]


def test_a_planted_shift_is_found_named_and_corrected_in_the_transform_alone(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path, truth, dy=3, dx=-2)
    settings = PairSettings(sensor="sentinel-2a")
    document = pair_check.coregister_files(pair.hsi, pair.msi, tmp_path / "moved.tif", settings)
    assert document["shift_msi_px"]["dy"] == pytest.approx(3, abs=0.05)
    assert document["shift_msi_px"]["dx"] == pytest.approx(-2, abs=0.05)
    assert document["shift_m"]["dy"] == pytest.approx(30, abs=0.5)
    assert document["applied"]
    assert document["confidence"] > 0.9
    with rasterio.open(pair.hsi) as before, rasterio.open(tmp_path / "moved.tif") as after:
        assert np.array_equal(before.read(), after.read())
        assert before.tags(3) == after.tags(3)
        assert before.scales == after.scales
        moved = after.transform * ~before.transform
        assert (moved.c, moved.f) == pytest.approx((-20, -30), abs=0.5)
    assert "shift" in codes(pair)


def test_report_tells_a_shift_and_applies_none_and_a_known_one_is_taken(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path, truth, dy=3, dx=-2)
    told = pair_check.coregister_files(pair.hsi, pair.msi, None, PairSettings(sensor="s2a", coregister="report"))
    assert not told["applied"]
    assert told["shift_msi_px"]["dy"] == pytest.approx(3, abs=0.05)
    given = pair_check.coregister_files(pair.hsi, pair.msi, None, PairSettings(sensor="s2a", coregister="3,-2"))
    assert given["applied"]
    assert given["shift_msi_px"] == {"dy": pytest.approx(3), "dx": pytest.approx(-2)}


def test_python_finds_the_shift_that_the_command_finds_in_files_and_in_open_cubes(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path, truth, dy=3, dx=-2)
    from_files = geolift.coregister(pair.hsi, pair.msi, sensor="s2a")
    assert from_files["applied"]
    assert from_files["shift_msi_px"] == {"dy": pytest.approx(3, abs=0.05), "dx": pytest.approx(-2, abs=0.05)}
    assert geolift.coregister(geolift.open(pair.hsi), geolift.open(pair.msi), sensor="s2a") == from_files


def test_a_shift_that_varies_is_told_and_followed_only_on_request(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    values, wavelength = truth
    rows, cols = np.mgrid[: values.shape[1], : values.shape[2]].astype(float)
    bend = 1.5 * (2 * rows / values.shape[1] - 1)
    sheared = np.stack([ndimage.map_coordinates(band, [rows, cols + bend], order=1) for band in values])
    straight = planted(tmp_path / "straight", truth)
    pair = planted(tmp_path / "sheared", (sheared.astype(np.float32), wavelength))
    listener = Remembering()
    with heard_by(listener):
        told = pair_check.coregister_files(pair.hsi, straight.msi, tmp_path / "moved.tif", PairSettings(sensor="s2a"))
    assert told["local"]["degree"] == 1
    assert told["local"]["largest_px"] == pytest.approx(1.5, abs=0.3)
    assert "--coregister local" in " ".join(listener.warnings)
    pair_check.coregister_files(
        pair.hsi, straight.msi, tmp_path / "followed.tif", PairSettings(sensor="s2a", coregister="local")
    )
    with rasterio.open(pair.hsi) as before, rasterio.open(tmp_path / "moved.tif") as moved:
        assert np.array_equal(before.read(), moved.read())
    wanted, spoilt, followed = (geolift.open(p).values for p in (straight.hsi, pair.hsi, tmp_path / "followed.tif"))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    before, after = (np.sqrt(np.mean((image - wanted)[inner] ** 2)) for image in (spoilt, followed))
    assert after < 0.7 * before  # what remains is finer than the HSI can be read between its pixels


def test_weak_texture_is_said_and_strict_refuses(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, rows=36, cols=36)
    noise = 0.2 + 0.001 * np.random.default_rng(0).standard_normal((30, 12, 12))
    hsi = write(tmp_path / "flat.tif", noise, gsd=30, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm)
    with pytest.raises(TrustError, match="not trustworthy"):
        pair_check.coregister_files(hsi, pair.msi, None, PairSettings(sensor="s2a", strict=True))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda m: m + 0.1, "offset"),
        (lambda m: m - 0.1, "offset"),
        (lambda m: m * 1e4, "scale"),
        (lambda m: m / 1e4, "scale"),
        (lambda m: m[::-1], "band-order"),
        (lambda m: m[[2, 1, 0, 3]], "band-order"),
    ],
)
def test_an_injected_mistake_is_named(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray], spoil: object, code: str
) -> None:
    assert code in codes(planted(tmp_path, truth, spoil=spoil))


def test_a_clean_pair_raises_no_alarm(tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]) -> None:
    assert set(codes(planted(tmp_path, truth))) <= {"ok", "undetermined"}


@pytest.mark.parametrize("unit", ["Nanometers", ""])
def test_micrometres_for_nanometres_are_set_right_and_named(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray], unit: str
) -> None:
    pair = planted(tmp_path, truth)
    with rasterio.open(pair.hsi, "r+") as file:
        for band, centre in enumerate(pair.wavelength_nm, start=1):
            file.update_tags(band, wavelength=str(centre / 1000), fwhm="0.021", wavelength_units=unit)
    document = pair_check.check_files(pair.hsi, pair.msi, PairSettings(sensor="sentinel-2a", strict=True))
    (units, *others) = document["verdict"]
    assert (units["code"], units["settled"]) == ("units", True)
    assert "micrometres" in units["message"]
    assert {finding["code"] for finding in others} <= {"undetermined"}


def test_radiance_against_reflectance_is_named_and_needs_a_hand_where_no_relation_is_fitted(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path, truth, spoil=lambda msi: 0.01 * msi)
    for file, unit in ((pair.hsi, "radiance"), (pair.msi, "reflectance")):
        with rasterio.open(file, "r+") as target:
            target.units = (unit,) * target.count
    settings = PairSettings(sensor="sentinel-2a", harmonize="gain")
    found = pair_check.check_files(pair.hsi, pair.msi, settings)["verdict"][0]
    assert (found["code"], found["settled"]) == ("units", True)
    alone = pair_check.check_files(pair.hsi, pair.msi, PairSettings(sensor="sentinel-2a", harmonize="off"))["verdict"]
    assert (alone[0]["code"], alone[0]["settled"]) == ("units", False)
    assert alone[0]["option"] == "--harmonize gain"


def test_another_place_and_no_overlap_are_verdicts_and_strict_makes_them_exit_5(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path / "a", truth)
    other = write(
        tmp_path / "other.tif", spectra_of(np.arange(4) * 100.0 + 450, SIZE, SIZE, seed=77), gsd=10, names=NAMES
    )
    elsewhere = Pair(pair.hsi, other, pair.truth, pair.wavelength_nm, pair.fwhm_nm)
    assert codes(elsewhere) == ["other-place"]
    far = write(tmp_path / "far.tif", np.full((4, 30, 30), 0.2), gsd=10, names=NAMES, origin=(5e5, 5e6))
    assert codes(Pair(pair.hsi, far, pair.truth, pair.wavelength_nm, pair.fwhm_nm)) == ["no-overlap"]
    strict = run("check", pair.hsi, other, "--sensor", "s2a", "--strict", cwd=tmp_path)
    assert strict.returncode == 5
    assert strict.stderr.count("geolift: ") == 1


def test_harmonisation_undoes_a_radiometric_difference_and_leaves_clean_pairs_alone(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    gain = np.array([0.8, 0.9, 1.1, 1.3])[:, None, None]
    pair = planted(tmp_path, truth, spoil=lambda m: gain * m + 0.03)
    product = geolift.fuse(pair.hsi, pair.msi, refine="off", **QUICK)
    error = np.sqrt(np.nanmean((product.values - pair.truth) ** 2))
    untreated = geolift.fuse(pair.hsi, pair.msi, refine="off", **QUICK, harmonize="off")
    assert error < 0.5 * np.sqrt(np.nanmean((untreated.values - pair.truth) ** 2))
    clean = planted(tmp_path / "clean", truth)
    fusion = geolift.prepare(clean.hsi, clean.msi, refine="off", method="linear", **QUICK)
    assert fusion.compared is not None
    assert fusion.compared.harmonization.is_identity


def test_masked_pixels_have_no_value_and_the_quality_bits_say_why(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    def holes(msi: np.ndarray) -> np.ndarray:
        msi = msi.copy()
        msi[:, 5:9, 5:9] = np.nan
        msi[:, 100:104, 100:104] = 3.0
        return msi

    pair = planted(tmp_path, truth, spoil=holes)
    cloud = np.zeros((1, SIZE, SIZE))
    cloud[0, 40:60, 30:50] = 1
    mask = write(tmp_path / "cloud.tif", cloud, gsd=10, scale=None, dtype="uint8", nodata=None)
    settings = FuseSettings(**QUICK, mask=str(mask), qa=tmp_path / "qa.tif", coregister="off", harmonize="off")
    files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    with rasterio.open(tmp_path / "p.tif") as product, rasterio.open(tmp_path / "qa.tif") as quality:
        valid = (product.read() != product.nodata).all(axis=0)
        bits = quality.read(1)
        assert quality.transform == product.transform
        assert quality.dtypes == ("uint16",)
    nodata = np.zeros((SIZE, SIZE), bool)
    nodata[5:9, 5:9] = True
    assert np.array_equal(~valid, nodata | cloud[0].astype(bool))
    assert np.array_equal((bits & Flag.NODATA) > 0, nodata)
    assert np.array_equal((bits & Flag.MASKED) > 0, cloud[0] > 0)
    # what the HSI has not seen lies out of range, or gives way to what it did see
    assert ((bits & (Flag.OUT_OF_RANGE | Flag.DIFFERS)) > 0)[100:104, 100:104].all()
    assert ((bits & Flag.OUT_OF_RANGE) > 0)[valid].mean() < 0.5
    assert not ((bits & Flag.OUTSIDE_HSI) > 0).any()


def test_where_the_sensors_differ_the_quality_bits_say_so_and_nothing_is_refined(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    def change(msi: np.ndarray) -> np.ndarray:
        changed = msi.copy()
        changed[:, 30:60, 60:90] = msi[:, 90:120, 10:40][:, ::-1] * 0.5 + 0.3
        return changed

    pair = planted(tmp_path, truth, spoil=change)
    settings = FuseSettings(**QUICK, qa=tmp_path / "qa.tif", refine="on", coregister="off", harmonize="off")
    result = files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    with rasterio.open(tmp_path / "qa.tif") as quality:
        bits = quality.read(1)
    differs = (bits & Flag.DIFFERS) > 0
    assert differs[33:57, 63:87].all()
    near = np.zeros((SIZE, SIZE), bool)
    near[18:72, 48:102] = True
    assert differs[~near].mean() < 0.02
    share = result.sidecar["properties"]["geolift:refinement"]["changed_share"]
    assert 0.01 < share < 0.3
    verdict = result.sidecar["properties"]["geolift:check"]["verdict"]
    told = [found for found in verdict if found["code"] == "cloud-or-change"]
    assert [f"{share:.1%}" in found["message"] for found in told] == [True]
    assert told[0]["settled"]
    checked = pair_check.check_files(pair.hsi, pair.msi, PairSettings(sensor="sentinel-2a", coregister="off"))
    assert sum(found["code"] == "cloud-or-change" for found in checked["verdict"]) == 1
    clean = planted(tmp_path / "clean", truth)
    checked = pair_check.check_files(clean.hsi, clean.msi, PairSettings(sensor="sentinel-2a", coregister="off"))
    assert not any(found["code"] == "cloud-or-change" for found in checked["verdict"])


def test_the_quality_bits_know_the_hsis_footprint(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, origin=(ORIGIN[0] - 30, ORIGIN[1] + 30))
    settings = FuseSettings(**QUICK, extent="msi", qa=tmp_path / "qa.tif", coregister="off")
    result = files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    with rasterio.open(tmp_path / "qa.tif") as quality:
        outside = (quality.read(1) & Flag.OUTSIDE_HSI) > 0
    expected = np.ones((48, 42), bool)
    expected[3:, 3:] = False
    assert np.array_equal(outside, expected)
    assert result.sidecar["properties"]["geolift:pixels_without_hsi"] == expected.sum()


def test_the_stated_error_holds_on_held_out_truth(tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]) -> None:
    pair = planted(tmp_path, truth, noise=0.002)
    settings = FuseSettings(**QUICK, uncertainty=tmp_path / "sigma.tif", coregister="off")
    result = files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    product, sigma = geolift.open(tmp_path / "p.tif"), geolift.open(tmp_path / "sigma.tif")
    assert grid_of(product).affine == grid_of(sigma).affine
    assert (sigma.values > 0).all()
    inside = np.abs(product.values - pair.truth) <= sigma.values
    # On a truth this smooth the stated error is on the safe side; it must never be far too small.
    assert 0.55 < inside.mean() < 0.95
    facts = result.sidecar["properties"]["geolift:uncertainty"]
    assert facts["held_out_pixels"] > 50
    assert 0.3 < facts["needed_one_level_down"] < 3


def test_a_model_that_enlarges_what_the_sensors_disagree_about_is_told(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = planted(tmp_path, truth)
    calm, told = Remembering(), Remembering()
    geolift.fuse(pair.hsi, pair.msi, listener=calm, refine="off", **QUICK)
    assert not [text for text in calm.warnings if "takes noise for information" in text]
    monkeypatch.setattr(noise_amplification, "MOST_AMPLIFIED", 0.2)
    monkeypatch.setattr(noise_amplification, "LEAST_TOLD", 0.0)
    geolift.fuse(pair.hsi, pair.msi, listener=told, refine="off", **QUICK)
    assert [text for text in told.warnings if "takes noise for information" in text]


def test_a_rotated_shift_between_two_crss_is_told_in_the_msis_pixels(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    """The MSI in the neighbouring UTM zone, where north points another way, moved by two of its own pixels."""
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    pair = planted(tmp_path, truth)
    with rasterio.open(pair.msi) as source:
        values, bounds = source.read(), source.bounds
        affine, cols, rows = calculate_default_transform(
            source.crs, CRS.from_epsg(32632), SIZE, SIZE, *bounds, resolution=10
        )
        out = np.full((4, rows, cols), np.nan, np.float32)
        reproject(
            values, out, src_transform=source.transform, src_crs=source.crs, dst_transform=affine,
            dst_crs=CRS.from_epsg(32632), src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.cubic,
        )  # fmt: skip
    moved = affine * Affine.translation(2, -1)
    msi = write(
        tmp_path / "zone32.tif", out, gsd=10, transform=moved, crs="EPSG:32632", names=NAMES, dtype="float32",
        scale=None, nodata=None,
    )  # fmt: skip
    document = pair_check.coregister_files(pair.hsi, msi, None, PairSettings(sensor="s2a"))
    assert document["shift_msi_px"]["dx"] == pytest.approx(2, abs=0.1)
    assert document["shift_msi_px"]["dy"] == pytest.approx(-1, abs=0.1)


def test_the_sidecar_tells_shift_relation_and_check(tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]) -> None:
    pair = planted(tmp_path, truth, dy=1)
    files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", FuseSettings(**QUICK))
    facts = json.loads((tmp_path / "p.json").read_text())["properties"]
    assert facts["geolift:coregistration"]["shift_msi_px"]["dy"] == pytest.approx(1, abs=0.05)
    assert facts["geolift:check"]["bands"][0]["name"] == "B02"
    assert facts["geolift:harmonization"]["reason"]


def test_a_mask_over_everything_is_refused_with_the_way_out(
    tmp_path: Path, truth: tuple[np.ndarray, np.ndarray]
) -> None:
    pair = planted(tmp_path, truth)
    mask = write(tmp_path / "mask.tif", np.ones((1, SIZE, SIZE)), gsd=10, dtype="uint8", scale=None, nodata=None)
    settings = FuseSettings(**QUICK, mask=str(mask))
    with pytest.raises(InputError, match=r"mask.tif: hides every pixel of the product.*--mask none"):
        files.fuse_files(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    assert not (tmp_path / "p.tif").exists()
