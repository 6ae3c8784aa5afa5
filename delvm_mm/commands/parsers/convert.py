"""Convert a model to a Hugging Face folder (the default), a GGUF file, or a model folder; it finds out what SRC is.

    delvm convert work_dirs/run/iter_1000.pth exported --config configs/run.py
    delvm convert published/mini-1a2b3c4d mini.gguf --to gguf --dtype q8_0
    delvm convert internlm_ckpt/1000 models/delvm --to folder --tokenizer weights/vqgan-f16-8192-laion

SRC is an MMEngine checkpoint (with --config), a folder of shards (with --config), a model folder, a Hugging Face
export, or a folder with the parts of an InternLM checkpoint. What it cannot read it refuses, and writes nothing.
"""

import argparse

from mmengine.config import DictAction

DTYPES = ("f32", "f16", "bf16", "q8_0")
"""Of GGUF files; the other formats have all but the last."""
TARGETS = ("huggingface", "gguf", "folder")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SRC", help="checkpoint or folder to read")
    parser.add_argument("out", metavar="DST", help="folder, or with --to gguf file, to write")
    parser.add_argument("--to", choices=TARGETS, default="huggingface")
    parser.add_argument("--config", help="of an MMEngine checkpoint or its shards")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer's folder; a model folder has its own")
    parser.add_argument("--dtype", choices=DTYPES, help="of the written weights; by default as they are (GGUF: f32)")
    parser.add_argument("--max-positions", type=int, default=2048, help="context of an InternLM checkpoint (2048)")
    parser.add_argument("--license", default="other", help="of a model folder: identifier, such as apache-2.0")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="settings that override the config's")
    return parser
