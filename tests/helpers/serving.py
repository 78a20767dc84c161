"""A file server on loopback as object stores are: ranges, and a refusal now and then."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Log:
    """What was asked of a server."""

    address: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, Range header."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def serving(folder: Path, *, refuse_every: int | None = None) -> Iterator[Log]:
    """Serve a folder; every so many requests are answered with 503. Rasters are given in ranges only."""
    log = Log()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path, wanted = self.path.partition("?")[0], self.headers.get("Range")
            with log.lock:
                log.requests.append((self.command, path, wanted))
                number = len(log.requests)
            file = folder / path.lstrip("/")
            if refuse_every and number % refuse_every == 0:
                self._send(503, b"")
            elif not file.is_file():
                self._send(404, b"")
            elif wanted is None and (not body or file.suffix == ".json"):
                self._send(200, file.read_bytes(), body=body)
            elif wanted is None:
                self._send(403, b"")
            else:
                content = file.read_bytes()
                first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()  # type: ignore[union-attr]
                start, end = int(first), min(int(last or len(content)), len(content) - 1)
                part = content[start : end + 1]
                self._send(206 if part else 416, part, f"bytes {start}-{end}/{len(content)}", body=body)

        def _send(self, code: int, content: bytes, content_range: str | None = None, *, body: bool = True) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    log.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
