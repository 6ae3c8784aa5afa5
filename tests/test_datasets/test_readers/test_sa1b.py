"""SA1BDataset: folders and archives, shares, damaged files."""

import json
import pickle
import tarfile
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader

import helpers.layouts_sa1b as layouts
from delvm_mm.datasets.readers.io.image import read_image
from delvm_mm.datasets.readers.io.tar import TarReader, index_tar
from delvm_mm.datasets.readers.sa1b import SA1BDataset

LOAD = [dict(type="LoadImage")]


def as_tree(folder):
    """Two archives of four and three images; the numbers do not sort like text."""
    layouts.write_archive(folder / "sa_000000.tar", [11, 9, 10, 2])
    layouts.write_archive(folder / "sa_000001.tar", [20, 21, 22])
    return folder


def numbers(dataset):
    return [int(dataset.get_data_info(i)["img_path"].rpartition("_")[2][:-4]) for i in range(len(dataset))]


def painted_with_pycocotools(number, size=(60, 90)):
    annotation = json.loads(layouts.files_of(number, size)[f"sa_{number}.json"])
    masks = [coco_mask.decode(entry["segmentation"]) > 0 for entry in annotation["annotations"]]
    expected = np.zeros(size, int)
    for position, mask in enumerate(sorted(masks, key=lambda mask: -mask.sum()), 1):
        expected[mask] = position
    return expected


def test_archives_give_images_and_instance_maps_without_unpacking(tmp_path):
    dataset = SA1BDataset(as_tree(tmp_path), pipeline=LOAD)
    assert len(dataset) == 7
    sample = dataset[1]
    assert sample["img_path"] == f"{tmp_path}/sa_000000.tar/sa_9.jpg"
    expected = read_image("sa_9.jpg", content=layouts.files_of(9)["sa_9.jpg"])
    np.testing.assert_array_equal(sample["img"], expected)
    np.testing.assert_array_equal(sample["gt_instance_map"], painted_with_pycocotools(9))
    assert sample["gt_instance_map"].dtype == np.uint16
    assert (sample["task"], sample["sample_idx"], sample["view"]) == ("seg", 1, 0)
    shown = sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("."))
    assert shown == ["sa_000000.tar", "sa_000001.tar"]


def test_folders_give_the_same_samples_in_the_same_order(tmp_path):
    archives = SA1BDataset(as_tree(tmp_path / "tar"), pipeline=LOAD)
    layouts.write_folder(tmp_path / "folders" / "sa_000000", [2, 9, 10, 11])
    layouts.write_folder(tmp_path / "folders" / "sa_000001", [20, 21, 22])
    layouts.write_folder(tmp_path / "flat", [2, 9, 10, 11, 20, 21, 22])
    assert numbers(archives) == [2, 9, 10, 11, 20, 21, 22]
    for name in ("folders", "flat"):
        unpacked = SA1BDataset(tmp_path / name, pipeline=LOAD)
        assert numbers(unpacked) == numbers(archives)
        for one, other in zip(unpacked, archives, strict=True):
            np.testing.assert_array_equal(one["img"], other["img"])
            np.testing.assert_array_equal(one["gt_instance_map"], other["gt_instance_map"])
    assert unpacked.get_data_info(0)["img_path"] == f"{tmp_path}/flat/sa_2.jpg"


def test_a_single_archive_is_a_data_root(tmp_path):
    as_tree(tmp_path)
    assert numbers(SA1BDataset(tmp_path / "sa_000001.tar")) == [20, 21, 22]


def test_form_chooses_where_both_are(tmp_path):
    as_tree(tmp_path)
    layouts.write_folder(tmp_path / "sa_000000", [2])
    with pytest.raises(ValueError, match="form='tar' or form='folder'"):
        SA1BDataset(tmp_path)
    assert len(SA1BDataset(tmp_path, form="tar")) == 7
    assert numbers(SA1BDataset(tmp_path, form="folder")) == [2]


def test_a_fraction_is_a_seeded_share_and_offsets_do_not_meet(tmp_path):
    layouts.write_folder(tmp_path, range(1, 41), size=(8, 8), masks=1)
    share = numbers(SA1BDataset(tmp_path, fraction=0.25))
    assert len(share) == 10
    assert share == sorted(set(share))
    assert share == numbers(SA1BDataset(tmp_path, fraction=0.25))
    assert share != numbers(SA1BDataset(tmp_path, fraction=0.25, seed=1))
    assert share != list(range(1, 11))
    # A smaller share is part of the larger one; what begins behind it has nothing of it.
    assert set(numbers(SA1BDataset(tmp_path, fraction=0.1))) < set(share)
    rest = numbers(SA1BDataset(tmp_path, fraction=0.75, offset=0.25))
    assert sorted(share + rest) == list(range(1, 41))
    assert len(SA1BDataset(tmp_path, fraction=0.001)) == 1


def test_views_are_the_six_crops_of_each_image(tmp_path):
    layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2], size=(50, 70))
    pipeline = [*LOAD, dict(type="SixCrop", size=30)]
    dataset = SA1BDataset(tmp_path, num_views=6, pipeline=pipeline)
    assert len(dataset) == 12
    whole = SA1BDataset(tmp_path, pipeline=LOAD)[1]
    for view in range(6):
        sample = dataset[6 + view]
        left, top = sample["crop_offset"]
        cut = slice(top, top + 30), slice(left, left + 30)
        np.testing.assert_array_equal(sample["img"], whole["img"][cut])
        np.testing.assert_array_equal(sample["gt_instance_map"], whole["gt_instance_map"][cut])
    assert len({dataset[view]["crop_offset"] for view in range(6)}) == 6


@pytest.mark.parametrize("min_area", [300, 300 / (60 * 90)])
def test_masks_below_min_area_are_left_out(tmp_path, min_area):
    layouts.write_folder(tmp_path, [3])
    areas = [entry["area"] for entry in json.loads(layouts.files_of(3)["sa_3.json"])["annotations"]]
    kept = sum(area >= 300 for area in areas)
    assert 0 < kept < len(areas)
    assert SA1BDataset(tmp_path, min_area=min_area)[0]["gt_instance_map"].max() == kept
    assert SA1BDataset(tmp_path)[0]["gt_instance_map"].max() == len(areas)


def test_worker_processes_read_the_same(tmp_path):
    dataset = SA1BDataset(as_tree(tmp_path))
    expected = [dataset[i]["img_bytes"] for i in range(7)]
    # Forked while the archives are open here.
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", collate_fn=_as_it_is)
    assert [sample["img_bytes"] for sample in loader] == expected
    # Spawned: sent by pickle, which takes no open file along.
    sent = pickle.loads(pickle.dumps(dataset))
    assert not sent._archives._files
    assert [sent[i]["img_bytes"] for i in range(7)] == expected


def _as_it_is(sample):
    return sample


def test_more_archives_than_may_be_open(tmp_path):
    paths = [layouts.write_tar(tmp_path / f"{n}.tar", {"a": bytes([n]) * 3}) for n in range(5)]
    reader = TarReader(max_open=2)
    for _ in range(2):
        for n, path in enumerate(paths):
            assert reader.read(path, *index_tar(path)[0]["a"]) == bytes([n]) * 3
    assert len(reader._files) == 2
    reader.close()


def damaged_folder(tmp_path, **contents):
    layouts.write_folder(tmp_path, [1, 2])
    for name, content in contents.items():
        (tmp_path / f"sa_1.{name}").write_bytes(content)
    return SA1BDataset(tmp_path, pipeline=[*LOAD, dict(type="CenterCrop", size=32)])


def changed(change):
    annotation = json.loads(layouts.files_of(1)["sa_1.json"])
    change(annotation)
    return json.dumps(annotation).encode()


BAD_ANNOTATIONS = {
    "zero bytes": (b"", "no readable JSON"),
    "cut": (layouts.files_of(1)["sa_1.json"][:500], "no readable JSON"),
    "not text": (b"\xff\xfe\x00", "no readable JSON"),
    "a list": (b"[]", "no 'image' and 'annotations'"),
    "no masks": (changed(lambda a: a.pop("annotations")), "no 'image' and 'annotations'"),
    "no height": (changed(lambda a: a["image"].pop("height")), "height None"),
    "huge": (changed(lambda a: a["image"].update(height=10**9, width=10**9)), "height 1000000000"),
    "mask of another size": (
        changed(lambda a: a["annotations"][2]["segmentation"].update(size=[90, 60])),
        "mask 2: its size is 90x60",
    ),
    "mask cut": (
        changed(lambda a: a["annotations"][0]["segmentation"].update(counts="0")),
        "mask 0: the runs have 0 pixels",
    ),
    "no mask": (changed(lambda a: a["annotations"].append(None)), "mask 6: got None"),
}


@pytest.mark.parametrize("kind", BAD_ANNOTATIONS)
def test_a_bad_annotation_is_an_error_of_its_sample_alone(tmp_path, kind):
    content, message = BAD_ANNOTATIONS[kind]
    dataset = damaged_folder(tmp_path, json=content)
    with pytest.raises(ValueError, match=rf"sa_1\.json \(annotation of sa_1\.jpg\).*{message}"):
        dataset[0]
    assert dataset[1]["img"].shape == (32, 32, 3)


def test_masks_of_another_size_than_the_image_are_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"sa_1\.jpg differ in height x width"):
        damaged_folder(tmp_path, jpg=layouts.files_of(1, (61, 90))["sa_1.jpg"])[0]


@pytest.mark.parametrize("content", [b"", b"no image", layouts.files_of(1)["sa_1.jpg"][:700]])
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_bad_image_is_an_error_that_names_it(tmp_path, form, content):
    if form == "folder":
        dataset = damaged_folder(tmp_path, jpg=content)
    else:
        layouts.write_tar(tmp_path / "sa_000000.tar", {**layouts.files_of(1), "sa_1.jpg": content})
        dataset = SA1BDataset(tmp_path, pipeline=LOAD)
    with pytest.raises(ValueError, match=r"sa_1\.jpg"):
        dataset[0]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_file_without_its_other_half_is_an_error_of_its_sample_alone(tmp_path, form):
    contents = {**layouts.files_of(1), **layouts.files_of(2), **layouts.files_of(3)}
    del contents["sa_1.json"], contents["sa_3.jpg"]
    contents |= {"readme.json": b"{}", ".sa_4.jpg": b"", "notes.txt": b""}
    if form == "tar":
        layouts.write_tar(tmp_path / "sa_000000.tar", contents)
    else:
        for name, content in contents.items():
            (tmp_path / name).write_bytes(content)
    dataset = SA1BDataset(tmp_path, pipeline=LOAD)
    assert len(dataset) == 3
    place = "sa_000000.tar/" if form == "tar" else ""
    with pytest.raises(ValueError, match=rf"{place}sa_1\.jpg has no annotation: sa_1\.json is missing"):
        dataset[0]
    with pytest.raises(ValueError, match=rf"{place}sa_3\.jpg is missing"):
        dataset[2]
    assert dataset[1]["img"].shape == (60, 90, 3)


def test_of_an_archive_cut_anywhere_the_part_before_the_cut_is_used(tmp_path):
    whole = layouts.write_archive(tmp_path / "whole" / "sa_000000.tar", [1, 2, 3])
    members, damage = index_tar(whole)
    assert damage is None
    content = whole.read_bytes()
    cut = tmp_path / "cut" / "sa_000000.tar"
    cut.parent.mkdir()
    end = sum(members["sa_3.json"])
    for length in [600, 1030, *range(1500, end, 2311), end - 1]:
        cut.write_bytes(content[:length])
        complete = [n for n in (1, 2, 3) if sum(members[f"sa_{n}.json"]) <= length]
        with pytest.warns(UserWarning, match=r"cut/sa_000000\.tar is .*download") as caught:
            if length < members["sa_1.jpg"][0]:
                with pytest.raises(ValueError, match="holds no image"):
                    SA1BDataset(tmp_path / "cut")
                continue
            dataset = SA1BDataset(tmp_path / "cut", pipeline=LOAD)
        assert len(caught) == 1
        assert len(dataset) - len(complete) in (0, 1)
        for position in range(len(dataset)):
            if position + 1 in complete:
                assert dataset[position]["img"].shape == (60, 90, 3)
            else:
                with pytest.raises(ValueError, match=rf"sa_000000\.tar/sa_{position + 1}\.jpg"):
                    dataset[position]


def test_a_whole_archive_beside_a_cut_one_is_used(tmp_path):
    as_tree(tmp_path)
    (tmp_path / "sa_000000.tar").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"sa_000000\.tar"):
        assert numbers(SA1BDataset(tmp_path)) == [20, 21, 22]


def test_a_header_damaged_in_the_middle_is_not_taken_for_the_end(tmp_path):
    path = layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2, 3])
    content, members = bytearray(path.read_bytes()), index_tar(path)[0]
    start = members["sa_2.jpg"][0] - 512
    content[start : start + 200] = b"\x07" * 200
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"sa_000000\.tar is cut or damaged at byte {start}"):
        assert numbers(SA1BDataset(tmp_path)) == [1]


def test_an_archive_that_was_shortened_later_is_an_error_of_the_sample(tmp_path):
    path = layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2])
    dataset = SA1BDataset(tmp_path)
    path.write_bytes(path.read_bytes()[: index_tar(path)[0]["sa_2.jpg"][0] + 5])
    assert dataset[0]["img_bytes"] == layouts.files_of(1)["sa_1.jpg"]
    with pytest.raises(ValueError, match=r"sa_2\.jpg .* was cut"):
        dataset[1]


def test_whole_archives_raise_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SA1BDataset(as_tree(tmp_path))


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: expected SA-1B's archives sa_"):
        SA1BDataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image of SA-1B"):
        SA1BDataset(tmp_path)
    with pytest.raises(ValueError, match="holds no image of SA-1B"):
        SA1BDataset(tmp_path, form="tar")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(form="zip"), "form is 'zip'"),
        (dict(fraction=0), "fraction is 0"),
        (dict(fraction=1.5), "fraction is 1.5"),
        (dict(fraction=0.5, offset=0.6), "offset 0.6"),
        (dict(min_area=-1), "min_area is -1"),
        (dict(min_area=1.5), "min_area is 1.5"),
        (dict(num_views=0), "num_views"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    layouts.write_folder(tmp_path, [1])
    with pytest.raises(ValueError, match=message):
        SA1BDataset(tmp_path, **arguments)


def test_an_image_that_two_archives_hold_is_refused(tmp_path):
    layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2])
    layouts.write_archive(tmp_path / "sa_000001.tar", [2, 3])
    with pytest.raises(ValueError, match=r"'sa_2\.jpg' is there more than once"):
        SA1BDataset(tmp_path)


def test_an_archive_with_two_files_of_one_name_is_refused(tmp_path):
    path = layouts.write_archive(tmp_path / "sa_000000.tar", [1, 2])
    layouts.write_folder(tmp_path / "more", [2])
    with tarfile.open(path, "a") as archive:
        for name in ("sa_2.jpg", "sa_2.json"):
            archive.add(tmp_path / "more" / name, arcname=name)
    with pytest.raises(ValueError, match=r"sa_000000\.tar holds sa_2\.jpg, sa_2\.json more than once"):
        SA1BDataset(path)


@pytest.mark.parametrize("of_another_image", [False, True])
def test_masks_that_are_there_twice_or_are_of_another_image_are_refused(tmp_path, of_another_image):
    layouts.write_folder(tmp_path, [1])
    path = tmp_path / "sa_1.json"
    annotation = json.loads(path.read_text())
    if of_another_image:
        annotation["image"]["file_name"] = "sa_2.jpg"
    else:
        annotation["annotations"].append(annotation["annotations"][0])
    path.write_text(json.dumps(annotation))
    message = r"sa_1\.json .*says that it is of 'sa_2\.jpg'" if of_another_image else r"sa_1\.json .*mask 1000 is there"
    with pytest.raises(ValueError, match=message):
        SA1BDataset(tmp_path)[0]
