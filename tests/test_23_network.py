"""Files read over the network: retries, and a server's answer told as it is (exit 8)."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import product_files as made
import pytest

from geolift.errors import InputError, RemoteError
from geolift.readers import open_cube


class Server(http.server.BaseHTTPRequestHandler):
    """Answers /NUMBER… with that code, anything else with a file of the folder (503 if it is gone)."""

    folder: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.requests.append(self.path)
        name = self.path.strip("/")
        if name[:3].isdigit():
            self.send_response(int(name[:3]))
            self.end_headers()
            return
        if not (self.folder / name).is_file():
            self.send_response(503)
            self.end_headers()
            return
        content = (self.folder / name).read_bytes()
        span = self.headers.get("Range")
        if span:
            first, _, last = span.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last or len(content)) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
            content = part
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "2")
    requests: list[str] = []
    handler = type("Handler", (Server,), {"folder": tmp_path, "requests": requests})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}", requests
        listening.shutdown()


@pytest.mark.parametrize("code, words", [(404, "HTTP 404 Not Found"), (503, "HTTP 503 Service Unavailable")])
def test_a_server_that_refuses_is_exit_8_with_its_answer(server: tuple[str, list[str]], code: int, words: str) -> None:
    address, requests = server
    with pytest.raises(RemoteError, match=words) as caught:
        open_cube(f"{address}/{code}.tif")
    assert caught.value.exit_code == 8
    assert len(str(caught.value).splitlines()) == 1
    assert (len(requests) > 2) == (code == 503)  # tried again where it may help


def test_nobody_listening_is_exit_8_too() -> None:
    with pytest.raises(RemoteError, match="cannot be read over the network"):
        open_cube("http://127.0.0.1:9/a.tif")


def test_a_remote_file_reads_as_the_local_one_and_something_else_is_no_raster(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    file = made.raster(tmp_path / "a.tif", made.s2_numbers(0), 10, nodata=0)
    (tmp_path / "b.tif").write_text("no raster at all" * 100)
    address, requests = server
    assert np.array_equal(open_cube(f"{address}/a.tif").values, open_cube(file).values, equal_nan=True)
    assert not [path for path in requests if path.endswith("/")]  # the server's folder is not listed
    with pytest.raises(InputError, match="not a raster"):
        open_cube(f"{address}/b.tif")


def test_a_server_that_fails_while_reading_is_told_as_such(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    numbers = np.random.default_rng(0).integers(1, 9000, (3, 1500, 1500), dtype=np.uint16)
    made.raster(tmp_path / "big.tif", numbers, 10, nodata=0, tiled=True, blockxsize=64, blockysize=64)
    address, _ = server
    cube = open_cube(f"{address}/big.tif", tile=64)
    (tmp_path / "big.tif").unlink()  # the server now answers 503
    with pytest.raises(RemoteError, match="HTTP 503"):
        cube.values  # noqa: B018
