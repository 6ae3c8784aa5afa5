"""Paired folders, deraining sets in folders and LMDB, and GoPro: every pair read, every broken one named."""

import os
import pickle
import shutil
import sys

import numpy as np
import pytest
from torch.utils.data import DataLoader

from delvm_mm.datasets import read_image
from delvm_mm.datasets.readers.io import lmdb as lmdb_images
from delvm_mm.datasets.readers.restoration import RAIN_TEST_SETS, GoProDataset, PairedFolderDataset, RainDataset
from helpers.layouts_names import COMPOSED, DECOMPOSED
from helpers.layouts_restoration import (
    save,
    scene,
    write_gopro,
    write_lmdb,
    write_pairs,
    write_rain13k,
    write_rain_lmdb,
)

LOAD = [{"type": "LoadImage", "key": "img"}, {"type": "LoadImage", "key": "gt_img"}]
PACK = [*LOAD, {"type": "PackClip", "keys": ("img", "gt_img")}]


def broken_samples(dataset) -> dict[int, str]:
    """What a run that skips broken samples sees: position and message of each."""
    errors = {}
    for number in range(len(dataset)):
        try:
            dataset[number]
        except (ValueError, OSError) as error:
            errors[number] = str(error)
    return errors


# Two folders


def test_images_are_paired_by_stem_whatever_the_suffix(tmp_path):
    inputs = write_pairs(tmp_path, 3, suffix=".jpg", target_suffix=".png")
    (tmp_path / "input" / "notes.txt").write_text("no image")
    dataset = PairedFolderDataset(tmp_path, pipeline=LOAD)
    assert len(dataset) == 3 and dataset.task == "restoration"
    for number, path in enumerate(inputs):
        sample = dataset[number]
        assert sample["img_path"] == str(path)
        assert sample["gt_img_path"] == str(tmp_path / "target" / f"{path.stem}.png")
        assert np.array_equal(sample["gt_img"], scene("derain", number + 1, 48, 64)["gt_img"])
        assert sample["img"].shape == (48, 64, 3) and sample["task"] == "restoration"


def test_accents_of_a_pair_may_have_two_forms(tmp_path):
    (image,) = write_pairs(tmp_path, 1)
    image.rename(image.with_stem(COMPOSED))
    target = tmp_path / "target" / image.name
    target.rename(target.with_stem(DECOMPOSED))
    (sample,) = PairedFolderDataset(tmp_path, pipeline=LOAD)
    assert sample["img"].shape == sample["gt_img"].shape


def test_folders_and_task_are_arguments(tmp_path):
    write_pairs(tmp_path / "set", 2)
    (tmp_path / "set" / "input").rename(tmp_path / "hazy")
    dataset = PairedFolderDataset(tmp_path, input_dir="hazy", target_dir="set/target", task="dehaze")
    assert dataset[1]["task"] == "dehaze" and dataset[1]["gt_img_path"] == str(tmp_path / "set/target/2.jpg")


def test_a_missing_half_is_an_error_of_its_sample_that_names_both(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "target" / "2.jpg").unlink()
    (tmp_path / "input" / "3.jpg").unlink()
    dataset = PairedFolderDataset(tmp_path, pipeline=LOAD)
    assert len(dataset) == 4  # inputs 1, 2, 4 and then target 3
    errors = broken_samples(dataset)
    assert errors.keys() == {1, 3}
    assert str(tmp_path / "input" / "2.jpg") in errors[1] and str(tmp_path / "target" / "2.*") in errors[1]
    assert str(tmp_path / "target" / "3.jpg") in errors[3] and str(tmp_path / "input" / "3.*") in errors[3]


def test_of_two_targets_of_one_stem_the_same_suffix_is_taken_and_the_other_reported(tmp_path):
    write_pairs(tmp_path, 1, suffix=".jpg")
    shutil.copy(tmp_path / "target" / "1.jpg", tmp_path / "target" / "1.png")
    dataset = PairedFolderDataset(tmp_path, pipeline=LOAD)
    assert dataset[0]["gt_img_path"].endswith("1.jpg")
    with pytest.raises(ValueError, match=r"target/1\.png has no input"):
        dataset[1]
    (tmp_path / "target" / "1.jpg").rename(tmp_path / "target" / "1.bmp")
    dataset = PairedFolderDataset(tmp_path)
    assert len(dataset) == 1
    with pytest.raises(ValueError, match=r"several targets, .*1\.bmp, .*1\.png"):
        dataset[0]


def test_broken_files_are_named_and_the_rest_is_read(tmp_path):
    write_pairs(tmp_path, 4)
    (tmp_path / "input" / "1.jpg").write_bytes(b"")
    whole = (tmp_path / "target" / "2.jpg").read_bytes()
    (tmp_path / "target" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "input" / "3.jpg").write_bytes(b"<html>not found</html>")
    errors = broken_samples(PairedFolderDataset(tmp_path, pipeline=LOAD))
    assert errors.keys() == {0, 1, 2}
    assert "input/1.jpg has 0 bytes" in errors[0]
    assert "target/2.jpg is damaged or truncated" in errors[1]
    assert "input/3.jpg is not an image" in errors[2]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_an_error_of_its_sample(tmp_path):
    inputs = write_pairs(tmp_path, 2)
    inputs[0].chmod(0)
    errors = broken_samples(PairedFolderDataset(tmp_path, pipeline=LOAD))
    assert errors.keys() == {0} and "input/1.jpg" in errors[0] and "ermission" in errors[0]


def test_missing_and_empty_folders_are_refused_when_built(tmp_path):
    write_pairs(tmp_path, 1)
    with pytest.raises(FileNotFoundError, match=r"no folder at .*rainy"):
        PairedFolderDataset(tmp_path, input_dir="rainy")
    (tmp_path / "target" / "1.jpg").unlink()
    with pytest.raises(ValueError, match="target holds no image"):
        PairedFolderDataset(tmp_path)
    with pytest.raises(ValueError, match="not one of each"):
        PairedFolderDataset(tmp_path, input_dir="input.lmdb")


def test_views_and_indices(tmp_path):
    inputs = write_pairs(tmp_path, 4)
    dataset = PairedFolderDataset(tmp_path, num_views=3, indices=[3, 0])
    assert len(dataset) == 6
    assert [(dataset[i]["img_path"], dataset[i]["view"]) for i in (0, 2, 3)] == [
        (str(inputs[3]), 0),
        (str(inputs[3]), 2),
        (str(inputs[0]), 0),
    ]
    assert len(PairedFolderDataset(tmp_path, indices=2)) == 2


# Deraining


@pytest.mark.parametrize("form", ["folder", "lmdb"])
def test_every_split_of_rain_is_read_in_both_forms(tmp_path, form):
    (write_rain13k if form == "folder" else write_rain_lmdb)(tmp_path, train=4, test=2)
    train = RainDataset(tmp_path, form=form, pipeline=LOAD)
    assert len(train) == 4 and train[0]["task"] == "derain"
    for split in RAIN_TEST_SETS:
        dataset = RainDataset(tmp_path, split=split, form=form, pipeline=LOAD)
        assert len(dataset) == 2
        # PNG in both forms: the pixels are the drawn ones.
        images = scene("derain", 1000 * (RAIN_TEST_SETS.index(split) + 1) + 2, 48, 64)
        assert np.array_equal(dataset[1]["img"], images["img"])
        assert np.array_equal(dataset[1]["gt_img"], images["gt_img"])


def test_other_places_of_the_rain_folders_are_found(tmp_path):
    write_rain13k(tmp_path / "a", train=2, test=1)
    for half in ("input", "target"):
        (tmp_path / "a" / "train" / "Rain13K" / half).rename(tmp_path / "a" / "train" / half)
    (tmp_path / "a" / "test" / "Rain100L").rename(tmp_path / "a" / "Rain100L")
    assert len(RainDataset(tmp_path / "a")) == 2
    assert RainDataset(tmp_path / "a", split="Rain100L")[0]["img_path"] == str(tmp_path / "a/Rain100L/input/1.png")


@pytest.mark.parametrize(("name", "split"), [("rain100L", "Rain100L"), ("Rain13K", "train")])
def test_the_folder_of_a_rain_split_alone_is_enough(tmp_path, name, split):
    write_pairs(tmp_path / name, 2)
    dataset = RainDataset(tmp_path / name, split=split)
    assert (
        len(dataset) == 2
        and dataset[0]["img_path"] == str(tmp_path / name / "input/1.jpg")
        and dataset[0]["task"] == "derain"
    )
    with pytest.raises(FileNotFoundError, match="Test100"):
        RainDataset(tmp_path / name, split="Test100")


def test_a_missing_rain_folder_is_refused_with_the_places_and_the_other_form(tmp_path):
    write_rain13k(tmp_path, train=1, test=1)
    with pytest.raises(FileNotFoundError, match=r"no train/Rain13K/input\.lmdb or .*pass form='folder'"):
        RainDataset(tmp_path, form="lmdb")
    shutil.rmtree(tmp_path / "test" / "Test100")
    with pytest.raises(FileNotFoundError, match=r"no test/Test100/input or Test100/input in .*check data_root"):
        RainDataset(tmp_path, split="Test100")
    with pytest.raises(FileNotFoundError, match=r"no folder at .*elsewhere"):
        RainDataset(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="split is 'val', expected 'train'"):
        RainDataset(tmp_path, split="val")
    with pytest.raises(ValueError, match="form is 'zip'"):
        RainDataset(tmp_path, form="zip")


# LMDB


@pytest.fixture
def rain_lmdb(tmp_path):
    write_rain_lmdb(tmp_path, train=4, test=1)
    return tmp_path / "train" / "Rain13K"


@pytest.mark.parametrize("part", [0, 0.002, 0.3, 0.7, 0.999])
def test_an_lmdb_cut_short_is_an_error_of_each_sample_and_never_kills_the_process(rain_lmdb, tmp_path, part):
    data = rain_lmdb / "input.lmdb" / "data.mdb"
    size = data.stat().st_size
    os.truncate(data, int(part * size))
    errors = broken_samples(RainDataset(tmp_path, form="lmdb", pipeline=LOAD))
    assert errors.keys() == {0, 1, 2, 3}
    assert all(f"{data} is cut short" in message for message in errors.values())
    assert part < 0.01 or f"{int(part * size)} of the {size} bytes" in errors[0]


def test_an_lmdb_cut_short_while_it_is_open_is_noticed(rain_lmdb, tmp_path):
    dataset = RainDataset(tmp_path, form="lmdb", pipeline=LOAD)
    dataset[0]
    data = rain_lmdb / "target.lmdb" / "data.mdb"
    whole = data.read_bytes()
    os.truncate(data, 8192)
    with pytest.raises(ValueError, match=r"target\.lmdb/data\.mdb is cut short"):
        dataset[1]
    data.write_bytes(whole)  # copied again: it works again
    assert dataset[1]["gt_img"].shape == (48, 64, 3)


def test_a_data_file_that_is_no_lmdb_is_named(rain_lmdb, tmp_path):
    (rain_lmdb / "input.lmdb" / "data.mdb").write_bytes(b"x" * 20000)
    with pytest.raises(ValueError, match=r"input\.lmdb/data\.mdb is no LMDB"):
        RainDataset(tmp_path, form="lmdb")[0]


def test_a_hole_in_an_lmdb_is_an_error_of_the_samples_in_it(rain_lmdb, tmp_path):
    data = rain_lmdb / "input.lmdb" / "data.mdb"
    content = bytearray(data.read_bytes())
    content[8192:] = bytes(len(content) - 8192)  # as a download leaves it that reserved its space
    data.write_bytes(content)
    errors = broken_samples(RainDataset(tmp_path, form="lmdb", pipeline=LOAD))
    assert errors.keys() == {0, 1, 2, 3} and all("input.lmdb" in message for message in errors.values())


def test_keys_that_one_lmdb_lacks_are_errors_of_their_samples(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    write_lmdb(tmp_path / "input.lmdb", dict.fromkeys(["a", "b", "c", "scene/1"], image))
    write_lmdb(tmp_path / "target.lmdb", dict.fromkeys(["a", "b", "d", "scene/1"], image))
    for half in ("input", "target"):  # listed, and not in data.mdb
        with (tmp_path / f"{half}.lmdb" / "meta_info.txt").open("a") as file:
            file.write("gone.png (8,8,3) 1\n")
    dataset = PairedFolderDataset(tmp_path, "input.lmdb", "target.lmdb", pipeline=LOAD)
    assert len(dataset) == 6 and dataset[3]["img_path"].endswith("input.lmdb/scene/1.png")
    errors = broken_samples(dataset)
    assert errors.keys() == {2, 4, 5}
    assert "input.lmdb/c.png has no target: expected one at" in errors[2] and "target.lmdb/c.png" in errors[2]
    assert "input.lmdb has no image with key 'gone'" in errors[4]
    assert "target.lmdb/d.png has no input" in errors[5]


@pytest.mark.parametrize("half", ["input", "target"])
def test_a_damaged_line_of_meta_info_is_an_error_of_its_sample_alone(rain_lmdb, tmp_path, half):
    path = rain_lmdb / f"{half}.lmdb" / "meta_info.txt"
    lines = path.read_text().splitlines()
    assert lines[1] == "2.png (48,64,3) 1"  # BasicSR's own form
    path.write_text("\n".join([lines[0], "2.png (48,", *lines[2:]]))
    dataset = RainDataset(tmp_path, form="lmdb", pipeline=LOAD)
    errors = broken_samples(dataset)
    assert len(dataset) == 4 and errors.keys() == {1}
    assert f"{path}, line 2 is '2.png (48,'" in errors[1]


def test_an_lmdb_without_its_files_is_refused_when_built(rain_lmdb, tmp_path):
    (rain_lmdb / "target.lmdb" / "meta_info.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"meta_info\.txt lists no image"):
        RainDataset(tmp_path, form="lmdb")
    (rain_lmdb / "target.lmdb" / "meta_info.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no meta_info\.txt in .*target\.lmdb"):
        RainDataset(tmp_path, form="lmdb")
    shutil.rmtree(rain_lmdb / "target.lmdb")
    with pytest.raises(FileNotFoundError, match=r"no LMDB folder at .*target\.lmdb"):
        RainDataset(tmp_path, form="lmdb")


def test_a_missing_lmdb_package_is_one_sentence(rain_lmdb, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match="lmdb is not installed: run `pip install lmdb`"):
        RainDataset(tmp_path, form="lmdb")


def test_two_readers_share_an_lmdb_that_may_be_opened_once(rain_lmdb, tmp_path):
    first, second = (RainDataset(tmp_path, form="lmdb", pipeline=LOAD) for _ in range(2))
    assert np.array_equal(first[2]["img"], second[2]["img"])


def test_an_lmdb_behind_links_is_read(rain_lmdb, tmp_path):
    for half in ("input", "target"):  # as a cache keeps it that stores files by their checksums
        data = rain_lmdb / f"{half}.lmdb" / "data.mdb"
        data.symlink_to(data.rename(tmp_path / f"{half}.blob"))
    assert RainDataset(tmp_path, form="lmdb", pipeline=LOAD)[3]["img"].shape == (48, 64, 3)


@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_an_lmdb_is_read_by_worker_processes(rain_lmdb, tmp_path, start, workers):
    dataset = RainDataset(tmp_path, form="lmdb", pipeline=PACK)
    here = [dataset[number]["inputs"] for number in range(4)]  # open in this process before workers start
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=start)
    there = [item["inputs"] for item in loader]
    assert all((a == b).all() for a, b in zip(here, there, strict=True))
    assert (dataset[0]["inputs"] == here[0]).all()  # and still open here


def test_the_open_lmdb_is_not_pickled(rain_lmdb, tmp_path):
    dataset = RainDataset(tmp_path, form="lmdb", pipeline=LOAD)
    dataset[0]
    assert (rain_lmdb / "input.lmdb" / "data.mdb").resolve() in lmdb_images._OPEN
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy[1]["img"], dataset[1]["img"])


# GoPro


@pytest.mark.parametrize("blur", ["blur", "blur_gamma"])
def test_gopro_pairs_the_frames_of_all_sequences(tmp_path, blur):
    inputs = write_gopro(tmp_path, sequences=2, frames=3)
    dataset = GoProDataset(tmp_path, blur=blur, pipeline=LOAD)
    assert len(dataset) == 6 and dataset.task == "deblur"
    for number, path in enumerate(inputs):
        sample = dataset[number]
        assert sample["img_path"] == str(path.parents[1] / blur / path.name)
        assert np.array_equal(sample["gt_img"], read_image(path.parents[1] / "sharp" / path.name))
    test = GoProDataset(tmp_path, split="test", blur=blur)
    assert len(test) == 6 and "GOPR0384_11_00" in test[0]["img_path"]


def test_gopro_reports_frames_without_a_pair(tmp_path):
    write_gopro(tmp_path, sequences=2, frames=2)
    (tmp_path / "train" / "GOPR0372_07_00" / "sharp" / "000048.png").unlink()
    shutil.rmtree(tmp_path / "train" / "GOPR0374_11_01" / "blur")
    dataset = GoProDataset(tmp_path, pipeline=LOAD)
    errors = broken_samples(dataset)
    assert len(dataset) == 4 and errors.keys() == {1, 2, 3}
    assert "GOPR0372_07_00/blur/000048.png has no target" in errors[1]
    assert "GOPR0374_11_01/sharp/000047.png has no input" in errors[2]


def test_gopro_refuses_what_is_not_there(tmp_path):
    write_gopro(tmp_path, sequences=1, frames=1)
    with pytest.raises(ValueError, match="split is 'val'"):
        GoProDataset(tmp_path, split="val")
    with pytest.raises(ValueError, match="blur is 'sharp'"):
        GoProDataset(tmp_path, blur="sharp")
    with pytest.raises(FileNotFoundError, match="expected the sequences of GOPRO_Large"):
        GoProDataset(tmp_path / "train")
    shutil.rmtree(tmp_path / "train" / "GOPR0372_07_00" / "blur_gamma")
    with pytest.raises(FileNotFoundError, match=r"no folder at .*blur_gamma"):
        GoProDataset(tmp_path, blur="blur_gamma")
    shutil.rmtree(tmp_path / "train" / "GOPR0372_07_00")
    with pytest.raises(ValueError, match="train holds no sequence"):
        GoProDataset(tmp_path)


def test_two_inputs_for_one_target_are_reported_and_of_one_name_paired(tmp_path):
    image = scene("derain", 0, 8, 8)["img"]
    for name in ("input/1.jpg", "input/1.png", "input/2.png", "target/1.png", "target/2.jpg"):
        save(tmp_path / name, image)
    dataset = PairedFolderDataset(tmp_path)
    with pytest.raises(ValueError, match=r"input/1\.jpg is not the only input named 1, and .*target/1\.png one target"):
        dataset[0]
    assert [dataset[number]["gt_img_path"][-12:] for number in (1, 2)] == ["target/1.png", "target/2.jpg"]


def test_a_key_that_an_lmdb_lists_twice_is_refused(rain_lmdb, tmp_path):
    path = rain_lmdb / "target.lmdb" / "meta_info.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(ValueError, match=r"target\.lmdb/meta_info\.txt: key '1' is there more than once"):
        RainDataset(tmp_path, form="lmdb")
