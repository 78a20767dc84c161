"""Inference: a pixel's spectrum depends on that pixel alone; the model file keeps everything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from geolift.datamodel.encoding import Encoding
from geolift.errors import InputError, ResourceError
from geolift.network.backends import Runner, compiled_for, made_ready
from geolift.network.engine import Engine
from geolift.network.formula import INPUT, NO_RESIDUAL, Network, Unmixing
from geolift.network.inference import predict_block
from geolift.network.llvm.cpu import AVX2, AVX512, NEON, VECTORS, Cpu, this_cpu
from geolift.network.llvm.network import PANEL_PIXELS, CompiledNetwork
from geolift.network.model import SpectralModel, TrainingStep, load_model, save_model
from geolift.network.pixels import Placing
from geolift.network.torch_backend import TorchNetwork

HERE = this_cpu()
WIDTHS = [cpu for cpu in (AVX512, AVX2, NEON) if HERE is not None and cpu.lanes <= HERE.lanes]
"""CPUs whose code runs on this one too."""

RESIDUALS = (NO_RESIDUAL, 0, NO_RESIDUAL, 1, NO_RESIDUAL, 3)


def random_network(msi: int = 4, hsi: int = 191, width: int = 64, *, basis: int = 0, skip: bool = False) -> Network:
    rng = np.random.default_rng(7)

    def matrix(rows: int, cols: int) -> np.ndarray:
        return (rng.standard_normal((rows, cols)) / cols**0.5).astype(np.float32)

    top = basis or hsi
    return Network(
        weights=(matrix(width, msi), *(matrix(width, width) for _ in range(5))),
        biases=tuple(matrix(width, 1)[:, 0] for _ in range(6)),
        residuals=RESIDUALS,
        slope=0.3,
        head=matrix(top, width),
        skip=matrix(top, msi) if skip else None,
        basis=matrix(hsi, basis) if basis else None,
        offset=matrix(hsi, 1)[:, 0],
    )


def wide_network(msi: int = 4, hsi: int = 191, units: int = 768, components: int = 15) -> Network:
    """One hidden layer of rectifiers, a linear path, a low-rank head."""
    rng = np.random.default_rng(8)

    def matrix(rows: int, cols: int) -> np.ndarray:
        return (rng.standard_normal((rows, cols)) / cols**0.5).astype(np.float32)

    return Network(
        weights=(matrix(units, msi),),
        biases=(matrix(units, 1)[:, 0],),
        residuals=(NO_RESIDUAL,),
        slope=0.0,
        head=matrix(components, units),
        skip=matrix(components, msi),
        basis=matrix(hsi, components),
        offset=matrix(hsi, 1)[:, 0],
    )


def two_networks(msi: int = 4, hsi: int = 191, components: int = 16) -> Network:
    """A wide layer and a deep network side by side, read out together: what the default method learns."""
    wide, deep = wide_network(msi, hsi, 128, components), random_network(msi, hsi, 64, basis=components, skip=True)
    assert wide.head is not None and deep.head is not None
    return replace(
        deep,
        weights=(*wide.weights, *deep.weights),
        biases=(*wide.biases, *deep.biases),
        residuals=(NO_RESIDUAL, *(NO_RESIDUAL if r == NO_RESIDUAL else r + 1 for r in deep.residuals)),
        head=np.concatenate([wide.head, deep.head], axis=1),
        sources=(INPUT, INPUT, 1, 2, 3, 4, 5),
    )


def straight_network(offset: np.ndarray, basis: np.ndarray | None = None) -> Network:
    """No hidden layer at all."""
    parts: dict[str, Any] = {"weights": (), "biases": (), "residuals": (), "slope": 0.0, "head": None}
    return Network(**parts, skip=np.eye(5, 3, dtype=np.float32), basis=basis, offset=offset)


def reference(network: Network, msi: np.ndarray) -> np.ndarray:
    """(C, n) in float64 straight from the formula in the module's docstring."""
    x = msi.astype(np.float64)
    outputs: list[np.ndarray] = []
    layers = zip(network.weights, network.biases, network.residuals, network.reads, strict=True)
    for weight, bias, residual, source in layers:
        before = weight.astype(np.float64) @ (x if source == INPUT else outputs[source]) + bias[:, None]
        hidden = np.where(before > 0, before, network.slope * before)
        outputs.append(hidden if residual == NO_RESIDUAL else hidden + outputs[residual])
    result = 0 if network.head is None else network.head @ np.concatenate([outputs[i] for i in network.last_layers])
    result = result if network.skip is None else result + network.skip @ x
    result = result if network.basis is None else network.basis @ result
    return result + network.offset[:, None]


def model_of(network: Network) -> SpectralModel:
    limits = np.zeros(network.inputs, np.float32), np.ones(network.inputs, np.float32)
    return SpectralModel("spectralift", network, *limits, (TrainingStep(0, 0.5, 0.001),), {"k": [1, "é"]})


@pytest.mark.parametrize(
    "network",
    [
        two_networks(),
        random_network(),
        random_network(1, 50, 32),
        random_network(13, 224, 64, basis=17),
        random_network(8, 60, 48, basis=9, skip=True),
        random_network(8, 60, 48, skip=True),
        wide_network(),
        wide_network(3, 50, 100, 8),
        replace(wide_network(10), slope=0.2, clip=(-0.5, 0.5)),
        straight_network(np.ones(7, np.float32), np.ones((7, 5), np.float32)),
        straight_network(np.arange(5, dtype=np.float32)),
    ],
)
def test_every_runner_computes_the_formula_and_code_for_any_cpu_the_same_bits(network: Network) -> None:
    msi = np.random.default_rng(1).random((network.inputs, 3000), dtype=np.float32)
    expected = reference(network, msi)
    expected = expected if network.clip is None else expected.clip(*network.clip)
    assert np.allclose(TorchNetwork(network)(msi), expected, rtol=1e-4, atol=1e-5)
    products = [CompiledNetwork(network, cpu)(msi) for cpu in WIDTHS]
    for product in products:
        assert np.allclose(product, expected, rtol=1e-4, atol=1e-5)
        assert np.array_equal(product, products[0])


def test_where_no_code_can_be_compiled_torch_runs_the_network() -> None:
    assert isinstance(made_ready(random_network()), TorchNetwork if HERE is None else CompiledNetwork)
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"  # as if it were not installed
        "import numpy as np, geolift.network.inference\n"
        "from geolift.network.engine import choose_engine\n"
        "from geolift.network.formula import Network\n"
        "from geolift.network.backends import made_ready\n"
        "eye = np.eye(3, dtype=np.float32)\n"
        "parts = dict(weights=(), biases=(), residuals=(), slope=0.0, head=None, skip=eye, basis=None, offset=eye[0])\n"
        "runner = made_ready(Network(**parts), choose_engine('cpu', 'bf16'))\n"
        "print(type(runner).__name__, runner(eye)[0, 0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["TorchNetwork", "2.0"]


@pytest.mark.skipif(HERE is None, reason="no code can be compiled here")
@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize(
    ("cpu", "system", "name"),
    [
        (AVX512, "x86_64-pc-windows-msvc", "skylake-avx512"),
        (replace(AVX512, tiles=True), "x86_64-pc-windows-msvc", "sapphirerapids"),
        (AVX2, "x86_64-pc-windows-msvc", "haswell"),
        (AVX2, "x86_64-apple-darwin", "haswell"),
        (NEON, "arm64-apple-darwin", "apple-m1"),
        (NEON, "aarch64-unknown-linux-gnu", "neoverse-n1"),
    ],
)
def test_code_for_other_systems_needs_nothing_from_outside_and_keeps_its_sums_in_registers(
    cpu: Cpu, system: str, name: str, rounds: bool
) -> None:
    from llvmlite import binding

    from geolift.network.llvm.code import written

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(system).create_target_machine(cpu=name, opt=3, jit=True)
    assembly = target.emit_assembly(written(cpu, rounds, target))
    assert set(re.findall(r"\b(?:callq|bl)\s+([a-z]\w+)", assembly)) <= {"layer", "tiled_layer", "read_out"}
    assert len(re.findall(r"v?fmadd\d+ps|fmla", assembly)) >= 3 * cpu.units * VECTORS  # a layer's, and two of a product
    frames = map(int, re.findall(r"sub(?:q\s+\$|\s+sp, sp, #)(\d+)", assembly))
    assert max(frames) < 512


@pytest.mark.skipif(HERE is None, reason="no code can be compiled here")
def test_code_that_gives_something_else_than_the_formula_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_for.__wrapped__() == HERE
    right = CompiledNetwork.stored

    def wrong(*given: Any) -> Any:
        numbers, counts = right(*given)
        return numbers + np.int16(2), counts

    def fails(*_: object) -> None:
        raise RuntimeError("LLVM cannot select")

    for replacement in (wrong, fails):
        monkeypatch.setattr(CompiledNetwork, "stored", replacement)
        assert compiled_for.__wrapped__() is None


@pytest.mark.skipif(HERE is None or HERE.lanes < AVX512.lanes, reason="needs a CPU with AVX-512")
def test_tiles_are_used_only_where_the_system_allows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geolift.network.llvm.cpu._allow_tiles", lambda: False)
    assert this_cpu.__wrapped__() == AVX512


def test_a_layer_that_reads_the_pixels_adds_no_other() -> None:
    with pytest.raises(ValueError, match="adds no other"):
        replace(two_networks(), residuals=(NO_RESIDUAL, 0, *two_networks().residuals[2:]))


@pytest.mark.parametrize(
    "network", [two_networks(), random_network(), random_network(10, 218, 48, basis=14, skip=True), wide_network()]
)
@pytest.mark.parametrize("kind", [TorchNetwork, made_ready])
def test_a_pixel_depends_on_itself_alone_not_on_position_neighbours_or_count(
    network: Network, kind: Callable[[Network], Runner]
) -> None:
    rng = np.random.default_rng(2)
    runner = kind(network)
    msi = rng.random((network.inputs, 3 * PANEL_PIXELS + 77), dtype=np.float32)
    whole = runner(msi)
    order = rng.permutation(msi.shape[1])
    assert np.array_equal(runner(msi[:, order]), whole[:, order])
    for start, count in ((0, 1), (1, 15), (77, PANEL_PIXELS), (501, PANEL_PIXELS + 1), (4600, 16), (4684, 1)):
        assert np.array_equal(runner(msi[:, start : start + count]), whole[:, start : start + count])


def test_a_pixel_depends_on_itself_alone_on_cpus_without_avx512_too() -> None:
    # MKL rounds what its products for AVX2 have left of a batch otherwise than the rest: batches must leave nothing.
    test = "test_a_pixel_depends_on_itself_alone_not_on_position_neighbours_or_count"
    environment = os.environ | {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-k", test, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("........")


@pytest.mark.parametrize("kind", [TorchNetwork, made_ready])
def test_threads_do_not_change_the_product(kind: Callable[[Network], Runner]) -> None:
    msi = np.random.default_rng(3).random((4, 9 * PANEL_PIXELS), dtype=np.float32)
    runner = kind(random_network())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = runner(msi)
        torch.set_num_threads(2)
        assert np.array_equal(runner(msi), alone)
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(runner, np.array_split(msi, 7, axis=1)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(np.concatenate(parts, axis=1), alone)


def test_any_tiling_of_a_block_gives_the_same_block_with_the_same_invalid_pixels() -> None:
    rng = np.random.default_rng(4)
    msi = rng.random((4, 90, 71), dtype=np.float32)
    msi[2, 10:20, 30:40] = np.nan
    msi[0, 60:, :] = np.nan
    msi[1, 5, 5] = np.inf
    model = model_of(random_network())
    whole = predict_block(model, msi)
    tiles = [predict_block(model, part) for part in np.array_split(msi, 4, axis=2)]
    assert np.array_equal(np.concatenate(tiles, axis=2), whole, equal_nan=True)
    invalid = ~np.isfinite(msi).all(axis=0)
    assert np.array_equal(np.isnan(whole), np.broadcast_to(invalid, whole.shape))
    assert whole.dtype == np.float32


def test_predict_takes_pixel_lists_and_agrees_with_blocks() -> None:
    msi = np.random.default_rng(5).random((4, 6, 7), dtype=np.float32)
    model = model_of(random_network())
    listed = model.predict(msi.reshape(4, -1).T)
    assert np.array_equal(listed.T.reshape(-1, 6, 7), predict_block(model, msi))


def test_an_msi_with_another_number_of_bands_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(4, n\)"):
        made_ready(random_network())(np.zeros((5, 3), np.float32))


def test_values_outside_the_trained_range_are_found() -> None:
    model = model_of(random_network())
    msi = np.full((4, 2, 2), 0.5, np.float32)
    msi[3, 0, 1] = 1.25
    msi[0, 1, 0] = -0.1
    assert model.out_of_range(msi).tolist() == [[False, True], [True, False]]


def test_a_saved_model_comes_back_whole(tmp_path: Path) -> None:
    model = model_of(random_network(8, 60, 48, basis=9, skip=True))
    save_model(tmp_path / "model.safetensors", model, {"bands": ["B2"], "srf": [[0.5, 0.5]]})
    loaded, metadata = load_model(tmp_path / "model.safetensors")
    assert metadata == {"bands": ["B2"], "srf": [[0.5, 0.5]]}
    assert loaded.method == model.method
    assert loaded.choices == model.choices
    assert loaded.history[0].learning_rate == pytest.approx(0.001)
    msi = np.random.default_rng(6).random((8, 500), dtype=np.float32)
    assert np.array_equal(loaded.apply(msi), model.apply(msi))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_that_is_not_a_model_is_refused_by_name(tmp_path: Path) -> None:
    missing, noise, outliers = (tmp_path / "none.safetensors", tmp_path / "noise.txt", tmp_path / "foreign.safetensors")
    noise.write_text("no model")
    save_file({"x": np.zeros(3, np.float32)}, outliers)
    for path, finding in ((missing, "no such file"), (noise, "not a readable"), (outliers, "not a geolift model")):
        with pytest.raises(InputError, match=f"{path.name}.*{finding}"):
            load_model(path)


def test_a_truncated_or_newer_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, model_of(random_network()), {})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a readable geolift model"):
        load_model(path)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["format_version"] = "9"
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[8 + length :])
    with pytest.raises(InputError, match=r"format 9.*Update geolift"):
        load_model(path)


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"nowhere.*model\.safetensors"):
        save_model(tmp_path / "nowhere" / "model.safetensors", model_of(random_network()), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "network",
    [
        two_networks(),
        random_network(4, 30, 64),
        wide_network(4, 60, 40, 8),
        replace(random_network(4, 30, 64), clip=(0.0, 0.1)),
    ],
)
def test_outputs_at_their_places_among_bad_bands_are_the_same_and_nan_between(network: Network) -> None:
    msi = np.random.default_rng(8).random((network.inputs, 3000), dtype=np.float32)
    count = network.outputs + 5
    places = np.delete(np.arange(count), [0, 3, 4, 9, count - 1])
    whole = made_ready(network.placed(places, count))(msi)
    assert np.isnan(np.delete(whole, places, axis=0)).all()
    np.testing.assert_allclose(whole[places], made_ready(network)(msi), rtol=1e-5, atol=1e-6)


def test_abundances_that_constrain_each_other_cannot_stand_among_others() -> None:
    unmixing = replace(random_network(4, 30, 64, basis=8), unmixing=Unmixing(np.zeros(8, np.float32), True, True))
    with pytest.raises(ValueError, match="tie"):
        unmixing.abundances().placed(np.arange(8), 9)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "network",
    [
        two_networks(),
        random_network(4, 30, 64),
        wide_network(4, 60, 40, 8),
        replace(random_network(4, 30, 64), clip=(0.0, 0.1)),
        replace(random_network(4, 30, 64, basis=8), unmixing=Unmixing(np.zeros(8, np.float32), True, True)),
    ],
)
def test_a_correction_is_added_to_the_product_wherever_the_pixels_lie(
    network: Network, precision: Literal["fp32", "bf16"]
) -> None:
    rng = np.random.default_rng(9)
    msi = rng.random((network.inputs, PANEL_PIXELS + 700), dtype=np.float32)
    msi[0, 11] = np.nan
    beside = rng.standard_normal((5, msi.shape[1])).astype(np.float32)
    decode = rng.standard_normal((network.outputs, 5)).astype(np.float32)
    engine = Engine(precision=precision)
    corrected = made_ready(replace(network, correction=decode), engine)
    product = corrected(msi, beside)
    plain = made_ready(network, engine)(msi)
    np.testing.assert_allclose(product, plain + decode @ beside, rtol=1e-5, atol=1e-4)
    assert np.array_equal(corrected(msi[:, 100:900], beside[:, 100:900]), product[:, 100:900])
    plain_in_torch, in_torch = (
        TorchNetwork(net, precision=precision)(msi, *given)
        for net, given in ((network, ()), (replace(network, correction=decode), (beside,)))
    )
    np.testing.assert_allclose(in_torch, plain_in_torch + decode @ beside, rtol=1e-5, atol=1e-4)
    count = network.outputs + 2
    placed = made_ready(replace(network, correction=decode).placed(np.arange(network.outputs), count))
    np.testing.assert_allclose(placed(msi, beside)[: network.outputs], plain + decode @ beside, rtol=1e-2, atol=0.05)


def test_a_correction_and_its_coordinates_come_together() -> None:
    network = random_network()
    with pytest.raises(ValueError, match="coordinates"):
        made_ready(network)(np.zeros((4, 3), np.float32), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        made_ready(replace(network, correction=np.ones((191, 2), np.float32)))(np.zeros((4, 3), np.float32))


@pytest.mark.parametrize("network", [two_networks(), random_network(4, 30, 64), wide_network(4, 60, 40, 8)])
def test_a_projected_network_gives_the_projected_product(network: Network) -> None:
    rng = np.random.default_rng(10)
    msi = rng.random((network.inputs, 3000), dtype=np.float32)
    projection, mean = rng.standard_normal((6, network.outputs)), rng.standard_normal(network.outputs)
    projected = network.projected(projection, mean)
    assert projected is not None
    expected = projection @ (made_ready(network)(msi) - mean[:, None])
    np.testing.assert_allclose(made_ready(projected)(msi), expected, rtol=1e-4, atol=1e-3)
    assert replace(network, clip=(0.0, 1.0)).projected(projection, mean) is None


# -- stored numbers ---------------------------------------------------------------------------------------------------

SHORT, UNSIGNED = Encoding("int16", 1e-4, -32768.0), Encoding("uint16", 1e-4, 65535.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "encoding",
    [SHORT, UNSIGNED, Encoding("int16", 1e-4, 0.0), Encoding("int16", 5e-5, 7.0), Encoding("float32", 1.0, -9999.0)],
    ids=["int16", "uint16 clips", "nodata among the values", "int16 clips", "float32"],
)
@pytest.mark.parametrize("network", [two_networks(4, 30), random_network(4, 30, 64), wide_network(4, 60, 40, 8)])
def test_stored_numbers_are_those_of_the_product_encoded(
    network: Network, encoding: Encoding, precision: Literal["fp32", "bf16"]
) -> None:
    rng = np.random.default_rng(12)
    msi = rng.random((network.inputs, 2 * PANEL_PIXELS + 300), dtype=np.float32)
    msi[0, 11], msi[:, 100:150] = np.nan, np.inf
    msi[1, PANEL_PIXELS : 2 * PANEL_PIXELS] = np.nan  # a whole batch
    network = replace(network, offset=network.offset + 1, correction=np.ones((network.outputs, 1), np.float32))
    beside = rng.standard_normal((1, msi.shape[1])).astype(np.float32) / 50
    places, count = np.delete(np.arange(network.outputs + 3), [0, 4, 9]), network.outputs + 3
    for runner in (made_ready(network, Engine(precision=precision)), TorchNetwork(network, precision=precision)):
        values = np.full((count, 1, msi.shape[1]), np.nan, np.float32)
        values[places, 0] = runner(msi, beside)
        expected, counts = encoding.encode_block(values)
        stored, met = runner.stored(msi, encoding, Placing(places, count), beside)
        assert met == counts
        assert stored.dtype == encoding.dtype
        assert np.array_equal(stored, expected[:, 0])
        few, met = runner.stored(msi[:, :99], encoding, Placing(places, count), beside[:, :99])  # less than a panel
        assert np.array_equal(few, expected[:, 0, :99])
        assert met.n_valid_pixels == 98


def test_a_value_that_is_not_finite_is_stored_as_invalid() -> None:
    msi = np.random.default_rng(13).random((4, 2 * PANEL_PIXELS), dtype=np.float32)
    msi[:, 7] = 3e38  # infinite within the network, and then infinite minus infinite
    clipped = replace(random_network(), clip=(-1.0, 1.0))
    for runner in (kind(network) for network in (random_network(), clipped) for kind in (made_ready, TorchNetwork)):
        stored, counts = runner.stored(msi, SHORT, Placing(np.arange(191), 191))
        assert not np.isfinite(runner(msi)[:, 7]).any()
        assert (stored[:, 7] == -32768).all()
        assert (stored[:, 8] != -32768).all()
        assert counts.n_values == 191 * (msi.shape[1] - 1)


def test_a_product_of_bad_bands_alone_at_its_ends_has_its_numbers_between() -> None:
    placing = Placing(np.array([2, 3, 6]), 8)
    assert placing.runs == [(slice(0, 2), slice(2, 4)), (slice(2, 3), slice(6, 7))]
    out = placing.empty(1, SHORT)
    placing.put(np.array([[1.0], [2.0], [3.0]]), out)
    out[[2, 3, 6]] -= 1
    assert out.ravel().tolist() == [-32768, -32768, 0, 1, -32768, -32768, 2, -32768]
