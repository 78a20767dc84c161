"""A method against the published network and linear regression, case by case, from a CSV of `geolift benchmark`.

    geolift benchmark SCENE... --method auto,linear --psf gaussian,moffat --ratio 4,8 --srf-bands 3,4,8,16 -o sweep.csv
    geolift benchmark SCENE... --method spectralift --seed 0,1 (the same axes) --resume -o sweep.csv
    python benchmarks/method_table.py sweep.csv

A case is a scene in a setting; the published network counts with the mean of its seeds. With ``--against`` the same
method is held against that of another version: OTHER.csv was made by it, with the same axes.

    python benchmarks/method_table.py sweep.csv --method auto+refine --against OTHER.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

Key = tuple[str, ...]
SETTING = ("psf", "ratio", "srf")


def cases_of(path: Path, methods: tuple[str, ...]) -> dict[Key, list[np.ndarray]]:
    """Setting → per case (method, [PSNR, SAM]); cases that lack a method are left out."""
    scores: dict[Key, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if not row["error"]:
                key = (*(row[axis] for axis in SETTING), row["snr_db"], row["scene"])
                scores[key][row["method"]].append([float(row["psnr_db"]), float(row["sam_deg"])])
    cases: dict[Key, list[np.ndarray]] = defaultdict(list)
    for key, found in scores.items():
        if set(methods) <= set(found):
            case = np.array([np.mean(found[name], axis=0) for name in methods])
            cases[key[: len(SETTING)]].append(case)
    return cases | {("all",): [case for group in cases.values() for case in group]}


def against(path: Path, other: Path, method: str) -> None:
    """Print gain and SAM ratio of one version over another, and every case that lost 0.05 dB or more."""
    new, old = (by_case(part, method) for part in (path, other))
    settings: dict[Key, list[tuple[float, float, str]]] = defaultdict(list)
    for key in sorted(set(new) & set(old)):
        (db, deg), (db_old, deg_old) = new[key], old[key]
        for group in (key[:-1], ("all",)):
            settings[group].append((db - db_old, deg / deg_old, f"{' '.join(key)}: {db_old:.2f} → {db:.2f}"))
    print("setting: cases | gain dB | mean SAM ratio | worst, dB | largest SAM ratio")
    for setting, cases in settings.items():
        gains, ratios = np.array([case[:2] for case in cases]).T
        print(
            f"{', '.join(setting)}: {len(cases)} | {gains.mean():+.2f} | {ratios.mean():.3f} "
            f"| {gains.min():+.2f} | {ratios.max():.3f}"
        )
    for gain, ratio, case in settings[("all",)]:
        if gain < -0.05:
            print(f"lost: {case} ({gain:+.2f} dB, SAM × {ratio:.3f})")


def by_case(path: Path, method: str) -> dict[Key, tuple[float, float]]:
    """Setting and scene → PSNR and SAM of a method."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["method"] == method and not row["error"]]
    return {
        (*(row[axis] for axis in SETTING), row["scene"]): (float(row["psnr_db"]), float(row["sam_deg"])) for row in rows
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--method", default="auto", help="the method that is judged")
    parser.add_argument("--against", type=Path, metavar="CSV", help="the same cases, by another version")
    arguments = parser.parse_args()
    if arguments.against:
        return against(arguments.csv, arguments.against, arguments.method)
    print(f"PSF, ratio, bands: cases | {arguments.method} | published | linear | gain dB | SAM ratio | worst, dB")
    for setting, cases in cases_of(arguments.csv, (arguments.method, "spectralift", "linear")).items():
        psnr, sam = np.array(cases).transpose(2, 1, 0)
        means = " | ".join(
            f"{db:.2f} / {deg:.2f}°" for db, deg in zip(psnr.mean(axis=1), sam.mean(axis=1), strict=True)
        )
        worst = (psnr[0] - psnr[1:].max(axis=0)).min()
        print(
            f"{', '.join(setting)}: {len(cases)} | {means} | {(psnr[0] - psnr[1]).mean():+.2f} "
            f"| {sam[0].mean() / sam[1].mean():.3f} | {worst:+.2f}"
        )


if __name__ == "__main__":
    main()
