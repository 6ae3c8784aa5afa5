"""A web page to prompt a model: drop pairs and a query, or start from an example, and watch the answer being written.

It listens on this machine only, and keeps what is uploaded in a temporary folder of its own until it ends.
"""

import argparse


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        nargs="+",
        help="model folders, configs, 'mini', 'quickstart', 'from_scratch'; by default all shipped models",
    )
    parser.add_argument("--weights", nargs="+", help="of each model; a checkpoint, or a Hugging Face export's folder")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer's folder, in place of the configs'")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU if there is one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this machine's need it")
    parser.add_argument("--port", type=int, default=7860, help="port (7860); 0 takes a free one")
    parser.add_argument("--max-upload-mb", type=int, default=20, help="of one image file (20)")
    parser.add_argument("--max-megapixels", type=float, default=25, help="of one image (25)")
    parser.add_argument("--max-waiting", type=int, default=16, help="requests that may wait (16)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser
