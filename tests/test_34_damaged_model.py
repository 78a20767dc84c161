"""A damaged model is refused before any compiled code sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from geolift.errors import InputError
from geolift.network.formula import Network
from geolift.network.model import SpectralModel, load_model, save_model
from geolift.network.validation import require_sound

C, K, H, B = 4, 3, 8, 11


def sound() -> SpectralModel:
    def numbers(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)

    network = Network(
        weights=(numbers(H, C), numbers(H, H)),
        biases=(numbers(H), numbers(H)),
        residuals=(-1, 0),
        slope=0.1,
        head=numbers(K, H),
        skip=numbers(K, C),
        basis=numbers(B, K),
        offset=numbers(B),
    )
    return SpectralModel(
        method="auto", network=network, training_low=np.zeros(C, np.float32), training_high=np.ones(C, np.float32)
    )


def test_a_sound_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_model(tmp_path / "m", sound(), {"note": "https://me:pw@a.b/c.tif"})
    model, facts = load_model(tmp_path / "m")
    assert np.array_equal(model.network.head, sound().network.head)  # type: ignore[arg-type]
    assert "pw" not in facts["note"]


WRONG = {
    "head": np.zeros((0, H)), "skip": np.zeros((K, C + 1)), "basis": np.zeros((B, 0)), "offset": np.zeros(B + 1),
    "hidden.0.weight": np.zeros((0, C)), "hidden.1.weight": np.zeros((H, H, 1)), "hidden.1.bias": np.full(H, np.nan),
    "training_low": np.zeros(C + 2), "training_high": np.zeros((C, 1)), "hidden.0.bias": np.full(H, np.inf),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path: Path, name: str) -> None:
    save_model(tmp_path / "m", sound(), {})
    with safe_open(tmp_path / "m", framework="numpy") as archive:
        header = archive.metadata()
    tensors = load_file(tmp_path / "m") | {name: WRONG[name].astype(np.float32)}
    header.pop("sha256")  # as a model without one, or a forged one
    save_file(tensors, tmp_path / "wrong", metadata=header)
    with pytest.raises(InputError, match="not a readable geolift model"):
        load_model(tmp_path / "wrong")


@pytest.mark.parametrize(
    ("key", "value"), list({"residuals": [-1, 1], "sources": [-1, 5], "slope": 7, "clip": [1, 0]}.items())
)
def test_a_description_that_does_not_fit_is_refused(key: str, value: object) -> None:
    model = sound()
    with pytest.raises((ValueError, IndexError)):
        changed = SpectralModel.from_tensors(model.to_tensors(), model.description() | {key: value})
        require_sound(changed.network, changed.training_low, changed.training_high)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    save_model(tmp_path / "m", sound(), {"a": 1})
    content = (tmp_path / "m").read_bytes()
    for at in np.random.default_rng(1).integers(0, len(content), 60):
        damaged = bytearray(content)
        damaged[at] ^= 0x5A
        (tmp_path / "d").write_bytes(damaged)
        try:
            model, facts = load_model(tmp_path / "d")
        except InputError:
            continue
        # What is not content: a space of the header's padding, a name that nobody reads.
        assert facts == {"a": 1}
        assert all(np.array_equal(v, sound().to_tensors()[k]) for k, v in model.to_tensors().items()), at


def test_numbers_that_are_not_finite_are_refused_even_where_the_checksum_fits(tmp_path: Path) -> None:
    model = sound()
    bad = replace(model, network=replace(model.network, offset=np.full(B, np.nan, np.float32)))
    save_model(tmp_path / "m", bad, {})
    with pytest.raises(InputError, match="offset"):
        load_model(tmp_path / "m")
    assert json.dumps(bad.description())
