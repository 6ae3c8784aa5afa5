"""Loads the models of ``delvm page`` and serves the page."""

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from delvm_mm.apis import DeLVMInferencer
from delvm_mm.apis.model_folder import is_model_folder
from delvm_mm.commands.parsers.page import make_parser
from delvm_mm.engine.launch import user_errors
from delvm_mm.pretrained import shipped_names

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def load_models(args: argparse.Namespace) -> dict[str, DeLVMInferencer]:
    """Load every model that was named.

    Returns:
        Name -> model; names are those of files or folders, with a prime where one stands for two.

    Raises:
        ValueError: There are not as many weights as models.
    """
    # Weights alone bring their own config: a checkpoint, or an exported folder.
    models: list[str | None] = args.model or ([None] * len(args.weights) if args.weights else shipped_models())
    weights = args.weights or [None] * len(models)
    if len(weights) != len(models):
        raise ValueError(f"{len(models)} models and {len(weights)} weights were given; give one of each")
    loaded: dict[str, DeLVMInferencer] = {}
    for model, path in zip(models, weights, strict=True):
        name = Path(model or path).stem
        while name in loaded:
            name += "'"
        loaded[name] = DeLVMInferencer(model, path, args.device, tokenizer=args.tokenizer, show_progress=False)
    return loaded


def shipped_models() -> list[str]:
    """Names of all model folders that the package carries, 'mini' first."""
    names = [name.removeprefix("delvm_mm://") for name in shipped_names() if is_model_folder(name)]
    return sorted(names, key=lambda name: (name != "mini", name))


def serve(args: argparse.Namespace, folder: Path) -> None:
    """Build the page and serve it until the process is asked to end."""
    # Read when Gradio is imported: where uploads go, and that nothing is reported to anybody.
    uploads, work = folder / "uploads", folder / "work"
    uploads.mkdir()
    work.mkdir()
    os.environ |= dict(
        GRADIO_TEMP_DIR=str(uploads), GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="1"
    )
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from delvm_mm.webui.guard import Guard
    from delvm_mm.webui.page import Page
    from delvm_mm.webui.uploads import UploadLimits

    limits = UploadLimits(uploads, args.max_upload_mb * 2**20, int(args.max_megapixels * 1e6))
    page = Page(load_models(args), limits, work, args.max_waiting)
    middleware = [Middleware(Guard, folder=uploads, max_bytes=limits.max_bytes)]
    if args.host in LOOPBACK:
        # Other names that resolve to this machine are a way for foreign pages to talk to it.
        middleware.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"]))
    else:
        print(f"warning: anybody who can reach {args.host} can use the page; it has no passwords", file=sys.stderr)
    settings: dict[str, Any] = dict(docs_url=None, redoc_url=None, openapi_url=None, middleware=middleware)
    _, url, _ = page.blocks.launch(
        server_name=args.host,
        server_port=args.port or free_port(args.host),
        inbrowser=args.open,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=limits.max_bytes,
        show_api=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        state_session_capacity=1000,
        app_kwargs=settings,
    )
    print(f"the page is at {url} (Ctrl+C ends it)", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("ended")
    finally:
        page.blocks.close(verbose=False)


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@user_errors
def main(arguments: list[str] | None = None) -> None:
    args = make_parser().parse_args(arguments)
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("the page needs Gradio: pip install 'delvm_mm[webui]', or pip install 'gradio>=5.50,<6'")
    for name in ("max_upload_mb", "max_megapixels", "max_waiting"):
        if getattr(args, name) <= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(args, name)}, expected more than 0")
    with tempfile.TemporaryDirectory(prefix="delvm_mm-webui-", ignore_cleanup_errors=True) as folder:
        serve(args, Path(folder).resolve())


if __name__ == "__main__":
    main()
