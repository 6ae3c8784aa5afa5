import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mmengine.dataset import BaseDataset

import helpers.layouts_sa1b as layouts
from delvm_mm.datasets.readers.io import archive_index
from delvm_mm.datasets.readers.sa1b import SA1BDataset


@pytest.fixture
def scanned(monkeypatch):
    """Names of the archives that were read from end to end."""
    names, plain = [], archive_index.index_tar
    monkeypatch.setattr(archive_index, "index_tar", lambda path: names.append(path.name) or plain(path))
    return names


def write_archives(folder, count=3, images=2):
    for number in range(count):
        first = number * images
        files = {f"sa_{first + k}.{kind}": kind.encode() * (k + 1) for k in range(images) for kind in ("jpg", "json")}
        layouts.write_tar(folder / f"sa_{number:06}.tar", files)
    return folder


def entries_of(dataset):
    return [dataset.data_list[position] for position in range(len(dataset.data_list))]


def test_archives_are_read_once_and_again_when_they_have_changed(tmp_path, scanned):
    first = SA1BDataset(write_archives(tmp_path))
    assert scanned == ["sa_000000.tar", "sa_000001.tar", "sa_000002.tar"]
    scanned.clear()
    assert entries_of(SA1BDataset(tmp_path)) == entries_of(first) and scanned == []
    layouts.write_tar(tmp_path / "sa_000001.tar", {"sa_7.jpg": b"1", "sa_7.json": b"2"})
    changed = SA1BDataset(tmp_path)
    assert scanned == ["sa_000001.tar"]
    assert [entry["img_path"][-8:] for entry in entries_of(changed)][2:3] == ["sa_7.jpg"]


def test_an_index_that_is_cut_or_of_another_version_is_made_anew(tmp_path, scanned):
    expected = entries_of(SA1BDataset(write_archives(tmp_path)))
    folder = tmp_path / archive_index.FOLDER
    first, second = (folder / f"sa_00000{n}.tar.index" for n in (0, 1))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(second.read_bytes().replace(b'"version": 1', b'"version": 0'))
    scanned.clear()
    assert entries_of(SA1BDataset(tmp_path)) == expected
    assert scanned == ["sa_000000.tar", "sa_000001.tar"]


def test_damage_is_told_at_every_start(tmp_path, scanned):
    path = layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2, 3])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in range(2):
        with pytest.warns(UserWarning, match="is .*: only what lies before is used"):
            SA1BDataset(tmp_path)
    assert len(scanned) == 1


def test_the_folder_may_be_another_one_or_none(tmp_path, scanned, monkeypatch):
    data = write_archives(tmp_path / "data")
    expected = entries_of(SA1BDataset(data, index_dir=tmp_path / "kept"))
    assert len(list((tmp_path / "kept").glob("*.index"))) == 3 and not (data / archive_index.FOLDER).exists()
    (tmp_path / "file").touch()  # no folder can be made here
    for _ in range(2):
        assert entries_of(SA1BDataset(data, index_dir=tmp_path / "file")) == expected
    assert len(scanned) == 9
    # What lies beside the data cannot be written: the user's cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (data / archive_index.FOLDER).touch()
    assert entries_of(SA1BDataset(data)) == expected and len(scanned) == 12
    assert entries_of(SA1BDataset(data)) == expected and len(scanned) == 12


def test_of_several_processes_one_reads_the_archives(tmp_path, scanned):
    write_archives(tmp_path, count=6)
    with ThreadPoolExecutor(4) as pool:  # each opens the lock for itself, as processes do
        lengths = list(pool.map(lambda _: len(SA1BDataset(tmp_path)), range(4)))
    assert lengths == [12] * 4 and sorted(scanned) == [f"sa_{n:06}.tar" for n in range(6)]


def test_an_image_takes_few_bytes(tmp_path):
    sizes = {}
    for images in (200, 400):
        data = write_archives(tmp_path / str(images), count=1, images=images)
        entries = SA1BDataset(data).data_list
        (file,) = (data / archive_index.FOLDER).glob("*.index")
        sizes[images] = file.stat().st_size + entries._chosen.nbytes
        assert isinstance(entries._indices[0].rows, np.memmap)
        assert len(pickle.dumps(entries)) < 4 * images + 2000
    assert (sizes[400] - sizes[200]) / 200 <= 60


def test_shares_indices_and_parts_are_those_of_the_unpacked_images(tmp_path):
    write_archives(tmp_path / "tar", images=7)
    for archive in sorted((tmp_path / "tar").glob("*.tar")):
        shutil.unpack_archive(archive, tmp_path / "folders" / archive.stem)
    for options in (
        dict(fraction=0.5, seed=2),
        dict(fraction=0.3, offset=0.4),
        dict(indices=5),
        dict(indices=[8, 3, 3, -1]),
        dict(val_every=3, part="val"),
        dict(val_every=3, part="train", indices=4),
    ):
        packed, unpacked = (SA1BDataset(tmp_path / form, **options) for form in ("tar", "folders"))
        packed_names, unpacked_names = (
            [BaseDataset.get_data_info(data, k)["img_path"].rpartition("/")[2] for k in range(len(data))]
            for data in (packed, unpacked)
        )
        assert packed_names == unpacked_names and packed_names
