"""The gate in front of the page, by itself."""

import asyncio
import json

import pytest

from delvm_mm.webui.guard import Guard


def ask(guard, path, body=b"", headers=(), chunk=2**16):
    """Status, text and headers of a POST request."""
    parts = [body[start : start + chunk] for start in range(0, max(len(body), 1), chunk)]
    messages = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1} for place, part in enumerate(parts)
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode(), dict(sent[0]["headers"])


async def echo(scope, receive, send):
    """An application that answers with the body that it was sent."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def guard(tmp_path):
    return Guard(echo, tmp_path, max_bytes=2**20, max_folder_bytes=2**20)


def test_requests_pass_unchanged_and_answers_get_headers(guard, tmp_path):
    body = json.dumps(dict(data=[dict(path=str(tmp_path / "a" / "b.png")), dict(path=None), 3, "text"])).encode()
    status, text, headers = ask(guard, "/gradio_api/queue/join", body, chunk=7)
    assert status == 200 and text == body.decode()
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "relative.png", "https://example.org/a.png", "{folder}/../a.png", "a\0b", 3, ["a"], {"b": 1}],
)
def test_other_files_may_not_be_named_however_deep(guard, tmp_path, path):
    path = path.format(folder=tmp_path) if isinstance(path, str) else path
    body = json.dumps(dict(data=[[{"value": {"path": path}}]])).encode()
    status, text, _ = ask(guard, "/gradio_api/queue/join", body)
    assert status == 400 and text.startswith("Only images")


def test_large_requests_are_refused_with_and_without_a_length(guard):
    assert ask(guard, "/gradio_api/queue/join", b"x" * (2**20 + 1))[0] == 413
    assert ask(guard, "/gradio_api/queue/join", headers=[(b"content-length", b"9999999")])[0] == 413
    status, text, _ = ask(guard, "/gradio_api/upload", b"x" * 2**21, [(b"content-length", str(2**21).encode())])
    assert status == 413 and text == "The file is larger than 1 MB; choose a smaller one."


def test_uploads_wait_while_the_folder_is_full(guard, tmp_path):
    assert ask(guard, "/gradio_api/upload", b"image")[:2] == (200, "image")
    (tmp_path / "full.bin").write_bytes(bytes(2**20 + 1))
    assert ask(guard, "/gradio_api/upload", b"image")[0] == 503
