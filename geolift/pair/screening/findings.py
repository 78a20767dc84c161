"""What was found of faults in an HSI, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geolift.datamodel.cube import Bands

Action = Literal["mended", "left out", "told"]

MOST_NAMED = 4
"""Bands, columns, lines or pixels that a sentence names; of more it tells the first and the number."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the HSI.

    Parameters
    ----------
    code
        Verdict code: `bad-values`, `stripes`, `noisy-bands`, `resampled`, `smile`, `keystone` or `line-jitter`.
    message
        For an analyst: what, where, how large.
    done
        What was done about it; empty if it is only told.
    advice
        What to do about it; empty if there is nothing.
    action
        Whether it was set right, left out of everything learned, or only told.
    bands
        1-based numbers of the file's bands that are touched; empty = all.
    rows, cols
        0-based lines and columns of the HSI that are touched; empty = no particular ones.
    size
        How large it is, in the unit the message tells.
    displaces
        Whether HSI pixels are not where they say, so that the product cannot be made to agree with them.
    """

    code: str
    message: str
    done: str = ""
    advice: str = ""
    action: Action = "told"
    bands: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    cols: tuple[int, ...] = ()
    size: float = 0.0
    displaces: bool = False

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        return f"{self.code}: {self.text}"

    @property
    def text(self) -> str:
        """What was found, what was done, and what to do."""
        return "; ".join(filter(None, (self.message, self.done))) + "." + (f" {self.advice}" if self.advice else "")


@dataclass(frozen=True, kw_only=True)
class PlacedFault(Fault):
    """A fault that lies somewhere: ``where`` (y, x) is how much of it lies where in the HSI.

    It has length 1 along an axis along which it is the same.
    """

    where: NDArray[np.floating | np.bool_] = field(compare=False, repr=False)

    @property
    def is_graded(self) -> bool:
        """Whether ``where`` tells how strong it is, not only where."""
        return not (self.rows or self.cols)


def only_told(fault: Fault) -> Fault:
    """Return a fault about which nothing was done."""
    return replace(fault, done="", action="told", displaces=False)


@dataclass(frozen=True)
class Screening:
    """All that was found of faults in an HSI; ``screened``: whether it was looked for."""

    faults: tuple[Fault, ...] = ()
    screened: bool = True

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes found, each once."""
        return tuple(dict.fromkeys(fault.code for fault in self.faults))

    @property
    def displacement(self) -> Fault | None:
        """The fault by which HSI pixels are not where they say, if there is one."""
        return next((fault for fault in self.faults if fault.displaces), None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """One sentence for each fault."""
        return tuple(fault.sentence for fault in self.faults)

    def to_json(self) -> dict[str, object]:
        """Return it as plain JSON types."""
        faults = [
            {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(fault).items() if key != "where"}
            for fault in self.faults
        ]
        return {"screened": self.screened, "faults": faults}


NOTHING_FOUND = Screening()
NOT_SCREENED = Screening(screened=False)


def listed(numbers: Sequence[int] | np.ndarray, noun: str) -> str:
    """Write numbers with their noun, the first few of many.

    >>> listed([3], "column"), listed([3, 5], "column"), listed(range(9), "line")
    ('column 3', 'columns 3 and 5', '9 lines (0, 1, 2, 3, …)')
    """
    texts = [str(int(number)) for number in numbers]
    if len(texts) == 1:
        return f"{noun} {texts[0]}"
    if len(texts) <= MOST_NAMED:
        return f"{noun}s {', '.join(texts[:-1])} and {texts[-1]}"
    return f"{len(texts)} {noun}s ({', '.join(texts[:MOST_NAMED])}, …)"


def listed_bands(bands: Bands, positions: Sequence[int] | np.ndarray) -> str:
    """Write 0-based bands as people look them up: their number in the file and their wavelength."""
    texts = []
    for position in list(positions)[:MOST_NAMED]:
        centre = bands.wavelength_nm[position]
        texts.append(f"{position + 1}" + (f" ({centre:.0f} nm)" if np.isfinite(centre) else ""))
    if len(positions) == 1:
        return f"band {texts[0]}"
    if len(positions) <= MOST_NAMED:
        return f"bands {', '.join(texts[:-1])} and {texts[-1]}"
    return f"{len(positions)} bands ({', '.join(texts)}, …)"
