"""A pager for demonstrations and tests. It writes every request into a witness file before it answers."""

import json
import os
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self


class PagerServer:
    """Use it as `with PagerServer(path) as server`. A key that is in the file already is answered and marked
    `repeated`: nobody is paged again. It remembers over restarts, because the file does."""

    def __init__(self, witness: Path, port: int = 0) -> None:
        self.witness = witness
        self.status = 204
        """What it answers. With 503 it does nothing; with 500 it does what is asked and fails to say so."""
        self._lock = Lock()
        self._keys = {call["key"] for call in self.calls()}
        self._server = _Server(("127.0.0.1", port), partial(_Request, self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def calls(self) -> list[dict[str, Any]]:
        """The requests, in order: path, key, person, incident, text, and whether it was a repetition."""
        return [json.loads(line) for line in self.witness.read_text().splitlines()] if self.witness.exists() else []

    def take(self, path: str, key: str, body: dict[str, Any]) -> None:
        """Write it down, durably."""
        with self._lock:
            line = json.dumps({"path": path, "key": key, "repeated": key in self._keys, **body}) + "\n"
            self._keys.add(key)
            with self.witness.open("a") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Request(BaseHTTPRequestHandler):
    """One request to one pager. Built by the server for every request, with the pager in front."""

    def __init__(self, pager: PagerServer, *args: Any) -> None:
        self._pager = pager
        super().__init__(*args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._pager.status == 503:
            self._answer(503)
        elif self.path not in ("/page", "/phone") or "Idempotency-Key" not in self.headers:
            self._answer(400)
        else:
            self._pager.take(self.path, self.headers["Idempotency-Key"], body)
            self._answer(self._pager.status)

    def log_message(self, format: str, *args: object) -> None:
        """The witness file is the log."""

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()
