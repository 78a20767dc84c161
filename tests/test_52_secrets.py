"""Logins and signatures of addresses are planted in every way in, and looked for in all that comes out."""

from __future__ import annotations

from pathlib import Path

from command_line import run
from scenes import make_pair
from serving import serving

SECRETS = (b"u5er", b"5ecret", b"5igned")
QUICK = ["--method", "linear", "--refine", "off", "--coregister", "off", "--harmonize", "off"]


def test_no_stream_and_no_file_gives_away_how_an_input_was_reached(tmp_path: Path) -> None:
    make_pair(tmp_path / "in", rows=12, cols=12, bands=30)
    out = tmp_path / "out"
    out.mkdir()
    with serving(tmp_path / "in") as log:
        base, query = log.address.replace("://", "://u5er:5ecret@"), "?signed=host;range&sig=5igned"
        hsi, msi, gone = (f"{base}/{name}{query}" for name in ("hsi.tif", "msi.tif", "gone.tif"))
        sensor = ("--sensor", "sentinel-2a", "--msi-bands", "B02,B03,B04,B08")
        side = ["--qa", "q.tif", "--uncertainty", "u.tif", "--report", "r.html", "--save-model", "m.safetensors"]
        manifest = tmp_path / "pairs.csv"  # an MSI with a semicolon in its query is one file
        manifest.write_text(f'hsi;msi;out\n"{gone}";"{msi}";b.tif\n', encoding="utf-8")
        commands = [
            ("fuse", hsi, msi, "-o", "p.tif", *sensor, *side, *QUICK, "--progress", "json", "-vv"),
            ("apply", "m.safetensors", msi, "-o", "a.img", "-v"),
            ("apply", "m.safetensors", msi, "-o", "z.zarr", "--resume", "--json"),
            ("apply", f"{base}/m.safetensors{query}", msi, "-o", "c.tif"),
            ("apply", "m.safetensors", gone, "-o", "c.tif"),
            ("info", hsi, "--json"),
            ("check", hsi, msi, *sensor, "--json"),
            ("evaluate", "p.tif", msi),
            ("report", "p.tif", "--overwrite"),
            ("fuse", hsi, msi, *sensor, "--dry-run", "--show-config"),
            *(("fuse", hsi, msi, *sensor, "--dry-run", option, gone) for option in ("--wavelengths", "--mask", "--co")),
            ("fuse", hsi, msi, *sensor, *QUICK, "-o", gone),
            ("fuse", hsi, msi, *sensor, "--dry-run", "--scheduler", "tcp://u5er:5ecret@127.0.0.1:9"),
            ("batch", manifest, *sensor, *QUICK, "--json", "--dry-run"),
        ]
        for command in commands:
            ended = run(*command, cwd=out)
            assert ended.returncode != 1, ended.stderr
            told = [line for line in (ended.stdout + ended.stderr).splitlines() if _gives_away(line.encode())]
            assert told == [], command
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file != manifest]
    assert {file.suffix for file in files} >= {".tif", ".json", ".qml", ".html", ".safetensors", ".img", ".hdr"}
    assert [file for file in files if _gives_away(file.read_bytes()) or _gives_away(str(file).encode())] == []


def _gives_away(content: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in content]
