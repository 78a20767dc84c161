"""Pipeline: from two files to one, on the MSI's grid, the same whatever the tiles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.warp import calculate_default_transform
from scenes import ORIGIN, UTM, Pair, make_pair, spectra_of, write

import geolift
from geolift.datamodel import alignment
from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError, UsageError
from geolift.pipeline import files, wald
from geolift.pipeline.trained import load_trained
from geolift.settings import ApplySettings, FuseSettings, SimulateSettings

QUICK = {"sensor": "sentinel-2a", "refine": "off"}
pytestmark = pytest.mark.usefixtures("few_steps")


@pytest.fixture(scope="module")
def fused(pair: Pair) -> Path:
    output = pair.hsi.parent / "fused.tif"
    settings = FuseSettings(**QUICK, save_model=pair.hsi.parent / "model.safetensors")
    files.fuse_files(pair.hsi, pair.msi, output, settings)
    return output


def test_the_product_is_close_to_the_truth_on_the_msi_grid(pair: Pair, fused: Path) -> None:
    with rasterio.open(fused) as product, rasterio.open(pair.msi) as msi:
        assert product.crs.to_wkt() == msi.crs.to_wkt()
        assert product.transform == msi.transform
        assert product.shape == msi.shape
        values = product.read() * product.scales[0]
    assert values.shape[0] == len(pair.wavelength_nm)
    assert np.sqrt(np.mean((values - pair.truth) ** 2)) < 0.02


def test_the_sidecar_is_a_stac_item_that_repeats_the_run(fused: Path, tmp_path: Path) -> None:
    item = json.loads(fused.with_suffix(".json").read_text())
    assert item["type"] == "Feature"
    assert item["properties"]["geolift:datetime_is"].startswith("time of the run")
    assert item["assets"]["data"]["raster:bands"][0]["scale"] == 1e-4
    assert item["properties"]["geolift:pixels_without_hsi"] == 0
    from geolift.provenance.sidecar import settings_of_run

    found = settings_of_run(fused.with_suffix(".json"))
    again = tmp_path / "again.tif"
    settings = {k: v for k, v in found.items() if k not in ("hsi", "msi", "output", "save_model") and v is not None}
    files.fuse_files(found["hsi"], found["msi"], again, FuseSettings(**settings))
    with rasterio.open(again) as a, rasterio.open(fused) as b:
        assert np.array_equal(a.read(), b.read())


def test_the_model_saved_is_the_one_learned_last_and_sidecar_and_report_say_so(pair: Pair, tmp_path: Path) -> None:
    saved, output = tmp_path / "model.safetensors", tmp_path / "twice.tif"
    settings = FuseSettings(sensor="sentinel-2a", refine="on", save_model=saved, report=tmp_path / "twice.html")
    files.fuse_files(pair.hsi, pair.msi, output, settings)
    told = json.loads(output.with_suffix(".json").read_text())["properties"]["geolift:refinement"]["learned_twice"]
    choices = load_trained(saved).model.choices
    assert told["applied"] == (choices.get("learned_from") == "the refined product")
    assert told["pixels"] > 0 and told["reason"]
    assert "Learned twice" in (tmp_path / "twice.html").read_text(encoding="utf-8")


def test_tile_size_and_threads_do_not_change_a_pixel_training_included(pair: Pair, tmp_path: Path) -> None:
    decoded = []
    for tile, threads in ((64, 1), (256, 2), (1000, 2)):
        output = tmp_path / f"{tile}.tif"
        settings = FuseSettings(**QUICK, tile_size=tile, threads=threads, co=("BLOCKXSIZE=16", "BLOCKYSIZE=16"))
        files.fuse_files(pair.hsi, pair.msi, output, settings)
        with rasterio.open(output) as product:
            decoded.append((product.read(), product.tags(), product.tags(1)))
    assert all(np.array_equal(decoded[0][0], other[0]) and decoded[0][1:] == other[1:] for other in decoded[1:])


def test_an_hsi_kept_in_memory_gives_the_same_product(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = [], []

    def kept(hsi_bytes: int, budget_bytes: int) -> bool:
        asked.append(hsi_bytes)
        return not made

    monkeypatch.setattr("geolift.pipeline.fusion.is_kept", kept)
    planned: list[int] = []
    monkeypatch.setattr(
        "geolift.pipeline.memory_plan.is_kept", lambda hsi_bytes, budget_bytes: bool(planned.append(hsi_bytes))
    )
    for name in ("kept.tif", "read.tif"):
        files.fuse_files(pair.hsi, pair.msi, tmp_path / name, FuseSettings(sensor="sentinel-2a"))
        with rasterio.open(tmp_path / name) as product:
            made.append(product.read())
    with rasterio.open(pair.hsi) as hsi:
        assert asked == planned == [4 * hsi.count * hsi.width * hsi.height] * 2
    assert np.array_equal(*made)


def test_an_hsi_that_is_not_kept_in_memory_is_read_a_few_times_and_never_for_a_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make_pair(tmp_path, rows=96, cols=96)
    monkeypatch.setattr("geolift.pipeline.fusion.is_kept", lambda *_: False)
    reads: list[object] = []

    def note(block: np.ndarray, block_info: object = None) -> np.ndarray:
        reads.append(block_info[None]["chunk-location"])  # type: ignore[index]
        return block

    hsi = geolift.open(pair.hsi)
    data = hsi.data.rechunk((-1, 16, 16))
    noted = data.map_blocks(note, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    fusion = geolift.prepare(hsi.copy(data=noted), pair.msi, sensor="sentinel-2a")
    passes = len(reads) / np.prod(data.numblocks)
    assert passes <= 17
    assert fusion.fused.values.shape == (30, 96, 96)
    assert len(reads) / np.prod(data.numblocks) == passes


def test_valid_pixels_are_those_of_the_used_msi_bands(pair: Pair, tmp_path: Path) -> None:
    with rasterio.open(pair.msi) as source:
        values = source.read() * 1e-4
    rng = np.random.default_rng(0)
    holes = rng.random(values.shape) < 0.02
    values[holes] = np.nan
    msi = write(tmp_path / "msi.tif", values, gsd=10, names=("B02", "B03", "B04", "B08"))
    product = geolift.fuse(pair.hsi, msi, **QUICK)
    assert np.array_equal(np.isfinite(product.values).all(axis=0), ~holes.any(axis=0))
    assert np.array_equal(np.isfinite(product.values).any(axis=0), ~holes.any(axis=0))


def test_bad_bands_keep_their_place_or_are_dropped(pair: Pair, tmp_path: Path) -> None:
    coarse = pair.truth.reshape(30, 16, 3, 14, 3).mean(axis=(2, 4))
    hsi = write(
        tmp_path / "hsi.tif", coarse, gsd=30, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm, bad=(4, 29)
    )
    kept = geolift.fuse(hsi, pair.msi, **QUICK)
    assert kept.sizes["band"] == 30
    assert np.isnan(kept.values[[4, 29]]).all()
    assert not bands_of(kept).good[[4, 29]].any()
    dropped = geolift.fuse(hsi, pair.msi, **QUICK, drop_bad_bands=True)
    assert dropped.sizes["band"] == 28
    chosen = geolift.fuse(hsi, pair.msi, **QUICK, bands="1-3,10,20-25")
    assert bands_of(chosen).wavelength_nm.tolist() == pair.wavelength_nm[[0, 1, 2, 9, *range(19, 25)]].tolist()


def test_a_saved_model_fills_bad_bands_or_leaves_them_out(pair: Pair, tmp_path: Path) -> None:
    coarse = pair.truth.reshape(30, 16, 3, 14, 3).mean(axis=(2, 4))
    hsi = write(
        tmp_path / "hsi.tif", coarse, gsd=30, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm, bad=(4, 29)
    )
    model = tmp_path / "model.safetensors"
    trained = geolift.train(hsi, sensor="sentinel-2a", msi_bands=("B02", "B03", "B04", "B08"))
    trained.save(model)
    whole = geolift.apply(model, pair.msi)
    dropped = geolift.apply(model, pair.msi, drop_bad_bands=True)
    assert np.isnan(whole.values[[4, 29]]).all()
    assert dropped.sizes["band"] == 28
    np.testing.assert_allclose(dropped.values, np.delete(whole.values, [4, 29], axis=0), atol=1e-6)
    for name, lazy in (("whole.tif", whole), ("dropped.tif", dropped)):
        settings = ApplySettings(drop_bad_bands=name == "dropped.tif")
        files.apply_files(model, pair.msi, tmp_path / name, settings)
        with rasterio.open(tmp_path / name) as product:
            stored = product.read().astype(float)
        assert np.array_equal(stored == -32768, np.isnan(lazy.values))
        assert np.nanmax(np.abs(np.where(stored == -32768, np.nan, stored) - lazy.values * 1e4)) <= 0.51


def test_what_is_written_is_the_product_rounded(pair: Pair, tmp_path: Path) -> None:
    with rasterio.open(pair.msi) as source:
        values = source.read() * 1e-4
    values[:, 5:9, 3:30] = np.nan
    msi = write(tmp_path / "msi.tif", values, gsd=10, names=("B02", "B03", "B04", "B08"))
    lazy = geolift.fuse(pair.hsi, msi, sensor="sentinel-2a", refine="on").values
    files.fuse_files(pair.hsi, msi, tmp_path / "o.tif", FuseSettings(sensor="sentinel-2a", refine="on"))
    with rasterio.open(tmp_path / "o.tif") as product:
        stored = product.read().astype(float)
    assert np.array_equal(stored == -32768, np.isnan(lazy))
    assert np.nanmax(np.abs(np.where(stored == -32768, np.nan, stored) - lazy * 1e4)) <= 0.51


def test_the_order_of_hsi_bands_does_not_matter_to_what_is_learned(pair: Pair, tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(30)
    coarse = pair.truth.reshape(30, 16, 3, 14, 3).mean(axis=(2, 4))
    hsi = write(
        tmp_path / "hsi.tif", coarse[order], gsd=30, wavelength_nm=pair.wavelength_nm[order], fwhm_nm=pair.fwhm_nm
    )
    shuffled = geolift.fuse(hsi, pair.msi, **QUICK)
    assert bands_of(shuffled).wavelength_nm.tolist() == pair.wavelength_nm[order].tolist()
    assert np.sqrt(np.mean((shuffled.values - pair.truth[order]) ** 2)) < 0.02


def test_extent_overlap_is_the_window_of_whole_pixels_and_msi_the_whole_grid(tmp_path: Path) -> None:
    # The MSI reaches 3 pixels further left and up, and its grid is offset by 0.3 pixel.
    pair = make_pair(tmp_path, origin=(ORIGIN[0] - 33.0, ORIGIN[1] + 33.0))
    product = geolift.fuse(pair.hsi, pair.msi, **QUICK)
    assert product.shape[1:] == (45, 39)
    with rasterio.open(pair.msi) as source:
        assert grid_of(product).affine == source.transform * Affine.translation(3, 3)
    whole = files.fuse_files(
        pair.hsi, pair.msi, tmp_path / "w.tif", FuseSettings(**QUICK, extent="msi", coregister="off")
    )
    with rasterio.open(tmp_path / "w.tif") as product_file, rasterio.open(pair.msi) as source:
        assert product_file.shape == source.shape
        assert np.isfinite(product_file.read(masked=True).filled(-1)).all()
    assert whole.sidecar["properties"]["geolift:pixels_without_hsi"] == 48 * 42 - 45 * 39


def test_bounds_cut_the_window_to_whole_pixels(pair: Pair) -> None:
    x, y = ORIGIN
    product = geolift.fuse(pair.hsi, pair.msi, **QUICK, bounds=(x + 21, y - 99, x + 61, y - 12))
    assert product.shape[1:] == (9, 5)
    assert grid_of(product).affine.c == x + 20
    with pytest.raises(InputError, match="nothing of"):
        geolift.fuse(pair.hsi, pair.msi, **QUICK, bounds=(0, 0, 1, 1))


def test_an_msi_on_another_crs_is_the_grid_of_the_product(pair: Pair, tmp_path: Path) -> None:
    x, y = ORIGIN
    affine, cols, rows = calculate_default_transform(UTM, "EPSG:4326", 42, 48, x, y - 480, x + 420, y)
    msi = write(
        tmp_path / "msi.tif",
        spectra_of(np.arange(4) * 100 + 450.0, rows, cols),
        gsd=1,
        crs="EPSG:4326",
        transform=affine,
        names=("B02", "B03", "B04", "B08"),
    )
    product = geolift.fuse(pair.hsi, msi, **QUICK)
    assert grid_of(product).crs.to_epsg() == 4326
    offset = ~affine * grid_of(product).affine
    assert offset.c == pytest.approx(round(offset.c), abs=1e-9)
    assert abs(product.shape[1] - rows) <= 1
    assert np.isfinite(product.values).mean() > 0.9


@pytest.mark.parametrize("epsg", [32634, 3857, 4326, 3035])
def test_positions_between_grids_agree_with_pyproj_at_every_pixel(epsg: int) -> None:
    from pyproj import Transformer

    hsi = GeoBox((40, 50), Affine(30, 0, ORIGIN[0], 0, -30, ORIGIN[1]), "EPSG:32633")
    left, bottom, right, top = alignment.bounds_in(hsi, CRS(f"EPSG:{epsg}"))
    affine = Affine((right - left) / 287, 0, left, 0, (bottom - top) / 301, top)
    fine = GeoBox((301, 287), affine, f"EPSG:{epsg}")
    rows, cols = alignment.positions_on(fine, hsi)
    xs, ys = np.meshgrid(np.arange(287) + 0.5, np.arange(301) + 0.5)
    xs, ys = fine.affine * (xs, ys)
    xs, ys = Transformer.from_crs(epsg, 32633, always_xy=True).transform(xs, ys)
    exact_cols, exact_rows = ~hsi.affine * (xs, ys)
    assert np.abs(rows - exact_rows).max() < 1e-3
    assert np.abs(cols - exact_cols).max() < 1e-3


def test_coverage_counts_pixels_whose_centre_lies_on_valid_hsi() -> None:
    hsi = GeoBox((2, 2), Affine(30, 0, 0, 0, -30, 60), "EPSG:32633")
    fine = GeoBox((7, 6), Affine(10, 0, 0, 0, -10, 70), "EPSG:32633")
    valid = np.array([[True, False], [True, True]])
    found = alignment.covered(fine, hsi, valid)
    expected = np.zeros((7, 6), bool)
    expected[1:4, :3] = True
    expected[4:, :] = True
    assert np.array_equal(found, expected)


def test_a_saved_model_gives_the_same_pixels_and_refuses_other_bands(pair: Pair, fused: Path, tmp_path: Path) -> None:
    model = pair.hsi.parent / "model.safetensors"
    files.apply_files(model, pair.msi, tmp_path / "a.tif", ApplySettings())
    with rasterio.open(tmp_path / "a.tif") as a, rasterio.open(fused) as b:
        assert np.array_equal(a.read(), b.read())
        assert a.tags(3) == b.tags(3)
    with pytest.raises(InputError, match="needs sentinel-2a bands B02, B03, B04, B08"):
        geolift.apply(model, pair.msi, msi_bands=("B02", "B03", "B04", "B05"))


def test_the_model_applies_to_bands_in_another_order(pair: Pair, fused: Path, tmp_path: Path) -> None:
    with rasterio.open(pair.msi) as source:
        values = source.read() * 1e-4
    turned = write(tmp_path / "m.tif", values[::-1], gsd=10, names=("B08", "B04", "B03", "B02"))
    product = geolift.apply(pair.hsi.parent / "model.safetensors", turned)
    with rasterio.open(fused) as b:
        assert np.abs(product.values - b.read() * 1e-4).max() < 1e-4


def test_arrays_in_memory_fuse_like_files(pair: Pair, fused: Path) -> None:
    product = geolift.fuse(geolift.open(pair.hsi), geolift.open(pair.msi), **QUICK)
    assert hasattr(product.data, "chunks")
    with rasterio.open(fused) as b:
        assert np.abs(product.values - b.read() * 1e-4).max() <= 0.5e-4 + 1e-6


def test_a_sensor_must_be_named_and_fit(pair: Pair, tmp_path: Path) -> None:
    nameless = write(tmp_path / "m.tif", np.full((4, 48, 42), 0.3), gsd=10)
    with pytest.raises(UsageError, match="--sensor"):
        geolift.fuse(pair.hsi, nameless)
    with pytest.raises(InputError, match="--msi-bands"):
        geolift.fuse(pair.hsi, pair.hsi, sensor="sentinel2")


def test_no_output_takes_the_place_of_another_or_of_a_file_that_is_read(pair: Pair, tmp_path: Path) -> None:
    out, mask = tmp_path / "p.tif", tmp_path / "mask.tif"
    mask.write_bytes(Path(pair.msi).read_bytes())
    for option, path in (("qa", out), ("save_model", tmp_path / "p.json"), ("report", out)):
        with pytest.raises(UsageError, match="two outputs"):
            files.fuse_files(pair.hsi, pair.msi, out, FuseSettings(**QUICK, **{option: path}))
    with pytest.raises(UsageError, match="is an input"):
        settings = FuseSettings(**QUICK, mask=str(mask), qa=mask, overwrite=True)
        files.fuse_files(pair.hsi, pair.msi, out, settings)
    assert not out.exists()


def test_simulated_grids_nest_and_the_srf_closes_the_loop(pair: Pair) -> None:
    triple = wald.degrade_pair(geolift.open(pair.hsi), SimulateSettings(sensor="sentinel-2a", ratio=4))
    lr, hr = grid_of(triple.hsi), grid_of(triple.reference)
    assert lr.shape == (4, 3)
    assert hr.shape == (16, 12)
    assert lr.affine == hr.affine * Affine.scale(4)
    again = np.einsum("cb,byx->cyx", triple.spectra.weights, triple.reference.values[list(triple.spectra.good)])
    assert np.abs(triple.msi.values - again).max() < 1e-6


def test_simulation_does_not_depend_on_strips(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimulateSettings(sensor="sentinel-2a", ratio=2, snr=30, seed=4)
    whole = wald.degrade_pair(geolift.open(pair.hsi), settings)
    monkeypatch.setattr(wald, "TILE_PX", 4)
    strips = wald.degrade_pair(geolift.open(pair.hsi), settings)
    assert np.abs(whole.hsi.values - strips.hsi.values).max() < 1e-6
    assert np.array_equal(whole.msi.values, strips.msi.values)


def test_an_lr_pixel_with_any_invalid_hr_pixel_is_invalid(pair: Pair, tmp_path: Path) -> None:
    values = pair.truth.copy()
    values[:, 7, 8] = np.nan
    file = write(tmp_path / "a.tif", values, gsd=10, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm)
    triple = wald.degrade_pair(geolift.open(file), SimulateSettings(sensor="sentinel-2a", ratio=3))
    invalid = np.isnan(triple.hsi.values).any(axis=0)
    assert np.argwhere(invalid).tolist() == [[2, 2]]


def test_evaluate_streams_to_the_same_scores_and_needs_one_grid(pair: Pair, fused: Path, tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.tif", pair.truth, gsd=10, wavelength_nm=pair.wavelength_nm, fwhm_nm=pair.fwhm_nm)
    scores = geolift.evaluate(fused, truth)
    with rasterio.open(fused) as a, rasterio.open(truth) as b:
        x, y = a.read() * 1e-4, b.read() * 1e-4
    assert scores.rmse == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-5)
    assert scores.ratio == 3
    with pytest.raises(InputError, match="--resample"):
        geolift.evaluate(fused, pair.hsi)
    assert geolift.evaluate(fused, pair.hsi, resample="cubic").rmse < 0.1


def test_enmap_potsdam_goes_through_walds_protocol(shared_data: Path) -> None:
    source = shared_data / "enmap_potsdam" / "enmap_potsdam.tif"
    cut = geolift.open(source)[:, :63, :96]
    triple = wald.degrade_pair(cut, SimulateSettings(sensor="sentinel-2a", ratio=3))
    product = geolift.fuse(triple.hsi, triple.msi, sensor="sentinel-2a")
    scores = geolift.evaluate(product, triple.reference, ratio=3)
    # A quick plain linear regression from the same ten bands is what the network has to be near.
    good = list(triple.spectra.good)
    inputs = triple.msi.values.reshape(10, -1).T
    lr = np.einsum("cb,byx->cyx", triple.spectra.weights, triple.hsi.values[good]).reshape(10, -1).T
    lr_targets = triple.hsi.values[good].reshape(len(good), -1).T
    solution, *_ = np.linalg.lstsq(np.c_[lr, np.ones(len(lr))], lr_targets, rcond=None)
    linear = np.c_[inputs, np.ones(len(inputs))] @ solution
    error = np.sqrt(np.nanmean((linear.T - triple.reference.values[good].reshape(len(good), -1)) ** 2))
    assert scores.n_pixels == 63 * 96
    assert scores.rmse < 1.5 * error
