"""A gate before the page: limits uploads, takes no paths from outside, lets the browser ask no other server."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Guard"]

MAX_BODY = 2**20  # bytes of a request that is no upload
MAX_DISCARDED = 2**28  # bytes of an upload that is refused
MULTIPART = 64 * 2**10  # bytes around the file in an upload
HEADERS = {
    # Everything the page needs is served by itself; the toolkit sets styles and scripts inline.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; "
        "object-src 'none'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


class Guard:
    """ASGI middleware.

    * An upload that says it is larger than ``max_bytes``, or that finds ``max_folder_bytes`` in the folder, is refused
      and kept nowhere.
    * In every other request, a file may only be named that lies in the folder: no path of the server, no address that
      the server would have to download.
    * Answers carry headers that keep the browser from loading anything from elsewhere and from showing the page in
      another one.

    Args:
        app: The application behind.
        folder: Where uploads lie.
        max_bytes: Of one upload.
        max_folder_bytes: Of all that lie there.
    """

    def __init__(self, app: Any, folder: Path, max_bytes: int, max_folder_bytes: int = 2**29) -> None:
        self.app = app
        self.folder = folder.resolve()
        self.max_bytes = max_bytes
        self.max_folder_bytes = max_folder_bytes

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Check one request and pass it on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                named = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *named]}
            await send(message)

        if scope["method"] == "POST":
            upload = scope["path"].rstrip("/").endswith("/upload")
            if (refused := self._refuse_size(scope, upload)) is not None:
                # Read to the end, within reason: a client that is still sending does not see an answer.
                await _discard(receive, MAX_DISCARDED)
                return await _respond(send_with_headers, *refused)
            if not upload:
                body = await _read_body(receive)
                if body is None:
                    return await _respond(send_with_headers, 413, "The request is too large.")
                if not self._names_own_files(body):
                    text = "Only images that were uploaded to this page can be used; add the image again."
                    return await _respond(send_with_headers, 400, text)
                receive = _replay(body, receive)
        return await self.app(scope, receive, send_with_headers)

    def _refuse_size(self, scope: dict, upload: bool) -> tuple[int, str] | None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        length = int(length) if length.isdigit() else 0
        if not upload:
            return (413, "The request is too large.") if length > MAX_BODY else None
        if length > self.max_bytes + MULTIPART:
            return 413, f"The file is larger than {self.max_bytes // 2**20} MB; choose a smaller one."
        if _folder_bytes(self.folder) > self.max_folder_bytes:
            return 503, "The server has no room for more images now; try again later."
        return None

    def _names_own_files(self, body: bytes) -> bool:
        try:
            content = json.loads(body or b"null")
        except (ValueError, RecursionError):
            return True  # the application itself will say so
        return all(self._is_own(path) for path in _paths_in(content))

    def _is_own(self, path: Any) -> bool:
        if not isinstance(path, str) or "\0" in path:
            return False
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)


def _paths_in(content: Any) -> Iterator[Any]:
    """Everything under the key 'path' in a JSON value."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _folder_bytes(folder: Path) -> int:
    total = 0
    for here, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except OSError:  # removed meanwhile
                continue
    return total


async def _read_body(receive: Any) -> bytes | None:
    """The whole body, None if it is too large or the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


async def _discard(receive: Any, limit: int) -> None:
    while limit > 0:
        message = await receive()
        limit -= len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _replay(body: bytes, receive: Any) -> Any:
    sent = False

    async def again() -> dict:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _respond(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
