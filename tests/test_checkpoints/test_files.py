"""Whatever stops the process or the machine, a file is its old self or complete."""

import multiprocessing
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from delvm_mm.apis.answers import Answer, AnswerWriter
from delvm_mm.apis.images import ModelImage
from delvm_mm.checkpoints.files import put_in_place, temporary_beside, write_atomically
from delvm_mm.models import VQGAN
from delvm_mm.models.tokenizers.conversion import save_as_diffusers, save_as_taming
from delvm_mm.stores import TokenStoreWriter
from delvm_mm.stores.released_tokens import import_released_tokens, write_released_tokens
from delvm_mm.visualization import write_image

ROOT = Path(__file__).parents[2]


def test_a_kill_between_writing_and_renaming_leaves_the_old(tmp_path):
    write_atomically(tmp_path / "note", b"before")

    def killed(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def child():
        os.replace = killed
        write_atomically(tmp_path / "note", b"after")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "note").read_bytes() == b"before"
    write_atomically(tmp_path / "note", b"after")
    assert (tmp_path / "note").read_bytes() == b"after"


def test_a_file_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    write_atomically(tmp_path / "note", b"before")

    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "note", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("note", b"before")]


def test_content_may_be_a_function_and_its_error_leaves_the_old(tmp_path):
    write_atomically(tmp_path / "note", lambda file: file.write(b"before"))

    def fail(file):
        file.write(b"half")
        raise KeyError("of the function")

    with pytest.raises(KeyError, match="of the function"):
        write_atomically(tmp_path / "note", fail)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("note", b"before")]


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path):
    write_atomically(tmp_path / ("n" * 255), b"content")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"content"


def test_a_folder_replaces_a_folder(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of_{name}").write_text(name)
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "of_new"]


def test_what_a_killed_run_left_goes_at_the_beginning_and_what_is_left_at_the_end(tmp_path):
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "half").write_text("half")
    with temporary_beside(tmp_path / "folder") as temporary:
        assert not temporary.exists()
        temporary.mkdir()
    assert not list(tmp_path.iterdir())


def write_answer(folder):
    pixels = np.zeros((4, 4, 3), np.uint8)
    source = ModelImage(pixels, "query", None, (4, 4), (1.0, 1.0), (0, 0))
    AnswerWriter(folder).write(Answer(source, pixels, np.zeros(4, int), 0.1), pixels)


def save_tokenizer(save):
    def run(folder):
        small = dict(hidden_channels=32, channel_mult=(1, 1), num_res_blocks=1, z_channels=4)
        save(VQGAN(resolution=8, num_embeddings=4, quantized_embed_dim=4, **small), folder / "tokenizer.ckpt")

    return run


def write_store(folder):
    settings = dict(clip_shape=(1, 4), grid=(2, 2), num_embeddings=8, tokenizer_fingerprint="t", task="seg")
    writer = TokenStoreWriter(folder / "store", **settings)
    writer.add(np.zeros((3, 1, 4), int))
    writer.finish()


def import_store(folder):
    (folder / "train.bin").write_text('{"tokens": [0, 1, 2, 3]}\n' * 3 + '{"tokens": [0, 1, 2, 3, 0, 1, 2, 3]}\n')
    import_released_tokens(
        folder / "train.bin", folder / "store", grid=(2, 2), num_embeddings=8, tokenizer_fingerprint="t", task="seg"
    )
    (folder / "train.bin").unlink()


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_image(folder / "image.png", np.zeros((4, 4, 3), np.uint8)),
        lambda folder: write_released_tokens(folder / "train.bin", [np.arange(4)]),
        write_answer,
        save_tokenizer(VQGAN.save_pretrained),
        save_tokenizer(save_as_diffusers),
        save_tokenizer(save_as_taming),
        write_store,
        import_store,
    ],
    ids=["image", "released", "answer", "openmuse", "diffusers", "taming", "store", "import"],
)
def test_every_writer_has_its_content_on_the_disk_before_it_has_its_name(write, tmp_path, monkeypatch):
    synced, placed = {}, []
    sync, replace = os.fsync, os.replace

    def watched_sync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)
        synced[path] = os.fstat(descriptor).st_size
        placed[:] = [name for name in placed if name.parent != path]  # the name is on the disk, too

    def watched_replace(source, target):
        source = Path(source)
        for file in [source, *source.rglob("*")]:
            assert synced.get(file) == file.stat().st_size, f"{file} was renamed before it was synced"
        replace(source, target)
        placed.append(Path(target))
        synced.update(
            {
                Path(target) / path.relative_to(source): size
                for path, size in synced.items()
                if path == source or source in path.parents
            }
        )

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write(tmp_path)
    assert not placed
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and all(synced.get(path) == path.stat().st_size for path in written)


def test_no_other_place_renames_what_it_wrote():
    rename = re.compile(r"os\.(replace|rename)\(|\.rename\(|NamedTemporaryFile|mkstemp|os\.fsync")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("delvm_mm", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if rename.search(path.read_text())
    ]
    assert found == ["delvm_mm/checkpoints/files.py"]
