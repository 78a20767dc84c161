"""The trained spectral model and its file."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from geolift.errors import InputError, cleaned
from geolift.network.backends import Runner, made_ready
from geolift.network.engine import ON_CPU, Engine
from geolift.network.formula import Floats, Network, Unmixing
from geolift.network.validation import checksum, require_sound
from geolift.runtime.whole_files import write_whole

FORMAT = "geolift-model"
FORMAT_VERSION = 1
NONSENSE = (
    SafetensorError, KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError,
    OSError,
)  # fmt: skip
"""What a damaged file raises on the way to a model."""
_packing = threading.Lock()


@dataclass(frozen=True)
class TrainingStep:
    """One line of the training curve; loss in units of the scaled targets."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, eq=False)
class SpectralModel:
    """The learned spectral inversion: HR-MSI pixel in, HSI spectrum out, physical units on both sides.

    Parameters
    ----------
    method
        Name of the method that made it.
    network
        Its weights, with all scaling folded in.
    training_low, training_high
        (c,) lowest and highest simulated MSI value it was trained on.
    history
        Training curve, thinned to at most about 200 steps.
    choices
        What the method decided by itself and on which evidence; JSON-able.
    """

    method: str
    network: Network
    training_low: Floats
    training_high: Floats
    history: tuple[TrainingStep, ...] = ()
    choices: dict[str, Any] = field(default_factory=dict)

    def apply(self, msi: Floats, engine: Engine = ON_CPU, coordinates: Floats | None = None) -> Floats:
        """(C, n) HSI values of (c, n) MSI pixels.

        ``coordinates``: (J, n), where the network has a correction.
        """
        return self.runner(engine)(msi, coordinates)

    def runner(self, engine: Engine) -> Runner:
        """The network made ready for this machine; shared by threads."""
        with _packing:
            ready: dict[Engine, Runner] = self.__dict__.setdefault("_ready", {})
            if engine not in ready:
                ready[engine] = made_ready(self.network, engine)
            return ready[engine]

    def __getstate__(self) -> dict[str, object]:
        """What travels to other processes: the network is made ready anew on each machine."""
        return {name: value for name, value in self.__dict__.items() if name != "_ready"}

    def predict(self, msi: Floats) -> Floats:
        """(n, C) HSI values of (n, c) MSI pixels; a pixel's result does not depend on the other pixels."""
        return self.apply(np.asarray(msi, np.float32).T).T

    def out_of_range(self, msi: Floats) -> Any:
        """Boolean array (…), True where a (c, …) MSI value lies outside the range seen in training."""
        shape = (-1,) + (1,) * (msi.ndim - 1)
        low, high = self.training_low.reshape(shape), self.training_high.reshape(shape)
        return np.any((msi < low) | (msi > high), axis=0)

    def to_tensors(self) -> dict[str, Floats]:
        """The arrays of the model by name."""
        net = self.network
        tensors = {"training_low": self.training_low, "training_high": self.training_high}
        for index, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            tensors |= {f"hidden.{index}.weight": weight, f"hidden.{index}.bias": bias}
        level = None if net.unmixing is None else net.unmixing.level
        optional = {"head": net.head, "skip": net.skip, "basis": net.basis, "level": level}
        tensors |= {name: array for name, array in optional.items() if array is not None}
        tensors["offset"] = net.offset
        steps = [(s.step, s.loss, s.learning_rate) for s in self.history]
        tensors["history"] = np.array(steps, np.float32).reshape(-1, 3)
        return {name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()}

    def description(self) -> dict[str, object]:
        """What is needed beside the arrays; JSON-able."""
        unmixing = self.network.unmixing
        return {
            "method": self.method,
            "residuals": list(self.network.residuals),
            "sources": list(self.network.reads),
            "slope": self.network.slope,
            "clip": self.network.clip,
            "unmixing": None if unmixing is None else [unmixing.non_negative, unmixing.sum_to_one],
            "choices": self.choices,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Floats], description: dict[str, Any]) -> SpectralModel:
        """The inverse of ``to_tensors`` and ``description``. Raises KeyError or ValueError on nonsense."""
        count = len(description["residuals"])
        clip, constraints = description["clip"], description.get("unmixing")
        network = Network(
            weights=tuple(tensors[f"hidden.{i}.weight"] for i in range(count)),
            biases=tuple(tensors[f"hidden.{i}.bias"] for i in range(count)),
            residuals=tuple(int(i) for i in description["residuals"]),
            slope=float(description["slope"]),
            head=tensors.get("head"),
            skip=tensors.get("skip"),
            basis=tensors.get("basis"),
            offset=tensors["offset"],
            clip=None if clip is None else (float(clip[0]), float(clip[1])),
            unmixing=None if constraints is None else Unmixing(tensors["level"], *map(bool, constraints)),
            sources=tuple(int(i) for i in description["sources"]) if "sources" in description else None,
        )
        history = tuple(TrainingStep(int(s), float(x), float(lr)) for s, x, lr in tensors["history"])
        return cls(
            description["method"],
            network,
            tensors["training_low"],
            tensors["training_high"],
            history,
            description["choices"],
        )


def save_model(path: str | Path, model: SpectralModel, metadata: Mapping[str, object]) -> None:
    """Write a model as safetensors, whole or not at all.

    Raises ResourceError when the folder cannot be written or the disk is full.

    ``path``: replaced if it is there; the caller has asked for that. ``metadata``: the caller's own JSON-able facts:
    bands, wavelengths, SRF, versions.
    """
    tensors = model.to_tensors()
    texts = {"model": json.dumps(cleaned(model.description())), "metadata": json.dumps(cleaned(metadata))}
    header = {"format": FORMAT, "format_version": str(FORMAT_VERSION), **texts}
    header["sha256"] = checksum(tensors, *texts.values())
    write_whole(Path(path), save(tensors, metadata=header), "the model")


def load_model(path: str | Path) -> tuple[SpectralModel, dict[str, Any]]:
    """Read a model and the metadata saved with it.

    Raises InputError when the file is missing, is not a geolift model, is damaged, or is newer than this geolift.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a model written by 'geolift train' is expected.")
    way_out = "Pass a file written by 'geolift train' or --save-model."
    try:
        with safe_open(path, framework="numpy") as archive:
            header = archive.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(f"{path}: safetensors, but not a geolift model. {way_out}")
            version = int(header["format_version"])
            if version > FORMAT_VERSION:
                raise InputError(
                    f"{path}: model format {version}; this geolift reads up to {FORMAT_VERSION}. Update geolift."
                )
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
        if "sha256" in header and header["sha256"] != checksum(tensors, header["model"], header["metadata"]):
            raise InputError(f"{path}: damaged: its checksum is not that of its content. {way_out}")
        model = SpectralModel.from_tensors(tensors, json.loads(header["model"]))
        require_sound(model.network, model.training_low, model.training_high)
        return model, dict(json.loads(header["metadata"]))
    except NONSENSE as err:
        if isinstance(err, InputError):
            raise
        raise InputError(f"{path}: not a readable geolift model ({err}). {way_out}") from err
