"""The client of a pager: any HTTP service that takes `POST /page` and `POST /phone`."""

import json
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

from aos import NotDone


class Pager:
    """Its methods are plain blocking functions: `ctx.effect` runs them in a thread.

    The address of the service is here and not among their arguments, which must be the same when an effect is looked
    up again after a restart.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not the URL of a pager")
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")

    def page(self, person: str, incident: str, text: str, *, idempotency_key: str) -> None:
        self._post("/page", person, incident, text, idempotency_key)

    def phone(self, person: str, incident: str, text: str, *, idempotency_key: str) -> None:
        self._post("/phone", person, incident, text, idempotency_key)

    def _post(self, path: str, person: str, incident: str, text: str, key: str) -> None:
        """Returns when it is done. `NotDone` when it certainly is not; any other error: nobody knows."""
        body = json.dumps({"person": person, "incident": incident, "text": text})
        connection = self._connection(self._host, self._port, timeout=10)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise NotDone(f"the pager can't be reached: {error}") from error
            headers = {"Content-Type": "application/json", "Idempotency-Key": key}
            connection.request("POST", self._path + path, body, headers)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        if 400 <= answer.status < 500 or answer.status == 503:
            raise NotDone(f"the pager refused: {answer.status} {answer.reason}")
        if answer.status >= 300:
            raise OSError(f"the pager answered {answer.status} {answer.reason}")
