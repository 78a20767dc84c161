"""Nothing of the user's is touched unasked: inputs down to their sources, neighbours, what is there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import run
from scenes import make_pair, write

from geolift.errors import InputError, OutputExistsError, ResourceError, UsageError
from geolift.pipeline.readiness import FilesRead
from geolift.pipeline.touched_files import Output, require_untouched
from geolift.readers.source_files import files_of_input
from geolift.settings import FuseSettings
from geolift.writer import ignored_options, is_store, settled_output

VRT = (
    '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
    '<SourceFilename relativeToVRT="1">{}</SourceFilename><SourceBand>1</SourceBand>'
    "</SimpleSource></VRTRasterBand></VRTDataset>"
)


def touch(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def image(path: Path, driver: str = "GTiff") -> Path:
    path.parent.mkdir(exist_ok=True)
    return write(path, np.full((1, 4, 4), 0.5), gsd=10, driver=driver)


def refused(kind: type[Exception], inputs: list[object], *outputs: Path, overwrite: bool = True) -> str:
    """Require a refusal that names one of the files, and that nothing has changed."""
    folder = outputs[0].parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(kind) as caught:
        require_untouched(inputs, [Output(path, told=not i) for i, path in enumerate(outputs)], overwrite=overwrite)  # type: ignore[arg-type]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    return str(caught.value)


def test_an_envi_image_and_its_header_are_one_input_whichever_is_named(tmp_path: Path) -> None:
    data = image(tmp_path / "scene.bsq", "ENVI")
    for named in (data, data.with_suffix(".hdr")):
        assert "scene.hdr" in refused(UsageError, [named], tmp_path / "scene.img")
        assert "is an input" in refused(UsageError, [named], data)


def test_the_sources_of_a_vrt_are_inputs_to_the_last_under_any_name_and_suffix(tmp_path: Path) -> None:
    image(tmp_path / "data" / "last.tif")
    touch(tmp_path / "inner.vrt", VRT.format("data/last.tif"))
    outer = touch(tmp_path / "outer.img", VRT.format("inner.vrt"))
    files, _ = files_of_input(str(outer))
    assert {path.name for path in files} >= {"outer.img", "inner.vrt", "last.tif"}
    refused(UsageError, [outer], tmp_path / "data" / "last.tif")
    (tmp_path / "link.tif").symlink_to(tmp_path / "data" / "last.tif")
    os.link(tmp_path / "data" / "last.tif", tmp_path / "hard.tif")
    refused(UsageError, [outer], tmp_path / "link.tif")
    refused(UsageError, [outer], tmp_path / "hard.tif")


def test_members_of_a_folder_and_archives_are_inputs_but_not_products_that_geolift_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    band = image(folder / "B02.tif")
    assert "is an input" in refused(UsageError, [folder], band)
    product = image(folder / "fused.tif")
    sidecar = {"properties": {"geolift:x": 1}, "assets": {"data": {"href": "./fused.tif"}}}
    touch(folder / "fused.json", json.dumps(sidecar))
    require_untouched([folder], [Output(product, told=True)], overwrite=True)
    archive = touch(tmp_path / "a.zip")
    for name in (f"/vsizip/{archive}/x/y.tif", f"/vsizip/{{{archive}}}/y.tif", f"NETCDF:{archive}:b"):
        assert archive.resolve() in files_of_input(name)[0], name


def test_what_is_there_is_replaced_only_when_that_is_asked(tmp_path: Path) -> None:
    source = image(tmp_path / "in.tif")
    for name in ("p.tif", "p.json", "p.tif.aux.xml", "p.tif.ovr", "p.tif.msk"):
        touch(tmp_path / name, "mine")
        assert name in refused(OutputExistsError, [source], tmp_path / "p.tif", overwrite=False)
        require_untouched([source], [Output(tmp_path / "p.tif", told=True)], overwrite=True)
        (tmp_path / name).unlink()
    touch(tmp_path / "p.qml", "a style made in QGIS")  # which stays
    require_untouched([source], [Output(tmp_path / "p.tif", told=True)], overwrite=False)
    touch(tmp_path / "e.hdr")
    refused(OutputExistsError, [source], tmp_path / "e.img", overwrite=False)


def test_a_header_and_a_sidecar_of_another_product_are_not_replaced_even_when_asked(tmp_path: Path) -> None:
    image(tmp_path / "n.bsq", "ENVI")
    assert "header of n.bsq" in refused(UsageError, [], tmp_path / "n.img")
    image(tmp_path / "two.tif")
    document = {"properties": {"geolift:x": 1}, "assets": {"data": {"href": "./two.tif"}}}
    touch(tmp_path / "two.json", json.dumps(document))
    assert "sidecar of two.tif" in refused(UsageError, [], tmp_path / "two.img")


def test_outputs_of_one_run_keep_apart_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    assert "two outputs" in refused(UsageError, [], tmp_path / "p.tif", tmp_path / "p.tif")
    assert "two outputs" in refused(UsageError, [], tmp_path / "p.img", tmp_path / "p.bsq")
    assert "two outputs" in refused(UsageError, [], tmp_path / "p.tif", tmp_path / "p.json")
    with pytest.raises(ResourceError, match="does not exist"):
        require_untouched([], [Output(tmp_path / "no" / "p.tif")], overwrite=True)


def test_an_option_is_no_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "option" in refused(UsageError, [], Path("--report"))


@pytest.mark.parametrize("option", ["-o", "--report", "--save-model"])
def test_the_file_of_options_is_no_output(tmp_path: Path, option: str) -> None:
    (tmp_path / "c.toml").write_text("seed = 1\n", encoding="utf-8")
    words = ("fuse", "h.tif", "m.tif", "--config", "c.toml", "--overwrite", option, "c.toml")
    assert run(*words, cwd=tmp_path).returncode == 2
    assert (tmp_path / "c.toml").read_text(encoding="utf-8") == "seed = 1\n"


@pytest.mark.parametrize(
    ("name", "of", "co"),
    [("a.tif", "GTiff", ()), ("a.TIFF", "GTiff", ()), ("a.img", "ENVI", ()), ("a.dat", "ENVI", ()),
     ("a.bil", "ENVI", ("INTERLEAVE=BIL",)), ("a.bip", "ENVI", ("INTERLEAVE=BIP",)), ("a.zarr", "Zarr", ())],
)  # fmt: skip
def test_the_suffix_says_the_format(name: str, of: str, co: tuple[str, ...]) -> None:
    path, settings = settled_output(Path(name), FuseSettings())
    assert (path, settings.of, settings.co) == (Path(name), of, co)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a", {}), ("a.png", {}), ("a.tif", {"of": "ENVI"}), ("a.zarr", {"of": "COG"}), ("a.img", {"of": "gtiff"}),
     ("a.bil", {"co": ("interleave=BSQ",)})],
)  # fmt: skip
def test_a_suffix_that_says_nothing_or_something_else_is_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=name):
        settled_output(Path(name), FuseSettings(**options))  # type: ignore[arg-type]


def test_creation_options_that_this_gdal_ignores_are_told() -> None:
    settings = FuseSettings(of="COG", co=("interleave=BAND",))
    assert "3.10.3" in ignored_options(settings, "3.10.3")[0]
    assert ignored_options(settings, "3.11.0") == []
    assert ignored_options(FuseSettings(co=("INTERLEAVE=BAND",)), "3.10.3") == []


def test_a_header_means_the_image_beside_it(tmp_path: Path) -> None:
    assert settled_output(tmp_path / "a.hdr", FuseSettings())[0] == tmp_path / "a.img"
    touch(tmp_path / "a.bil")
    assert settled_output(tmp_path / "a.hdr", FuseSettings())[0] == tmp_path / "a.bil"


def test_an_input_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    image(folder / "B02.tif")
    read = FilesRead.of([str(folder)])
    read.require_unchanged()
    (folder / "B02.tif").write_bytes(b"another")
    with pytest.raises(InputError, match=r"B02\.tif: has changed while it was read"):
        read.require_unchanged()
    (folder / "B02.tif").unlink()
    with pytest.raises(InputError, match="is gone"):
        read.require_unchanged()


def test_a_fusion_is_refused_before_it_reads_a_pixel(tmp_path: Path) -> None:
    from geolift.pipeline.files import fuse_files, plan_files

    pair = make_pair(tmp_path / "in", rows=24, cols=24)
    settings = FuseSettings(sensor="sentinel-2a", qa=tmp_path / "in" / "msi.tif", overwrite=True)
    for begin in (fuse_files, plan_files):
        with pytest.raises(UsageError, match=r"msi\.tif"):
            begin(pair.hsi, pair.msi, tmp_path / "p.tif", settings)
    with rasterio.open(pair.msi) as source:
        assert source.count == 4


def test_a_zarr_store_that_is_read_is_not_replaced_and_nothing_is_put_into_one(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "zarr.json").write_text('{"zarr_format": 3}', encoding="utf-8")
    (tmp_path / "a.json").write_text(
        '{"properties": {"geolift:settings": {}}, "assets": {"data": {"href": "a.zarr"}}}', encoding="utf-8"
    )
    with pytest.raises(UsageError, match="is an input"):
        require_untouched([str(store)], [Output(store, told=True)], overwrite=True)
    with pytest.raises(UsageError, match="inside a Zarr store"):
        require_untouched([], [Output(store / "b.tif")], overwrite=True)


def test_statistics_beside_an_input_do_not_make_its_folder_an_input(tmp_path: Path) -> None:
    """QGIS leaves FILE.aux.xml beside all that it shows; a run could then not be repeated."""
    scene, marks = image(tmp_path / "scene.tif"), image(tmp_path / "marks.tif")
    touch(tmp_path / "scene.tif.aux.xml", "<PAMDataset/>")
    require_untouched([scene], [Output(marks)], overwrite=True)
    assert "scene.tif.aux.xml" in refused(UsageError, [scene], tmp_path / "scene.tif.aux.xml")


def test_a_product_called_zarr_leaves_its_folder_a_place_for_others(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text('{"type": "Feature"}', encoding="utf-8")
    assert not is_store(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}', encoding="utf-8")
    assert is_store(tmp_path)
