"""Products in ZIP files and Sentinel-2 as EOPF Zarr arrive like their unpacked selves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import product_files as products
import pytest
import rasterio
from scenes import ORIGIN, spectra_of, write

from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.readers import open_cube, read_mask


def zipped(folder: Path, target: Path, *, with_folder: bool) -> Path:
    base = folder.name if with_folder else "."
    root = folder.parent if with_folder else folder
    return Path(shutil.make_archive(str(target), "zip", root, base))


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_zipped_safe_is_read_in_place_with_its_mask(tmp_path: Path, with_folder: bool) -> None:
    safe = products.sentinel2(tmp_path / "S2A_MSIL2A_20230821T221941_N0509_R029_T33UUU_20230822T021825.SAFE")
    packed = open_cube(zipped(safe, tmp_path / "packed.SAFE", with_folder=with_folder))
    plain = open_cube(safe)
    assert np.array_equal(packed.values, plain.values, equal_nan=True)
    assert grid_of(packed) == grid_of(plain)
    assert [layer.name for layer in packed.attrs["masks"]] == [layer.name for layer in plain.attrs["masks"]] == ["SCL"]


def test_a_zipped_enmap_product_is_read_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "ENMAP01-L2A"
    folder.mkdir()
    products.enmap(folder)
    packed, plain = open_cube(zipped(folder, tmp_path / "enmap", with_folder=True)), open_cube(folder)
    assert np.array_equal(packed.values, plain.values, equal_nan=True)
    assert np.array_equal(bands_of(packed).wavelength_nm, bands_of(plain).wavelength_nm)


def test_a_zip_of_one_image_is_read_and_of_several_asks_for_one(tmp_path: Path) -> None:
    values = spectra_of(np.linspace(503, 799, 23), 12, 9)
    folder = tmp_path / "wyvern"
    folder.mkdir()
    image = write(folder / "wyvern_dragonette-001_20240401T0830.tiff", values, gsd=5, scale=None, dtype="float32")
    with rasterio.open(image, "r+") as target:
        target.descriptions = tuple(f"Band_{w:.0f}" for w in np.linspace(503, 799, 23))
    clear = np.ones((4, 12, 9))
    clear[:2, 0], clear[:2, 1] = 0, 255
    mask = folder / f"{image.stem}_data_mask.tiff"
    write(mask, clear, gsd=5, scale=None, dtype="uint8", nodata=255)
    cube = open_cube(zipped(folder, tmp_path / "one", with_folder=False))
    for opened in (cube, open_cube(image)):
        hidden = read_mask(opened)
        assert hidden is not None
        assert np.array_equal(hidden.values, clear[0] != 1)
    assert np.array_equal(cube.values, values)
    assert np.abs(bands_of(cube).wavelength_nm - np.linspace(503, 799, 23)).max() <= 0.5
    shutil.copy(image, folder / "again.tiff")
    with pytest.raises(InputError, match="holds 2 rasters"):
        open_cube(zipped(folder, tmp_path / "two", with_folder=False))


def test_archives_that_are_not_read_in_place_tell_the_command(tmp_path: Path) -> None:
    (tmp_path / "ENMAP.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match=r"tar -xzf ENMAP\.tar\.gz \(and the ZIP files in it: unzip\)"):
        open_cube(tmp_path / "ENMAP.tar.gz")


def save_eopf(path: Path, values: dict[str, np.ndarray], version: Literal[2, 3] = 2, offset: float = -0.1) -> Path:
    """Write reflectances by band on the grids of their resolutions, as EOPF does.

    Attributes as in products of 2025 (Zarr 2, proj:… at each array, _eopf_attrs) and of 2026 (Zarr 3, the CRS among
    the product's other metadata, coordinates of 32 bits): github.com/EOPF-Explorer/data-model, tests/_test_data.
    """
    zarr = pytest.importorskip("zarr", reason="needs the optional package zarr")
    root = zarr.open_group(str(path), mode="w", zarr_format=version)
    properties = {"platform": "sentinel-2b", "datetime": None, "start_datetime": "2023-06-01T10:00:31.024000+00:00"}
    root.attrs["stac_discovery"] = {"properties": properties | ({"proj:epsg": 32633} if version == 2 else {})}
    root.attrs["other_metadata"] = {"horizontal_CRS_code" if version == 2 else "horizontal_crs_code": "EPSG:32633"}

    def place(key: str, numbers: np.ndarray, metres: int, attrs: dict[str, object]) -> None:
        group = root.require_group(key.rpartition("/")[0])
        array = group.create_array(key.rpartition("/")[2], data=numbers, chunks=(8, 8))
        array.attrs.update(attrs)
        for axis, count, start, step in (
            ("y", numbers.shape[0], ORIGIN[1], -metres),
            ("x", numbers.shape[1], ORIGIN[0], metres),
        ):
            if axis not in group:
                centres = start + step * (np.arange(count) + 0.5)
                group.create_array(axis, data=centres.astype(np.int64 if version == 2 else np.float32))

    for name, plane in values.items():
        metres = 10 if name in ("b02", "b03", "b04", "b08") else 20
        counts = np.where(np.isfinite(plane), np.rint((plane - offset) * 10_000), 0).astype(np.uint16)
        attrs: dict[str, object] = {"scale_factor": 1e-4, "add_offset": offset, "fill_value": 0, "dtype": "<u2"}
        attrs |= {"units": "digital_counts", "valid_min": 1, "valid_max": 65_535}
        if version == 2:
            grid = [metres, 0.0, ORIGIN[0], 0.0, -metres, ORIGIN[1], 0.0, 0.0, 1.0]
            attrs |= {"_eopf_attrs": dict(attrs), "proj:epsg": 32633, "proj:transform": grid}
        place(f"measurements/reflectance/r{metres}m/{name}", counts, metres, attrs)
    scl = np.full((10, 8), 4, np.uint8)
    scl[0] = 9
    place("conditions/mask/l2a_classification/r20m/scl", scl, 20, {"proj:epsg": 32633} if version == 2 else {})
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packed", ["", "flat", "folder"])
def test_eopf_zarr_is_sentinel_2_with_scale_offset_and_classes(
    tmp_path: Path, packed: str, version: Literal[2, 3]
) -> None:
    names = ("b02", "b03", "b04", "b08")
    fine = dict(zip(names, spectra_of(np.array([490.0, 560, 665, 842]), 20, 16), strict=True))
    fine["b02"][3, 3] = np.nan
    coarse = {"b8a": spectra_of(np.array([865.0]), 10, 8)[0]}
    path = save_eopf(tmp_path / "S2B_MSIL2A_20230601T100031.zarr", fine | coarse, version)
    if packed:
        path = zipped(path, path, with_folder=packed == "folder")
    cube = open_cube(path)
    assert list(cube.coords["name"].values) == ["B02", "B03", "B04", "B08"]
    assert np.allclose(cube.values, np.stack([fine[n] for n in names]), atol=6e-5, equal_nan=True)
    assert tuple(grid_of(cube).affine)[:6] == (10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
    assert grid_of(cube).crs.epsg == 32633
    assert cube.attrs["acquired"] == "2023-06-01T10:00:31Z"
    assert cube.attrs["sensor"] == "sentinel-2b"
    assert [layer.name for layer in cube.attrs["masks"]] == ["SCL"]
    mixed = open_cube(path, bands=("B8A", "B02"))
    assert np.allclose(mixed.values[0], coarse["b8a"].repeat(2, 0).repeat(2, 1), atol=6e-5)
    with pytest.raises(InputError, match=r"has no band B11; it has B02, B03, B04, B08, B8A"):
        open_cube(path, bands=("B11",))
