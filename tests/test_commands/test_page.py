"""``delvm page`` in a real browser: examples, own images, keyboard, a narrow screen, and abuse."""

import contextlib
import http.client
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
if missing or not CHROMIUM:
    pytest.skip(f"needs {', '.join(missing) or 'Chromium'}", allow_module_level=True)

from playwright.sync_api import TimeoutError, sync_playwright  # noqa: E402

from helpers import ROOT  # noqa: E402

HAS_STATUS = "text => (document.querySelector('#status')?.innerText ?? '').includes(text)"
PATIENCE = 120  # seconds: beside other work a browser may take long for what it does at once on an idle machine
MAX_MB = 2
QUEUE = 4


class Server:
    """The tool as a process of its own, its address, and requests past the browser."""

    def __init__(self, process, url, folder):
        self.process, self.url, self.folder = process, url, folder

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content.decode(errors="replace"), dict(answer.getheaders())

    def upload(self, name, content):
        body = (
            f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n"
        ).encode() + content + b"\r\n--x--\r\n"  # fmt: skip
        return self.request("POST", "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})

    def memory(self):
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def alive(self):
        return self.process.poll() is None and self.request("GET", "/")[0] == 200


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory):
    place = tmp_path_factory.mktemp("tmp")
    config = Config.fromfile(tiny_model.config)
    config.model.backbone.arch.num_layers = 24  # slow enough for rows to be seen one after another
    config.dump(str(place / "deep.py"))
    command = [sys.executable, ROOT / "tools/webui.py", "--model", place / "deep.py", "--device", "cpu", "--port", "0"]
    command += ["--max-upload-mb", str(MAX_MB), "--max-waiting", str(QUEUE)]
    log = place / "log.txt"
    # Compiled code would have written the answer before anybody can stop it.
    slow = dict(DELVM_MM_NATIVE="0", OMP_NUM_THREADS="1")
    environment = os.environ | dict(TMPDIR=str(place), PYTHONPATH=str(ROOT)) | slow
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=place)
    try:
        for _ in range(10 * PATIENCE):
            if found := re.search(r"the page is at (\S+)", log.read_text()):
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        (folder,) = place.glob("delvm_mm-webui-*")
        yield Server(process, found[1], folder)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tab(server, browser):
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(server.url)
    page.wait_for_selector("#run")
    return page


@pytest.fixture
def page(tab):
    """The page, empty."""
    tab.set_viewport_size(dict(width=1280, height=800))
    tab.click("#clear")
    status(tab, "Add pairs")
    tab.evaluate("document.activeElement.blur()")
    return tab


def status(page, text, seconds=PATIENCE):
    """Wait until the status line holds a text, and return the line."""
    with contextlib.suppress(TimeoutError):
        page.wait_for_function(HAS_STATUS, arg=text, timeout=1000 * seconds)
    line = page.inner_text("#status")
    assert text in line
    return line


def png(size=40, seed=0):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def huge_header():
    """A PNG whose header says 20000 x 20000 pixels, without them."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def give(page, slot, content, name="image.png"):
    page.set_input_files(f"#{slot} input[type=file]", dict(name=name, mimeType="image/png", buffer=content))


def test_an_example_is_answered_row_by_row_and_nothing_is_asked_of_other_servers(server, page):
    asked, blocked = [], []
    page.on("request", lambda request: asked.append(request))
    page.on("requestfailed", lambda request: blocked.append(request) if request.failure == "csp" else None)
    page.reload()
    page.wait_for_selector("#run")
    page.click("#example-seg")
    status(page, "Example")
    page.evaluate(
        """() => {
            window.lines = [];
            const look = () => window.lines.push((document.querySelector('#status')?.innerText ?? '').trim());
            new MutationObserver(look).observe(document.body, {childList: true, subtree: true, characterData: true});
        }"""
    )
    page.click("#run")
    assert "row 8 of 8, 64 tokens" in status(page, "Done")
    rows = [int(line.split()[2]) for line in page.evaluate("window.lines") if line.startswith("Writing: row")]
    assert len(set(rows)) >= 2 and rows == sorted(rows)
    page.wait_for_selector("#answer img")
    page.wait_for_selector("#overlay img")
    # The toolkit names a script of another server, which the page's own rule keeps the browser from asking.
    sent = [urlsplit(request.url) for request in asked if request not in blocked]
    assert {address.netloc for address in sent if address.scheme.startswith("http")} == {urlsplit(server.url).netloc}
    assert str(server.folder) not in page.inner_text("body")


def test_the_keyboard_is_enough(page):
    def press_on(element, key="Enter"):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == element:
                return page.keyboard.press(key)
        raise AssertionError(f"the Tab key does not reach {element}")

    press_on("example-pose")
    status(page, "Example")
    press_on("run")
    status(page, "Done")


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(page):
    page.set_viewport_size(dict(width=360, height=740))
    page.click("#example-derain")
    status(page, "Example")
    page.click("#run")
    status(page, "Done")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for element in ("#query", "#run", "#stop", "#answer", "#download"):
        box = page.locator(element).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360


def test_what_the_prompt_does_is_shown_beside_the_answer(page):
    page.check("#compare input")
    page.click("#example-seg")
    status(page, "Example")
    page.click("#run")
    assert "of 255 apart" in status(page, "With and without the prompt")
    page.wait_for_selector("#without img")
    page.uncheck("#compare input")
    page.wait_for_selector("#without", state="hidden")


def test_own_images_are_answered_and_the_answer_downloaded(page):
    for seed, slot in enumerate(("image-1", "label-1", "query")):
        give(page, slot, png(seed=seed), "<b>né&.png")
        status(page, "Read an image of 40 x 40 pixels")
        page.wait_for_selector(f"#{slot} img")
    page.click("#run")
    status(page, "Done")
    with page.expect_download() as download:
        page.click("#download")
    archive = zipfile.ZipFile(download.value.path())
    assert {name.split("/")[0] for name in archive.namelist()} >= {"images", "predictions", "vis"}


def test_an_answer_can_be_stopped(page):
    page.click("#example-seg")
    status(page, "Example")
    page.click("#run")
    status(page, "Writing")
    page.click("#stop")
    status(page, "Stopped")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is text", "notes.png is not an image"),
        (huge_header(), "notes.png is refused as too large to decode"),
        (png()[:500], "notes.png is damaged or truncated"),
    ],
    ids=["text", "header", "truncated"],
)
def test_a_bad_file_gives_a_readable_message_and_leaves_the_page(server, page, content, message):
    give(page, "query", content, "notes.png")
    line = status(page, message)
    assert line.startswith("This image: ") and str(server.folder) not in line and "/tmp" not in line
    page.wait_for_selector("#query img", state="detached")
    assert server.alive()


def test_a_file_that_is_too_large_is_refused_by_page_and_server(server, page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(50 * 2**20))
    page.set_input_files("#query input[type=file]", tmp_path / "large.png")
    page.wait_for_function("document.body.innerText.includes('maximum allowed size')")
    before = server.memory()
    answer, text, _ = server.upload("large.png", bytes(50 * 2**20))
    assert answer == 413 and text == f"The file is larger than {MAX_MB} MB; choose a smaller one."
    assert server.memory() < before + 30 and server.alive()


def test_without_images_the_page_says_what_is_missing(page):
    page.click("#run")
    status(page, "There is no pair to learn from")
    give(page, "image-1", png())
    status(page, "Read an image")
    page.click("#run")
    status(page, "The label of pair 1 is missing")


@pytest.mark.parametrize(
    "name", ["../../../../escape.png", "/etc/escape.png", "..\\\\escape.png", "a%2f..%2fescape.png"]
)
def test_names_with_paths_stay_in_the_folder(server, name):
    answer, text, _ = server.upload(name, png())
    assert answer == 200
    (path,) = json.loads(text)
    assert Path(path).resolve().is_relative_to(server.folder.resolve())


def test_files_of_the_server_are_neither_sent_nor_read(server):
    uploaded = json.loads(server.upload("image.png", png())[1])[0]
    assert server.request("GET", "/gradio_api/file=" + quote(uploaded))[0] == 200
    for path in ("/etc/passwd", f"{server.folder}/../../../../../etc/passwd", str(ROOT / "setup.py")):
        assert server.request("GET", "/gradio_api/file=" + quote(path))[0] in (403, 404)
    for path in ("/etc/passwd", "http://127.0.0.1:1/image.png", "setup.py", 3, f"{server.folder}/../x.png"):
        body = json.dumps(dict(data=[dict(path=path)], fn_index=0, session_hash="a"))
        answer, text, _ = server.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"})
        assert answer == 400 and text.startswith("Only images that were uploaded")


def test_other_host_names_and_frames_are_refused(server):
    assert server.request("GET", "/", headers={"Host": "evil.example"})[0] == 400
    _, _, headers = server.request("GET", "/")
    headers = {key.lower(): value for key, value in headers.items()}
    assert "default-src 'self'" in headers["content-security-policy"] and headers["x-frame-options"] == "DENY"


def test_50_requests_at_once_are_queued_or_refused_and_memory_comes_back(server, page):
    joins = []
    page.on("request", lambda request: joins.append(request) if "queue/join" in request.url else None)
    page.click("#example-seg")
    status(page, "Example")
    page.click("#run")
    status(page, "Done")
    request = json.loads(joins[-1].post_data)
    before = server.memory()

    def join(number):
        body = json.dumps(request | dict(session_hash=f"flood{number}"))
        return server.request("POST", "/gradio_api/queue/join", body, {"Content-Type": "application/json"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(join, range(50)))
    refused = [text for code, text, _ in answers if code == 503]
    assert {code for code, _, _ in answers} == {200, 503}
    assert all("Queue is full" in text for text in refused) and len(refused) >= 50 - 3 * QUEUE
    for _ in range(40):  # until there is room again
        page.reload()
        page.wait_for_selector("#run")
        page.click("#example-seg")
        with contextlib.suppress(TimeoutError):
            page.wait_for_function(HAS_STATUS, arg="Example", timeout=500)
            break
    page.click("#run")
    status(page, "Done")  # after those that wait
    assert server.memory() < before + 60


def test_its_folder_is_removed_when_it_ends(server):
    assert any(server.folder.rglob("*"))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=PATIENCE) == 0
    assert not server.folder.exists()
