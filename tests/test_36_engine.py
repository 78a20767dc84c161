"""What computes: a GPU's path, run here on the CPU; bfloat16; what this machine has not got."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from scenes import make_pair
from test_34_inference import model_of, random_network, wide_network

from geolift.errors import ResourceError
from geolift.network import torch_backend
from geolift.network.backends import made_ready
from geolift.network.engine import Engine, choose_engine, cpu_has_bf16
from geolift.network.formula import Network
from geolift.network.inference import predict_block
from geolift.network.torch_backend import TorchNetwork, bytes_per_pixel
from geolift.pipeline.memory_plan import estimate_cost
from geolift.settings import FuseSettings
from geolift.training.fit import fit
from geolift.training.training_set import training_set_from_cube

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens where there is no CUDA")
NETWORKS = [random_network(), wide_network(10, 60, 100, 9)]


class Scarce(TorchNetwork):
    """A network whose device holds no more than so many pixels at once, or none at its n-th batch."""

    def __init__(self, network: Network, limit: int, fails_at: int | None = None) -> None:
        super().__init__(network, free_bytes=lambda: 2**40)
        self.limit, self.fails_at, self.tried = limit, fails_at, 0

    def product(self, x: torch.Tensor, coordinates: torch.Tensor | None = None) -> torch.Tensor:
        self.tried += 1
        if x.shape[1] > self.limit or self.tried == self.fails_at:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (made up)")
        return super().product(x, coordinates)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("count", [1, 1024, 5000])
def test_batches_through_a_device_are_the_product_of_the_cpu(network: Network, count: int) -> None:
    msi = np.random.default_rng(0).random((network.inputs, count), dtype=np.float32)
    msi[0, ::7] = np.nan
    device = TorchNetwork(network, free_bytes=lambda: 0)
    assert device.batch_pixels == torch_backend.SMALLEST_BATCH
    assert np.allclose(device(msi), made_ready(network)(msi), rtol=1e-5, atol=1e-5, equal_nan=True)


def test_threads_share_a_device_and_keep_their_pixels_apart() -> None:
    network = NETWORKS[1]
    msi = np.random.default_rng(1).random((network.inputs, 20_000), dtype=np.float32)
    device = TorchNetwork(network, free_bytes=lambda: 0)
    alone = device(msi)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(device, np.array_split(msi, 9, axis=1)))
    assert np.array_equal(np.concatenate(parts, axis=1), alone)


def test_the_batch_is_the_largest_power_of_two_that_the_free_memory_takes() -> None:
    each = bytes_per_pixel(NETWORKS[1])
    for pixels, expected in ((10**7, 65_536), (5000, 4096), (4096, 4096), (4095, 2048), (3, 1024)):
        free = int(pixels * each / torch_backend.SHARE_OF_FREE)
        assert TorchNetwork(NETWORKS[1], free_bytes=lambda free=free: free).batch_pixels == expected  # type: ignore[misc]
        shared = TorchNetwork(NETWORKS[1], free_bytes=lambda free=free: 8 * free, streams=8)  # type: ignore[misc]
        assert shared.batch_pixels == expected


def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_the_product_is_the_same() -> None:
    network = NETWORKS[0]
    msi = np.random.default_rng(2).random((network.inputs, 20_000), dtype=np.float32)
    scarce = Scarce(network, limit=2500)
    assert scarce.batch_pixels == 65_536
    assert np.allclose(scarce(msi), made_ready(network)(msi), atol=1e-5)
    assert scarce.batch_pixels == 2048
    passing = Scarce(network, limit=10**9, fails_at=1)
    passing(msi)
    assert passing.batch_pixels == 32_768  # memory that is free again is left to others


def test_a_device_that_holds_nothing_is_a_resource_error() -> None:
    with pytest.raises(ResourceError, match=r"does not hold 1024 pixels.*--device cpu"):
        Scarce(NETWORKS[0], limit=0)(np.zeros((4, 10), np.float32))


def test_training_that_does_not_fit_the_device_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("made up")

    monkeypatch.setattr("geolift.training.methods.spectralift.full_batch_adam", full)
    hsi = np.random.default_rng(3).random((12, 8, 8), dtype=np.float32)
    with pytest.raises(ResourceError, match="training of 64 pixels"):
        fit("spectralift", training_set_from_cube(hsi, np.full((2, 12), 1 / 12, np.float32)))


@pytest.mark.parametrize("network", [*NETWORKS, random_network(8, 60, 48, basis=9, skip=True)])
def test_bfloat16_rounds_the_product_by_some_thousandths(network: Network) -> None:
    msi = np.random.default_rng(4).random((network.inputs, 3000), dtype=np.float32)
    exact = made_ready(network)(msi)
    runners = [TorchNetwork(network, precision="bf16")]
    if cpu_has_bf16() and len(network.weights) > 1:  # the first layer and the head stay fp32 there
        runners.append(made_ready(network, Engine(precision="bf16")))
    for runner in runners:
        error = np.abs(runner(msi) - exact).mean() / np.abs(exact - network.offset[:, None]).mean()
        assert 1e-5 < error < 1e-2


@without_cuda
def test_auto_takes_the_cpu_where_there_is_no_cuda_and_cuda_is_refused_in_one_line() -> None:
    assert choose_engine("auto") == Engine("cpu", "fp32")
    with pytest.raises(ResourceError, match=r"--device cuda: .*Pass --device cpu") as caught:
        choose_engine("cuda")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ResourceError):
        predict_block(model_of(NETWORKS[0]), np.zeros((4, 2, 2), np.float32), Engine("cuda"))


@without_cuda
def test_bf16_without_units_for_it_is_fp32_with_a_warning() -> None:
    told: list[str] = []
    engine = choose_engine("auto", "bf16", told.append)
    assert engine.precision == ("bf16" if cpu_has_bf16() else "fp32")
    assert bool(told) != cpu_has_bf16()


@without_cuda
def test_the_command_exits_7_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, rows=12, cols=12)
    done = run("fuse", pair.hsi, pair.msi, "--sensor", "sentinel-2a", "-o", "a.tif", "--device", "cuda", cwd=tmp_path)
    assert done.returncode == 7
    assert done.stderr.strip().startswith("Error: --device cuda:") or "--device cuda:" in done.stderr
    assert not list(tmp_path.glob("*a.tif*"))


def test_batches_pinned_for_a_gpu_are_part_of_the_memory_plan() -> None:
    plain, pinned = (
        estimate_cost((3000, 3000), 200, 4, FuseSettings(sensor="x", threads=2, device=name)).memory_bytes
        for name in ("cpu", "cuda")
    )
    assert pinned - plain == 2 * (2**26 + 2**20)


def test_training_and_inference_open_no_files_and_need_none_of_their_libraries() -> None:
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'rasterio', 'dask', 'xarray', 'odc', 'distributed', 'click',\n"
        "                                  'psutil', 'pydantic', 'scipy', 'affine', 'pandas'}:\n"
        "            raise ImportError(name + ' is blocked')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "import numpy as np\n"
        "import geolift.network.inference, geolift.network.model, geolift.training.fit, geolift.training.methods\n"
        "from geolift.training.training_set import training_set_from_cube\n"
        "hsi = np.random.default_rng(0).random((12, 8, 8), dtype=np.float32)\n"
        "model = geolift.training.fit.fit('auto', training_set_from_cube(hsi, np.full((2, 12), 1 / 12, np.float32)))\n"
        "print(geolift.network.inference.predict_block(model, np.ones((2, 3, 3), np.float32)).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(12, 3, 3)", done.stderr
