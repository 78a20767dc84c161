"""Files as people have them: headers of any encoding, wavelengths in free text, alpha, odd grids, files cut short."""

from __future__ import annotations

import pickle
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from scenes import ORIGIN, make_pair, spectra_of, write
from test_20_readers import envi

from geolift.datamodel.alignment import require_north_up
from geolift.datamodel.cube import bands_of, grid_of
from geolift.errors import InputError
from geolift.pair.region import plan_region
from geolift.readers import open_cube
from geolift.readers.wavelength_text import centres_in
from geolift.settings import RegionSettings

NM = np.linspace(402.4, 2400, 20)
LIST = "{" + ", ".join(f"{w:.4f}" for w in NM) + "}"
HEADER = f"wavelength units = Nanometers\nwavelength = {LIST}\n"


@pytest.fixture
def values() -> np.ndarray:
    return spectra_of(NM, 12, 9)


@pytest.mark.parametrize(
    ("wording", "tolerance"),
    [
        ("FWHM 6.6 nm, centre {:.1f} nm", 0.06),
        ("{:.1f} (6.6 nm)", 0.06),
        ("{:.4e} nm", 0.06),
        ("band 12 ({:.4f} Nanometers)", 1e-4),
        ("Band_{:.0f}", 0.51),
        ("{:.3f} nanometres", 1e-3),
        ("center wavelength: {:.2f} nm; width: 12 nm", 0.01),
        ("{:.2f}", 0.01),
        ("wl {:.1f}nm bw 10nm", 0.06),
    ],
)
def test_centres_are_found_in_free_text(wording: str, tolerance: float) -> None:
    found = centres_in([wording.format(w) for w in NM])
    assert found is not None
    assert np.abs(np.array(found.values) - NM).max() < tolerance


@pytest.mark.parametrize(
    "names", [[f"Band_{i}" for i in range(1, 21)], [f"B{i:02d}" for i in range(1, 14)], ["a", "b"]]
)
def test_names_and_numbers_of_bands_are_no_wavelengths(names: list[str]) -> None:
    assert centres_in(names) is None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("wavelength units = Nanometers\nwavelength = {" + ", ".join(["6.6"] * 20) + "}\n", "cannot be right|both at"),
        (
            "wavelength units = Nanometers\nwavelength = {" + ", ".join(["660"] * 20) + "}\n",
            "bands 1 and 2 are both at 660",
        ),
        ("wavelength units = Wavenumber\nwavelength = " + LIST + "\n", "'Wavenumber'"),
        ("wavelength = {" + ", ".join(["abc"] * 20) + "}\n", "entry 1 is 'abc'"),
        (
            "wavelength units = Angstroms\nwavelength = {" + ", ".join(f"{w * 10:.1f}" for w in NM) + "}\n",
            "10 Å = 1 nm",
        ),
        ("band names = {" + ", ".join(f"{w * 10:.1f} Å" for w in NM) + "}\n", "10 Å = 1 nm"),
    ],
)
def test_what_cannot_be_wavelengths_is_refused_with_what_was_read(
    tmp_path: Path, values: np.ndarray, header: str, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        open_cube(envi(tmp_path / "a.img", values, header))


@pytest.mark.parametrize(
    "tags",
    [
        [{"center_wavelength": f"{w / 1000:.7f}"} for w in NM],
        [{"CENTRAL_WAVELENGTH_UM": f"{w / 1000:.7f}"} for w in NM],
        [{"wavelength": f"{w:.4f}", "wavelength_units": "Nanometers"} for w in NM],
        [{"wavelength_nm": f"{w:.4f}"} for w in NM],
    ],
)
def test_band_tags_of_other_programs_are_understood(
    tmp_path: Path, values: np.ndarray, tags: list[dict[str, str]]
) -> None:
    file = write(tmp_path / "a.tif", values, gsd=30)
    with rasterio.open(file, "r+") as target:
        for band, tag in enumerate(tags, 1):
            target.update_tags(band, **tag)
    assert np.abs(bands_of(open_cube(file)).wavelength_nm - NM).max() < 1e-3


@pytest.mark.parametrize(
    "name", ["wavelengths", "wavelength", "HDFEOS_GRIDS_HYP_toa_radiance_wavelengths", "cube#wavelengths"]
)
@pytest.mark.parametrize("brackets", ["[]", "{}", "()", ("", "")])
def test_lists_among_the_tags_of_a_file_are_understood(
    tmp_path: Path, values: np.ndarray, name: str, brackets: str
) -> None:
    file = write(tmp_path / "a.tif", values, gsd=30)
    with rasterio.open(file, "r+") as target:
        target.update_tags(**{name: brackets[0] + " ".join(f"{w:.4f}" for w in NM) + brackets[1]})
        target.update_tags(**{"good_wavelengths": " ".join(["1"] * 19 + ["0"])})
    bands = bands_of(open_cube(file))
    assert np.abs(bands.wavelength_nm - NM).max() < 1e-3
    assert bands.good.sum() == 19


def test_an_envi_header_beside_a_geotiff_gives_its_wavelengths_if_it_fits(tmp_path: Path, values: np.ndarray) -> None:
    file = write(tmp_path / "a.tif", values, gsd=30)
    size = "ENVI\nsamples = 9\nlines = 12\nbands = 20\nfile type = TIFF\n"
    (tmp_path / "a.hdr").write_text(size + HEADER)
    assert np.abs(bands_of(open_cube(file)).wavelength_nm - NM).max() < 1e-3
    (tmp_path / "a.hdr").write_text(size.replace("lines = 12", "lines = 13") + HEADER)
    assert np.isnan(bands_of(open_cube(file)).wavelength_nm).all()


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_a_header_is_read_in_whatever_encoding_and_nothing_is_written_beside_it(
    tmp_path: Path, values: np.ndarray, encoding: str, interleave: str
) -> None:
    values[:, :2, :3] = -9999
    kept = "data ignore value = -9999\nbbl = {" + ", ".join(["1"] * 19 + ["0"]) + "}\n"
    file = envi(tmp_path / "a.img", values, HEADER + kept, interleave)
    plain, header = open_cube(file), file.with_suffix(".hdr")
    text = header.read_text().replace("ENVI\n", "envi\ndescription = {Größe in µm, Ångström}\n", 1)
    header.write_bytes(text.encode(encoding))
    cube = pickle.loads(cloudpickle.dumps(open_cube(file, tile=5)))
    assert np.array_equal(cube.values, plain.values, equal_nan=True)
    assert grid_of(cube) == grid_of(plain)
    for field in ("wavelength_nm", "good"):
        assert np.array_equal(getattr(bands_of(cube), field), getattr(bands_of(plain), field))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.hdr", "a.img"]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="shorter than the"):
        open_cube(file)


@pytest.mark.parametrize("name", [b"Urd\xc6, ", b"Urd = {UTM, "])
def test_a_crs_that_nobody_can_read_is_refused_by_name(tmp_path: Path, values: np.ndarray, name: bytes) -> None:
    file = envi(tmp_path / "a.img", values, "map info = {N, 1, 1, 4e5, 5e6, 30, 30, 33, North, WGS-84}\n" + HEADER)
    header = file.with_suffix(".hdr")
    kept = [line for line in header.read_bytes().splitlines() if b"system string" not in line]
    header.write_bytes(b"\n".join(kept).replace(b"{N, ", b"{" + name))
    with pytest.raises(InputError, match="its CRS"):
        open_cube(file)


def test_a_tag_that_is_no_utf_8_is_left_out_without_a_word_on_stderr(
    tmp_path: Path, values: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.tif", values, gsd=30)
    with rasterio.open(file, "r+") as target:
        target.update_tags(remark="Groesse in um")
    file.write_bytes(file.read_bytes().replace(b"Groesse in um", "Größe in µm  ".encode("latin-1")))
    cube = open_cube(file)
    assert np.abs(cube.values - values).max() < 6e-5
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("change", [-1, -1000, 1])
def test_envi_data_of_another_size_than_the_header_says_are_refused_with_both_sizes(
    tmp_path: Path, values: np.ndarray, interleave: str, change: int
) -> None:
    file = envi(tmp_path / "a.img", values, HEADER, interleave)
    raw = file.read_bytes()
    file.write_bytes(raw[:change] if change < 0 else raw + b"\0" * change)
    with pytest.raises(InputError, match=f"{len(raw) + change} bytes, (shorter|longer) than the {len(raw)}"):
        open_cube(file)


@pytest.mark.parametrize("profile", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_a_tiff_cut_short_is_refused_with_both_sizes(
    tmp_path: Path, values: np.ndarray, profile: dict[str, object]
) -> None:
    file = write(tmp_path / "a.tif", values, gsd=30, **profile)
    with rasterio.open(file, "r+") as target:  # the directory stands before the data
        target.update_tags(a="b")
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) - 200])
    with pytest.raises(InputError, match=r"cut off|truncated|cannot be read|not a raster"):
        open_cube(file).compute()


@pytest.mark.parametrize("spelling", ["", "{-9999}", "{-9999, -9999}", "none", "-9999"])
def test_every_spelling_of_the_ignore_value_hides_the_fill(tmp_path: Path, values: np.ndarray, spelling: str) -> None:
    values[:, :3, :4] = -9999
    cube = open_cube(envi(tmp_path / "a.img", values, f"{HEADER}data ignore value = {spelling}\n"))
    assert np.isnan(cube.values[:, :3, :4]).all()
    assert np.isnan(cube.values).sum() == 20 * 12


def _with_alpha(path: Path, bands: np.ndarray, last: np.ndarray, called: bool = True, name: str | None = None) -> Path:
    stored = np.concatenate([np.rint(bands * 10_000), last[None]])
    file = write(path, stored, gsd=10, scale=None, nodata=None, dtype="uint16")
    with rasterio.open(file, "r+") as target:
        kinds = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, *[ColorInterp.undefined] * 20]
        target.colorinterp = [*kinds[: len(stored) - 1], ColorInterp.alpha if called else ColorInterp.undefined]
        if name:
            target.set_band_description(len(stored), name)
    return file


@pytest.mark.parametrize(("called", "name"), [(True, None), (False, "Alpha"), (False, None)])
def test_alpha_masks_and_is_no_band(tmp_path: Path, called: bool, name: str | None) -> None:
    values = spectra_of(np.linspace(450, 850, 4), 30, 30)
    last = np.full((30, 30), 65_535)
    last[:8, :5] = 0
    values[:, :8, :5] = 0
    cube = open_cube(_with_alpha(tmp_path / "a.tif", values, last, called, name))
    assert cube.sizes["band"] == 4
    assert np.array_equal(np.isnan(cube.values[0]), last == 0)
    assert any("is no band" in text for text in cube.attrs["warnings"])


@pytest.mark.parametrize("name", ["NIR", None])
def test_near_infrared_called_alpha_is_a_band_and_masks_nothing(tmp_path: Path, name: str | None) -> None:
    values = spectra_of(np.linspace(450, 850, 4), 30, 30)
    values[3, 12:16, 12:16] = 0
    cube = open_cube(_with_alpha(tmp_path / "a.tif", values[:3], np.rint(values[3] * 10_000), name=name))
    assert cube.sizes["band"] == 4
    assert np.isfinite(cube.values).all()
    assert any("nothing is masked by it" in text for text in cube.attrs["warnings"])


@pytest.mark.parametrize("rest", [6e-16, 1e-9, -1e-12])
def test_a_rotation_of_nothing_is_none(tmp_path: Path, values: np.ndarray, rest: float) -> None:
    turned = Affine(30, rest, ORIGIN[0], -rest, -30, ORIGIN[1])
    grid = grid_of(open_cube(write(tmp_path / "a.tif", values, gsd=30, transform=turned)))
    assert tuple(grid.affine)[:6] == (30, 0, ORIGIN[0], 0, -30, ORIGIN[1])


def test_a_south_up_raster_is_turned_while_reading(tmp_path: Path, values: np.ndarray) -> None:
    plain = open_cube(write(tmp_path / "a.tif", values, gsd=30))
    rows, cols = values.shape[1:]
    flipped = Affine(-30, 0, ORIGIN[0] + cols * 30, 0, 30, ORIGIN[1] - rows * 30)
    turned = open_cube(write(tmp_path / "b.tif", values[:, ::-1, ::-1], gsd=30, transform=flipped), tile=5)
    assert grid_of(turned) == grid_of(plain)
    assert np.array_equal(turned.values, plain.values)
    assert any("turned on reading" in text for text in turned.attrs["warnings"])


def test_bands_of_several_types_and_nodata_values_are_read(tmp_path: Path, values: np.ndarray) -> None:
    values = values[:2].copy()
    values[0, 0, 0] = values[1, 1, 1] = np.nan
    write(tmp_path / "i.tif", values[:1], gsd=30)
    write(tmp_path / "f.tif", values[1:], gsd=30, scale=None, dtype="float32", nodata=-3.4028234663852886e38)
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{i}"><NoDataValue>{nodata}</NoDataValue><Scale>{scale}</Scale>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for i, (kind, nodata, scale, name) in enumerate(
            [("Int16", -32768, 1e-4, "i.tif"), ("Float32", -3.4028234663852886e38, 1, "f.tif")], 1
        )
    )
    (tmp_path / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="9" rasterYSize="12"><SRS>EPSG:32633</SRS><GeoTransform>{ORIGIN[0]}, 30, 0, '
        f"{ORIGIN[1]}, 0, -30</GeoTransform>{bands}</VRTDataset>"
    )
    cube = open_cube(tmp_path / "a.vrt")
    assert np.allclose(cube.values, values, atol=6e-5, equal_nan=True)


def test_control_points_and_missing_transforms_get_the_right_advice(tmp_path: Path, values: np.ndarray) -> None:
    corners = [(0, 0), (0, 9), (12, 0), (12, 9)]
    points = [GroundControlPoint(r, c, ORIGIN[0] + 30 * c, ORIGIN[1] - 30 * r) for r, c in corners]
    file = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 20, "height": 12, "width": 9, "dtype": "float32"}
    with rasterio.open(file, "w", **profile, crs="EPSG:32633", gcps=points) as target:
        target.write(values)
    cube = open_cube(file)
    with pytest.raises(InputError, match=r"GCPs.*gdalwarp -tps"):
        require_north_up(grid_of(cube), "a.tif", cube.attrs["georeference"])
    ones = [1.0] + [0.0] * 19
    model = RPC(0, 100, 45, 1, [0, 0, 1, *ones[:17]], ones, 6, 6, 9, 1, [0, 1, 0, *ones[:17]], ones, 4, 4)
    with rasterio.open(tmp_path / "b.tif", "w", **profile, rpcs=model) as target:
        target.write(values)
    cube = open_cube(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"RPCs.*gdalwarp -rpc"):
        require_north_up(grid_of(cube), "b.tif", cube.attrs["georeference"])


def test_local_coordinates_work_if_shared_and_are_refused_by_name_otherwise(tmp_path: Path) -> None:
    local = 'LOCAL_CS["Site grid",UNIT["metre",1]]'
    pair = make_pair(tmp_path / "a", crs=local)
    hsi, msi = open_cube(pair.hsi), open_cube(pair.msi)
    with pytest.raises(InputError, match="'Site grid'"):
        plan_region(hsi, msi, RegionSettings())
    with rasterio.open(pair.hsi, "r+") as target:
        target.crs = rasterio.crs.CRS.from_wkt(local)
    assert plan_region(open_cube(pair.hsi), msi, RegionSettings()).ratio == 3
