"""Streaming: the product depends neither on threads, workers, nor on a worker's death; memory is kept in bounds."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their .rio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from scenes import make_pair

from geolift.datamodel.cube import Bands, make_cube
from geolift.errors import OutputExistsError, ResourceError
from geolift.pipeline.files import fuse_files
from geolift.pipeline.memory_plan import Preparing, estimate_cost, fitted, is_kept
from geolift.runtime.machine import limit_block_cache
from geolift.settings import FuseSettings, WritingSettings
from geolift.writer import Cluster, Encoding, Threads, cog_block, write_cube
from geolift.writer.executor import TileWork
from geolift.writer.tiff import Directory
from geolift.writer.tiles import TileValues, tile_shape, tiles_of
from geolift.writer.viewing import cells_of, cells_seen, sample

ROWS, COLS, COUNT = 200, 170, 4
BANDS = Bands(tuple("abcd"), np.array([490.0, 560.0, 660.0, 800.0]), np.full(4, 20.0), np.ones(4, bool))
GRID = GeoBox((ROWS, COLS), Affine(10, 0, 4e5, 0, -10, 5e6), "EPSG:32633")
VALUES = np.random.default_rng(0).integers(0, 9000, (COUNT, ROWS, COLS)).astype(np.float32) * np.float32(1e-4)
BLOCKS = ("BLOCKXSIZE=32", "BLOCKYSIZE=32")


def written(path: Path, executor: Any, data: Any = None) -> np.ndarray:
    settings = WritingSettings(overwrite=True, co=BLOCKS)
    lazy = da.from_array(VALUES, chunks=(4, 64, 64)) if data is None else data
    cube = make_cube(lazy, grid=GRID, bands=BANDS)
    report = write_cube(cube, path, settings, encoding=Encoding.of(settings, 1e-4), tile_size=32, executor=executor)
    assert report.counts.n_values == VALUES.size
    with rasterio.open(path) as source:
        return source.read()  # type: ignore[no-any-return]


@pytest.mark.parametrize("edge", [128, 256, 512, 768])
def test_statistics_are_the_same_of_what_tiles_showed_and_of_what_is_read_again(edge: int, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(-99, 9000, (2, 700, 1200)).astype(np.int16)
    values[:, :90, 300:] = -32768
    profile = {"driver": "GTiff", "count": 2, "height": 700, "width": 1200, "dtype": "int16", "nodata": -32768}
    with rasterio.open(tmp_path / "a.tif", "w", transform=Affine.scale(2), **profile) as target:
        target.write(values)
    cells, seen = cells_of((700, 1200)), {}
    for tile in tiles_of((700, 1200), (edge, edge)):
        seen |= cells_seen(cells, tile, values[:, *tile.window])
    assert len(cells) == 9
    assert len(seen) == {128: 0, 256: 9, 512: 9, 768: 9}[edge]
    np.testing.assert_array_equal(sample(tmp_path / "a.tif", seen), sample(tmp_path / "a.tif", {}))


def test_the_file_is_the_same_to_the_byte_with_any_number_of_threads(tmp_path: Path) -> None:
    contents = set()
    for count in (1, 2, 5):
        written(tmp_path / "a.tif", Threads(count))
        contents.add((tmp_path / "a.tif").read_bytes())
    assert len(contents) == 1


def test_a_tile_is_computed_once_and_no_more_tiles_are_under_way_than_planned() -> None:
    computed: list[tuple[int, int]] = []

    def note(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        computed.append(block_info[None]["chunk-location"][1:])
        return block

    lazy = da.from_array(VALUES, chunks=(4, 32, 32)).map_blocks(note, dtype=np.float32, meta=VALUES[:0])
    tiles = tiles_of((ROWS, COLS), (32, 32))
    work = TileWork(TileValues(lazy, (32, 32)), Encoding("int16", 1e-4, -32768), lambda tile, stored, counts: stored)  # type: ignore[arg-type,return-value]
    for given, _ in enumerate(Threads(2).work(work, tiles), start=1):
        assert len(computed) <= given + 2
    assert sorted(computed) == sorted({(t.row // 32, t.col // 32) for t in tiles})


def test_the_memory_of_a_tile_does_not_grow_with_the_scene() -> None:
    def peak(edge: int) -> int:
        lazy = da.zeros((4, edge, edge), chunks=(4, 64, 64), dtype=np.float32) + 1
        values = TileValues(lazy, (64, 64))
        tile = tiles_of((edge, edge), (64, 64))[3]
        values(tile)
        tracemalloc.start()
        values(tile)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(2048) < 1.3 * peak(256)


def test_formats_of_rows_take_tiles_of_whole_rows() -> None:
    assert tile_shape(256, WritingSettings(), (5000, 10980)) == (256, 256)
    assert tile_shape(100, WritingSettings(co=BLOCKS), (5000, 10980)) == (128, 128)
    assert tile_shape(256, WritingSettings(of="ENVI"), (5000, 10980)) == (5, 10980)
    assert tile_shape(256, WritingSettings(co=("TILED=NO", "BLOCKYSIZE=8")), (5000, 10980)) == (8, 10980)


@pytest.mark.parametrize("options", [{}, {"bigtiff": "YES"}, {"tiled": True, "interleave": "band", "compress": "lzw"}])
def test_our_directory_says_of_blocks_what_gdal_says(tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "a.tif"
    size = {"count": COUNT, "height": ROWS, "width": COLS, "dtype": "int16", "transform": GRID.affine}
    with rasterio.open(file, "w", driver="GTiff", **size, **options) as target:
        target.write((VALUES * 1e4).astype("int16"))
    directory = Directory.read(file.read_bytes())
    offsets, sizes = directory.blocks()
    with rasterio.open(file) as source:
        assert directory.block_shape == source.block_shapes[0]
        for plane, row, col in np.ndindex(*directory.block_grid):
            asked = [source.get_tag_item(f"BLOCK_{k}_{col}_{row}", "TIFF", bidx=plane + 1) for k in ("OFFSET", "SIZE")]
            assert [int(v) for v in asked] == [offsets[plane, row, col], sizes[plane, row, col]]


# -- the budget -------------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_by_fewer_threads_and_then_by_smaller_tiles() -> None:
    def cost(memory: str, **options: Any) -> Any:
        settings = FuseSettings(sensor="x", memory=memory, threads=8, **options)  # type: ignore[arg-type]
        found = estimate_cost((10980, 10980), 224, 4, settings)
        assert found.memory_bytes <= found.budget_bytes
        assert fitted(settings, found).threads == found.threads
        return found

    roomy, tight, tighter = cost("8GB"), cost("1GB"), cost("1GB", tile_size=1024)
    assert (roomy.threads, roomy.tile_px) == (8, 256)
    assert 1 <= tight.threads < 8
    assert tighter.threads == 1
    assert tighter.tile_px < 1024
    for shape in ((3000, 3000), (100_000, 100_000)):
        assert estimate_cost(shape, 224, 4, FuseSettings(sensor="x", memory="1GB")).memory_bytes <= 10**9  # type: ignore[arg-type]


def test_an_hsi_is_kept_in_memory_where_the_budget_has_room_and_counts() -> None:
    def memory(budget: str, hsi_bytes: int) -> int:
        settings = FuseSettings(sensor="x", memory=budget, threads=1)  # type: ignore[arg-type]
        return estimate_cost((3000, 3000), 50, 4, settings, Preparing(hsi_bytes)).memory_bytes

    assert not is_kept(10**8, 2 * 10**9)
    assert is_kept(10**9, 4 * 10**9)
    assert memory("2GB", 10**8) == memory("2GB", 0)
    assert memory("4GB", 2 * 10**9) == memory("4GB", 0)
    assert 2 * 10**9 < memory("10GB", 2 * 10**9) < 10 * 10**9


def test_the_cache_of_gdal_is_cut_to_the_budget_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, budget, expected in (
        ("128", 10**9, "25"),
        ("128", 3 * 10**9, "120"),
        ("128", 10**10, "128"),
        ("500", 10**9, "500"),
    ):
        monkeypatch.setenv("GDAL_CACHEMAX", given)
        limit_block_cache(budget)
        assert os.environ["GDAL_CACHEMAX"] == expected


def test_a_budget_that_nothing_fits_says_how_much_is_needed() -> None:
    with pytest.raises(ResourceError, match=r"224 bands need at least 0\.\d\d GB"):
        estimate_cost((3000, 3000), 224, 4, FuseSettings(sensor="x", memory="300MB"))  # type: ignore[arg-type]


def test_blocks_of_a_cog_stay_small_and_its_copy_is_planned() -> None:
    cog = FuseSettings(sensor="x", memory="2GB", of="COG")  # type: ignore[arg-type]
    assert [cog_block(cog, bands, 2) for bands in (60, 200, 425)] == [512, 256, 128]
    costs = [estimate_cost((600, 600), 200, 4, cog.model_copy(update={"co": co})) for co in ((), ("BLOCKSIZE=512",))]
    assert costs[1].memory_bytes - costs[0].memory_bytes > 3 * 512**2 * 200 * 2
    assert costs[0].memory_bytes > 326e6 + 4e8  # the copy, and what the process holds by then, as measured


@pytest.mark.parametrize(("text", "number"), [("2GB", 2 * 10**9), ("512MiB", 2**29), ("800 mb", 8 * 10**8), ("7", 7)])
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert FuseSettings(memory=text).memory == number  # type: ignore[arg-type]


# -- a cluster --------------------------------------------------------------------------------------------------------


COUNT_FAULTS = """
import resource, sys, numpy as np
from geolift.runtime.machine import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
np.ones(2**22, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**22, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or not platform.libc_ver()[0], reason="only glibc is told")
def test_memory_of_a_worker_is_used_again_though_its_nanny_has_set_how_memory_is_given_back() -> None:
    nanny = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536", "NUMPY_MADVISE_HUGEPAGE": "0"}
    pages: dict[str, int] = {}
    for mode in ("leave", "keep"):
        command = [sys.executable, "-c", COUNT_FAULTS, mode]
        pages[mode] = int(subprocess.run(command, env=nanny, check=True, capture_output=True, text=True).stdout)
    assert pages["leave"] > 20 * 4000
    assert pages["keep"] < 100


@pytest.mark.filterwarnings("ignore")
def test_two_worker_processes_give_the_same_pixels(tmp_path: Path, cluster: Any) -> None:
    alone = written(tmp_path / "a.tif", Threads(1))
    assert np.array_equal(written(tmp_path / "b.tif", Cluster(cluster.scheduler_address)), alone)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_worker_costs_its_tiles_and_not_the_run(tmp_path: Path, cluster: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("geolift.writer.cluster.STALL_S", 300.0)  # a busy machine starts the next one late

    def deadly(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        death = tmp_path / "{}-{}".format(*block_info[None]["chunk-location"][1:])
        if death.name in {"1-1", "2-0"} and not death.exists():
            death.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    lazy = da.from_array(VALUES, chunks=(4, 64, 64)).map_blocks(deadly, dtype=np.float32, meta=VALUES[:0])
    pixels = written(tmp_path / "c.tif", Cluster(cluster.scheduler_address), lazy)
    assert (tmp_path / "1-1").exists()
    assert (tmp_path / "2-0").exists()
    assert np.array_equal(pixels, np.rint(VALUES / 1e-4))


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer_is_a_resource_error(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("geolift.writer.cluster.CONNECT_TIMEOUT_S", 1)
    with pytest.raises(ResourceError, match=r"tcp://127\.0\.0\.1:9.*no cluster"):
        written(tmp_path / "a.tif", Cluster("tcp://127.0.0.1:9"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_a_fusion_on_a_cluster_is_the_fusion(tmp_path: Path, cluster: Any) -> None:
    pair = make_pair(tmp_path, rows=96, cols=96)
    found = []
    for name, more in (("a.tif", {}), ("b.tif", {"scheduler": cluster.scheduler_address})):
        settings = FuseSettings(sensor="sentinel-2a", max_train_pixels=200, tile_size=32, co=BLOCKS, **more)  # type: ignore[arg-type]
        fuse_files(pair.hsi, pair.msi, tmp_path / name, settings)
        with rasterio.open(tmp_path / name) as source:
            found.append(source.read())
    assert np.array_equal(*found)


# -- Zarr -------------------------------------------------------------------------------------------------------------


def zarr_written(path: Path, executor: Any, **options: Any) -> None:
    settings = WritingSettings(of="Zarr", co=("BLOCKSIZE=64",), **options)
    holed = VALUES.copy()
    holed[:, :70, :80] = np.nan
    cube = make_cube(
        da.from_array(holed, chunks=(4, 64, 64)), grid=GRID, bands=BANDS, attrs={"quantity": "reflectance"}
    )
    write_cube(cube, path, settings, encoding=Encoding.of(settings, 1e-4), tile_size=64, executor=executor)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_zarr_store_comes_back_through_xarray_with_its_grid_and_bands(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    zarr_written(path, Threads(2), dtype=dtype)
    with xr.open_zarr(path, consolidated=False) as store:
        assert np.isnan(store["cube"].values[:, :70, :80]).all()
        assert np.allclose(store["cube"].values[:, 70:], VALUES[:, 70:], atol=1e-7)
        assert np.allclose(store["wavelength"], BANDS.wavelength_nm)
        assert store["cube"].rio.crs == "EPSG:32633"
        assert store["cube"].rio.transform() == GRID.affine
    with pytest.raises(OutputExistsError):
        zarr_written(path, Threads(1), dtype=dtype)
    zarr_written(path, Threads(1), dtype=dtype, overwrite=True)
    assert [item.name for item in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.filterwarnings("ignore")
def test_workers_write_their_own_shards(tmp_path: Path, cluster: Any) -> None:
    pytest.importorskip("zarr")
    zarr_written(tmp_path / "a.zarr", Threads(1))
    zarr_written(tmp_path / "b.zarr", Cluster(cluster.scheduler_address))
    files = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in ("a.zarr", "b.zarr")]
    assert files[0] == files[1]
    for file in files[0]:
        if (tmp_path / "a.zarr" / file).is_file():
            assert (tmp_path / "a.zarr" / file).read_bytes() == (tmp_path / "b.zarr" / file).read_bytes()
    with cluster.get_client() as client:
        assert set(client.run(threads_of_zarr).values()) == {(1, 1)}  # as many as a worker has


def threads_of_zarr() -> tuple[int, int]:
    """In how many threads Zarr compresses here, and how many chunks it has under way."""
    import zarr

    return zarr.config.get("threading.max_workers"), zarr.config.get("async.concurrency")
