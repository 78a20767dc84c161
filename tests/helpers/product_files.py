"""Small products in the exact layouts agencies deliver, made of a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

UTM33 = "EPSG:32633"
LEFT, TOP = 364095.0, 5809965.0
ROWS, COLS = 7, 9
PLANTED = (2, 5)
PLANTED_VALUE = 0.7


def truth(count: int, rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    """Reflectance that differs in every pixel and band, the largest value at PLANTED, NaN in the last pixel."""
    values = 0.05 + np.arange(count * rows * cols, dtype=np.float64).reshape(count, rows, cols) / (
        2.5 * count * rows * cols
    )
    values[:, PLANTED[0], PLANTED[1]] = PLANTED_VALUE
    values[:, -1, -1] = np.nan
    return values


def planted_at(pixel: float, left: float = LEFT, top: float = TOP) -> tuple[float, float]:
    """World coordinates (x, y) of the centre of the planted pixel."""
    return left + (PLANTED[1] + 0.5) * pixel, top - (PLANTED[0] + 0.5) * pixel


def stored(values: np.ndarray, scale: float, offset: float, fill: float, dtype: str) -> np.ndarray:
    """Encode values as DN, NaN as fill."""
    numbers = np.where(np.isfinite(values), (values - offset) / scale, fill)
    return (np.rint(numbers) if np.issubdtype(np.dtype(dtype), np.integer) else numbers).astype(dtype)


def raster(
    path: Path,
    numbers: np.ndarray,
    pixel: float = 30.0,
    *,
    crs: str | None = UTM33,
    nodata: float | None = None,
    names: tuple[str, ...] | None = None,
    driver: str = "GTiff",
    corner: tuple[float, float] = (LEFT, TOP),
    tags: dict[str, str] | None = None,
    **creation: Any,
) -> Path:
    """Write DN (band, y, x) as a raster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = numbers[None] if numbers.ndim == 2 else numbers
    profile: dict[str, Any] = {
        "driver": driver,
        "count": numbers.shape[0],
        "height": numbers.shape[1],
        "width": numbers.shape[2],
        "dtype": numbers.dtype.name,
        "nodata": nodata,
    }
    if crs is not None:
        profile |= {"crs": CRS.from_string(crs), "transform": Affine(pixel, 0, corner[0], 0, -pixel, corner[1])}
    if driver == "JP2OpenJPEG":
        profile |= {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    with rasterio.open(path, "w", **(profile | creation)) as target:
        target.write(numbers)
        if names:
            target.descriptions = names
        if tags:
            target.update_tags(**tags)
    return path


# -- hyperspectral ----------------------------------------------------------------------------------------------------

ENMAP_NM = np.array([423.03, 800.5, 911.2, 905.7, 1650.4, 2200.1])
ENMAP_FWHM = np.array([6.93, 7.1, 7.5, 9.8, 10.2, 9.9])
ENMAP_STEM = "ENMAP01-____L2A-DT0000001_20220724T104526Z_001_V010400_20221106T092001Z-"


def enmap(
    folder: Path,
    driver: str = "GTiff",
    suffix: str = ".TIF",
    empty_band: int = 5,
    values: np.ndarray | None = None,
    nm: np.ndarray = ENMAP_NM,
    fwhm: np.ndarray = ENMAP_FWHM,
) -> Path:
    """EnMAP L2A: METADATA.XML, SPECTRAL_IMAGE, quality layers; band 5 holds nothing. Nodata is in the XML only."""
    folder.mkdir(parents=True, exist_ok=True)
    values = truth(len(nm)) if values is None else values.copy()
    values[empty_band - 1] = np.nan
    raster(folder / f"{ENMAP_STEM}SPECTRAL_IMAGE{suffix}", stored(values, 1e-4, 0, -32768, "int16"), driver=driver)
    bands = "".join(
        f'<bandID number="{i}"><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand><FWHMOfBand>{f}</FWHMOfBand>'
        "<GainOfBand>0.0001</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for i, (w, f) in enumerate(zip(nm, fwhm, strict=True), start=1)
    )
    statistics = "".join(
        f'<bandID number="{i}"><mean>{-1000000 if i == empty_band else 0.2}</mean>'
        f"<stdDeviation>{0 if i == empty_band else 0.1}</stdDeviation></bandID>"
        for i in range(1, len(nm) + 1)
    )
    (folder / f"{ENMAP_STEM}METADATA.XML").write_text(
        f"<level_X><metadata><name>{ENMAP_STEM}METADATA.XML</name></metadata><base><temporalCoverage>"
        "<startTime>2022-07-24T10:45:26.123Z</startTime></temporalCoverage><level>L2A</level></base><specific>"
        f"<backgroundValue>-32768</backgroundValue><bandCharacterisation>{bands}</bandCharacterisation></specific>"
        f"<product><image><merge><name>{ENMAP_STEM}SPECTRAL_IMAGE.TIF</name></merge></image>"
        f"<bandStatistics>{statistics}</bandStatistics></product></level_X>"
    )
    for name, flags in {"CLOUD": {(1, 1): 1}, "CIRRUS": {(2, 2): 2}, "CLOUDSHADOW": {(3, 3): 1}}.items():
        layer = np.zeros(values.shape[1:], np.uint8)
        for place, flag in flags.items():
            layer[place] = flag
        raster(folder / f"{ENMAP_STEM}QL_QUALITY_{name}.TIF", layer)
    classes = np.ones(values.shape[1:], np.uint8)
    classes[0, 0], classes[0, 1] = 3, 2
    raster(folder / f"{ENMAP_STEM}QL_QUALITY_CLASSES.TIF", classes)
    return folder


DESIS_STEM = "DESIS-HSI-L2A-DT0483531728_001-20200807T192443-V0210-"


def desis(
    folder: Path, values: np.ndarray | None = None, nm: Sequence[float] = (401.9, 700.2, 999.5), fwhm: float = 3.5
) -> Path:
    """DESIS L2A; the XML also lists `band` elsewhere, gains differ between bands."""
    values = truth(len(nm)) if values is None else values
    gains = [2e-4 if i % 2 else 1e-4 for i in range(len(nm))]
    numbers = np.stack([stored(v, g, 0, -32768, "int16") for v, g in zip(values, gains, strict=True)])
    raster(folder / f"{DESIS_STEM}SPECTRAL_IMAGE.tif", numbers)
    bands = "".join(
        f"<band><bandNumber>{i}</bandNumber><wavelengthCenterOfBand>{w}</wavelengthCenterOfBand>"
        f"<wavelengthWidthOfBand>{fwhm}</wavelengthWidthOfBand><response>0.5,1,0.5</response>"
        f"<wavelengths>{w - 2},{w},{w + 2}</wavelengths><gainOfBand>{g}</gainOfBand>"
        "<offsetOfBand>0</offsetOfBand></band>"
        for i, (w, g) in enumerate(zip(nm, gains, strict=True), start=1)
    )
    (folder / f"{DESIS_STEM}METADATA.xml").write_text(
        "<hsi_doc><base><temporalCoverage><startTime>2020-08-07T19:24:43.5Z</startTime></temporalCoverage></base>"
        "<specific><interiorOrientation><band><x>1</x></band></interiorOrientation>"
        f"<bandCharacterisation>{bands}</bandCharacterisation><backgroundValue>-32768</backgroundValue></specific>"
        "</hsi_doc>"
    )
    return folder


PRISMA_VNIR = (0.0, 977.4, 700.1, 406.9)  # descending; 0 = empty slot
PRISMA_SWIR = (2497.1, 1650.3, 943.4, 0.0)
PRISMA_LIMITS = {"Vnir": (0.01, 0.91), "Swir": (-0.02, 0.88)}
PRISMA_NM = np.array([406.9, 700.1, 943.4, 977.4, 1650.3, 2497.1])


def prisma(
    path: Path,
    corners: str = "centres",
    errors: dict[tuple[int, int, int], int] | None = None,
    values: np.ndarray | None = None,
    vnir: Sequence[float] = PRISMA_VNIR,
    swir: Sequence[float] = PRISMA_SWIR,
    fwhm: float = 10.0,
) -> Path:
    """PRISMA L2D: axes row, band, column; counts between a minimum and a maximum; all 0 = no data.

    ``values`` are in ascending wavelength of the slots that are not empty.
    """
    ascending = np.array(sorted(centre for centre in (*vnir, *swir) if centre))
    values = truth(len(ascending)) if values is None else values
    rows, cols = values.shape[1:]
    inset = 15.0 if corners == "centres" else 0.0
    with h5py.File(path, "w") as file:
        fields = file.create_group("HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields")
        for name, slots in (("Vnir", vnir), ("Swir", swir)):
            low, high = PRISMA_LIMITS[name]
            cube = np.zeros((rows, len(slots), cols), np.uint16)
            for slot, centre in enumerate(slots):
                if centre:
                    band = values[int(np.argmin(np.abs(ascending - centre)))]
                    cube[:, slot] = stored(band, (high - low) / 65535, low, 0, "uint16")
            fields[f"{name.upper()}_Cube"] = cube
            matrix = np.zeros(cube.shape, np.uint8)
            for place, flag in (errors or {}).items() if name == "Vnir" else ():
                matrix[place] = flag
            fields[f"{name.upper()}_PIXEL_L2_ERR_MATRIX"] = matrix
            file.attrs[f"List_Cw_{name}"] = np.array(slots, np.float32)
            file.attrs[f"List_Fwhm_{name}"] = np.array([fwhm * bool(centre) for centre in slots], np.float32)
            file.attrs[f"List_Cw_{name}_Flags"] = np.array([int(bool(centre)) for centre in slots], np.int32)
            file.attrs[f"L2Scale{name}Min"], file.attrs[f"L2Scale{name}Max"] = np.float32(low), np.float32(high)
        file.attrs["Epsg_Code"] = np.uint32(32633)
        file.attrs["Product_ULcorner_easting"] = LEFT + inset
        file.attrs["Product_ULcorner_northing"] = TOP - inset
        file.attrs["Product_LRcorner_easting"] = LEFT + 30 * cols - inset
        file.attrs["Product_LRcorner_northing"] = TOP - 30 * rows + inset
        file.attrs["Product_StartTime"] = np.bytes_("2024-04-02T10:28:37.932000")
    return path


EMIT_NM = np.array([381.0, 700.0, 1380.0, 2493.0])


def emit(
    path: Path,
    glt_x: np.ndarray,
    glt_y: np.ndarray,
    swath: np.ndarray,
    transform: list[float],
    crs: str,
    nm: np.ndarray = EMIT_NM,
    fwhm: float = 8.4,
) -> Path:
    """EMIT L2A reflectance: swath (line, sample, band) with a 1-based geolocation table; the third band is bad."""
    with h5py.File(path, "w") as file:
        file["reflectance"] = swath.astype(np.float32)
        file["reflectance"].attrs["_FillValue"] = np.array([-9999.0], np.float32)
        bands = file.create_group("sensor_band_parameters")
        count = swath.shape[2]
        bands["wavelengths"], bands["fwhm"] = nm[:count], np.full(count, fwhm)
        bands["good_wavelengths"] = (np.arange(count) != 2).astype(float)
        file["location/glt_x"], file["location/glt_y"] = glt_x.astype(np.int32), glt_y.astype(np.int32)
        file.attrs["geotransform"], file.attrs["spatial_ref"] = np.array(transform), crs
        file.attrs["time_coverage_start"] = "2022-08-27T06:07:53+0000"
        file.attrs["flight_line"] = "emit20220827t060753_o23904_s001"
    return path


def tanager(
    path: Path,
    *,
    zone: int = 33,
    dtype: str = "float32",
    values: np.ndarray | None = None,
    nm: Sequence[float] = (400.5, 1000.25, 2490.0),
    fwhm: Sequence[float] = (5.5, 5.6, 6.0),
) -> Path:
    """Tanager ortho surface reflectance: axes band, y, x; corners in the HDF-EOS structure; the second band is bad."""
    values = truth(len(nm)) if values is None else values
    rows, cols = values.shape[1:]
    scale = 1.0 if dtype == "float32" else 1e-4
    with h5py.File(path, "w") as file:
        fields = file.create_group("HDFEOS/GRIDS/HYP/Data Fields")
        cube = fields.create_dataset("surface_reflectance", data=stored(values, scale, 0, -9999, dtype))
        cube.attrs["wavelengths"], cube.attrs["fwhm"] = list(nm), list(fwhm)
        cube.attrs["good_wavelengths"] = [int(i != 1) for i in range(len(nm))]
        cube.attrs["_FillValue"] = np.array(-9999, dtype)
        for name, place in (("beta_cloud_mask", (1, 1)), ("beta_cirrus_mask", (2, 2)), ("nodata_pixels", (-1, -1))):
            fields[name] = np.zeros((rows, cols), np.uint8)
            fields[name][place[0] % rows, place[1] % cols] = 1
        file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(
            f'GROUP=GridStructure\n\tGROUP=GRID_1\n\t\tGridName="HYP"\n\t\tXDim={cols}\n\t\tYDim={rows}\n'
            f"\t\tUpperLeftPointMtrs=({LEFT:.6f},{TOP:.6f})\n"
            f"\t\tLowerRightMtrs=({LEFT + 30 * cols:.6f},{TOP - 30 * rows:.6f})\n"
            f"\t\tProjection=HE5_GCTP_UTM\n\t\tZoneCode={zone}\n\tEND_GROUP=GRID_1\nEND_GROUP=GridStructure\n"
        )
    return path


def aviris(
    path: Path,
    values: np.ndarray | None = None,
    nm: Sequence[float] = (390.5, 700.25, 1200.0, 2495.75),
    fwhm: float = 7.4,
    pixel: float = 4.2,
) -> Path:
    """AVIRIS-3 ortho NetCDF: pixel centres in easting and northing, the cube in a group."""
    values = truth(len(nm)) if values is None else values
    with h5py.File(path, "w") as file:
        file["easting"] = LEFT + pixel * (np.arange(values.shape[2]) + 0.5)
        file["northing"] = TOP - pixel * (np.arange(values.shape[1]) + 0.5)
        file["transverse_mercator"] = np.int32(0)
        file["transverse_mercator"].attrs["crs_wkt"] = CRS.from_string(UTM33).to_wkt()
        cube = file.create_dataset("reflectance/reflectance", data=stored(values, 1, 0, -9999, "float32"))
        cube.attrs["_FillValue"], cube.attrs["grid_mapping"] = np.array([-9999.0], np.float32), "transverse_mercator"
        file["reflectance/wavelength"] = np.asarray(nm)
        file["reflectance/fwhm"] = np.full(len(nm), fwhm)
        file.attrs["time_coverage_start"], file.attrs["instrument"] = "2024-08-01T18:04:05Z", "AVIRIS-3"
    return path


def neon(
    path: Path,
    values: np.ndarray | None = None,
    nm: Sequence[float] = (384.0, 1400.0, 1700.5, 1800.0),
    fwhm: float = 5.8,
    pixel: float = 1.0,
) -> Path:
    """NEON: axes y, x, band; scale and no-data number as attributes; two water-vapour windows named."""
    values = truth(len(nm)) if values is None else values
    with h5py.File(path, "w") as file:
        root = file.create_group("SJER/Reflectance")
        numbers = stored(values, 1e-4, 0, -9999, "int16").transpose(1, 2, 0)
        data = root.create_dataset("Reflectance_Data", data=numbers, chunks=(3, 3, 4))
        data.attrs["Scale_Factor"], data.attrs["Data_Ignore_Value"] = 10000.0, -9999.0
        root.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
        root.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        spectral = root.create_group("Metadata/Spectral_Data")
        spectral["Wavelength"], spectral["FWHM"] = np.asarray(nm), np.full(len(nm), fwhm)
        system = root.create_group("Metadata/Coordinate_System")
        system["EPSG Code"] = np.bytes_("32633")
        system["Map_Info"] = np.bytes_(
            f"UTM,  1.000,  1.000,  {LEFT:.2f},  {TOP:.2f},  {pixel},  {pixel},  33,  North,  WGS-84,  units=Meters, 0"
        )
    return path


HYPERION_ID = "EO1H0440342016184110K3"
HYPERION_BANDS = (7, 8, 57, 77, 224, 225)


def hyperion(folder: Path, values: np.ndarray | None = None, bands: Sequence[int] = HYPERION_BANDS) -> Path:
    """Hyperion L1T: one GeoTIFF per band, radiance = DN / 40 (VNIR) and DN / 80 (SWIR); 7 and 225 uncalibrated."""
    values = 100 * truth(len(bands)) if values is None else values
    for band, layer in zip(bands, values, strict=True):
        scale = 1 / 40 if band <= 70 else 1 / 80
        numbers = np.zeros(layer.shape, np.int16) if band in (7, 225) else stored(layer, scale, 0, 0, "int16")
        raster(folder / f"{HYPERION_ID}_B{band:03d}_L1T.TIF", numbers)
    (folder / f"{HYPERION_ID}_MTL_L1T.TXT").write_text(
        'GROUP = L1_METADATA_FILE\n  GROUP = PRODUCT_METADATA\n    SENSOR_ID = "HYPERION"\n'
        '    ACQUISITION_DATE = 2016-07-02\n    START_TIME = "2016 184 10:03:11"\n  END_GROUP = PRODUCT_METADATA\n'
        "  GROUP = RADIANCE_SCALING\n    SCALING_FACTOR_VNIR = 40.000000\n    SCALING_FACTOR_SWIR = 80.000000\n"
        "  END_GROUP = RADIANCE_SCALING\nEND_GROUP = L1_METADATA_FILE\nEND\n"
    )
    return folder


# -- multispectral ----------------------------------------------------------------------------------------------------

S2_TILE = "T33UUU_20220724T101031"
S2_TEN = ("B02", "B03", "B04", "B08")
S2_TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")
S2_IDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
S2_ROWS, S2_COLS = 8, 10


def s2_image(folder: Path, band: str, metres: int, numbers: np.ndarray, tile: str = S2_TILE, **place: Any) -> str:
    """Write one JPEG 2000 of a SAFE and return its IMAGE_FILE entry."""
    entry = f"GRANULE/L2A_X/IMG_DATA/R{metres}m/{tile}_{band}_{metres}m"
    raster(folder / f"{entry}.jp2", numbers, float(metres), driver="JP2OpenJPEG", **place)
    return entry


def s2_numbers(offset: float, rows: int = S2_ROWS, cols: int = S2_COLS, seed: int = 0) -> np.ndarray:
    """DN of reflectance 0.01 … with DN 0 (no data) in the first and 65535 (saturated) in the second pixel."""
    reflectance = 0.01 + seed / 100 + np.arange(rows * cols).reshape(rows, cols) / 1000
    numbers = np.rint(reflectance * 10000 - offset).astype(np.uint16)
    numbers[0, 0], numbers[0, 1] = 0, 65535
    return numbers


def sentinel2(
    folder: Path, baseline: str = "05.09", offsets: bool = True, values: dict[str, np.ndarray] | None = None
) -> Path:
    """Sentinel-2 L2A SAFE with 10 m and 20 m bands and the scene classification; ``values`` are those at 10 m."""
    offset = -1000 if offsets else 0
    if values is not None:
        numbers = {name: np.rint(layer * 10000 - offset).astype(np.uint16) for name, layer in values.items()}
        entries = [s2_image(folder, name, 10, layer) for name, layer in numbers.items()]
    else:
        entries = [s2_image(folder, band, 10, s2_numbers(offset, seed=i)) for i, band in enumerate(S2_TEN)]
        entries += [
            s2_image(folder, band, 20, s2_numbers(offset, S2_ROWS // 2, S2_COLS // 2, 10 + i))
            for i, band in enumerate(S2_TWENTY)
        ]
    classes = np.full((S2_ROWS // 2, S2_COLS // 2), 4, np.uint8)
    classes[0] = (0, 1, 2, 3, 5)
    classes[1] = (6, 7, 8, 9, 10)
    classes[2, 0] = 11
    entries.append(s2_image(folder, "SCL", 20, classes))
    listed = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13)) if offsets else ""
    spectral = "".join(
        f'<Spectral_Information bandId="{i}" physicalBand="{name}"><Wavelength><CENTRAL unit="nm">{400 + 100 * i}'
        "</CENTRAL></Wavelength></Spectral_Information>"
        for i, name in enumerate(S2_IDS)
    )
    (folder / "MTD_MSIL2A.xml").write_text(
        '<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">'
        "<n1:General_Info><Product_Info><PRODUCT_START_TIME>2022-07-24T10:10:31.024Z</PRODUCT_START_TIME>"
        f"<PRODUCT_URI>S2B_MSIL2A_20220724T101031_N0509_R022_T33UUU_20220724T130000.SAFE</PRODUCT_URI>"
        f"<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE><Datatake><SPACECRAFT_NAME>Sentinel-2B"
        "</SPACECRAFT_NAME></Datatake><Product_Organisation><Granule_List><Granule>"
        + "".join(f"<IMAGE_FILE>{entry}</IMAGE_FILE>" for entry in entries)
        + "</Granule></Granule_List></Product_Organisation></Product_Info><Product_Image_Characteristics>"
        "<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE>10000</BOA_QUANTIFICATION_VALUE>"
        f"</QUANTIFICATION_VALUES_LIST><BOA_ADD_OFFSET_VALUES_LIST>{listed}</BOA_ADD_OFFSET_VALUES_LIST>"
        f"<Spectral_Information_List>{spectral}</Spectral_Information_List></Product_Image_Characteristics>"
        "</n1:General_Info></n1:Level-2A_User_Product>"
    )
    return folder


LANDSAT_ID = "LC09_L2SP_193023_20220724_20220726_02_T1"
LANDSAT_SCALE, LANDSAT_OFFSET = 2.75e-5, -0.2


def landsat(
    folder: Path,
    *,
    crs: str | None = UTM33,
    bands: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7),
    values: np.ndarray | None = None,
) -> Path:
    """Landsat 9 Collection 2 L2SP; the MTL repeats the names of the scales with Level-1 numbers, as real ones do."""
    values = truth(len(bands)) if values is None else values
    rows, cols = values.shape[1:]
    for band, layer in zip(bands, values, strict=True):
        numbers = stored(layer, LANDSAT_SCALE, LANDSAT_OFFSET, 0, "uint16")
        raster(folder / f"{LANDSAT_ID}_SR_B{band}.TIF", numbers, crs=crs)
    raster(folder / f"{LANDSAT_ID}_ST_B10.TIF", np.full((rows, cols), 40000, np.uint16), crs=crs)
    quality = np.full((rows, cols), 1 << 6, np.uint16)
    quality[1, :6] = (1, 2, 4, 8, 16, 32)
    raster(folder / f"{LANDSAT_ID}_QA_PIXEL.TIF", quality, crs=crs)
    names = "".join(f'    FILE_NAME_BAND_{b} = "{LANDSAT_ID}_SR_B{b}.TIF"\n' for b in range(1, 8))

    def scales(mult: str, add: str) -> str:
        return "".join(f"    REFLECTANCE_MULT_BAND_{b} = {mult}\n" for b in range(1, 8)) + "".join(
            f"    REFLECTANCE_ADD_BAND_{b} = {add}\n" for b in range(1, 8)
        )

    (folder / f"{LANDSAT_ID}_MTL.txt").write_text(
        f'GROUP = LANDSAT_METADATA_FILE\n  GROUP = PRODUCT_CONTENTS\n    LANDSAT_PRODUCT_ID = "{LANDSAT_ID}"\n'
        f'    PROCESSING_LEVEL = "L2SP"\n{names}    FILE_NAME_BAND_ST_B10 = "{LANDSAT_ID}_ST_B10.TIF"\n'
        f'    FILE_NAME_QUALITY_L1_PIXEL = "{LANDSAT_ID}_QA_PIXEL.TIF"\n  END_GROUP = PRODUCT_CONTENTS\n'
        '  GROUP = IMAGE_ATTRIBUTES\n    SPACECRAFT_ID = "LANDSAT_9"\n    SENSOR_ID = "OLI_TIRS"\n'
        '    DATE_ACQUIRED = 2022-07-24\n    SCENE_CENTER_TIME = "10:05:01.1234560Z"\n  END_GROUP = IMAGE_ATTRIBUTES\n'
        '  GROUP = PROJECTION_ATTRIBUTES\n    MAP_PROJECTION = "UTM"\n    UTM_ZONE = 33\n'
        f"    GRID_CELL_SIZE_REFLECTIVE = 30.00\n    REFLECTIVE_LINES = {rows}\n    REFLECTIVE_SAMPLES = {cols}\n"
        f"    CORNER_UL_PROJECTION_X_PRODUCT = {LEFT + 15}\n    CORNER_UL_PROJECTION_Y_PRODUCT = {TOP - 15}\n"
        f"    CORNER_LR_PROJECTION_X_PRODUCT = {LEFT + 30 * cols - 15}\n"
        f"    CORNER_LR_PROJECTION_Y_PRODUCT = {TOP - 30 * rows + 15}\n  END_GROUP = PROJECTION_ATTRIBUTES\n"
        f"  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS\n{scales('2.75e-05', '-0.2')}"
        "  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS\n"
        f"  GROUP = LEVEL1_RADIOMETRIC_RESCALING\n{scales('2.0000E-05', '-0.100000')}"
        "  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING\nEND_GROUP = LANDSAT_METADATA_FILE\nEND\n"
    )
    return folder


PLANET_4 = ("blue", "green", "red", "nir")
PLANET_8 = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
PLANET_ID = "20220724_101031_12_2489"


def planetscope(
    folder: Path,
    names: tuple[str, ...] = PLANET_8,
    kind: str = "AnalyticMS_SR_8b",
    values: np.ndarray | None = None,
    pixel: float = 3.0,
) -> Path:
    """PlanetScope analytic: DN × 1e-4, 0 = no data, and the udm2 of the scene beside it."""
    values = truth(len(names)) if values is None else values
    image = folder / f"{PLANET_ID}_3B_{kind}.tif"
    raster(image, stored(values, 1e-4, 0, 0, "uint16"), pixel, names=names, nodata=0)
    udm2 = np.zeros((8, *values.shape[1:]), np.uint8)
    udm2[0] = 1
    udm2[0, 1, 1], udm2[5, 1, 1] = 0, 1
    layers = ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "udm1")
    raster(folder / f"{PLANET_ID}_3B_udm2.tif", udm2, pixel, names=layers)
    return image
