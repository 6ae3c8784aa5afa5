"""Folders of frames become clips in the order of time."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from delvm_mm.datasets.readers.frame_folders import FrameFolderDataset, natural_key
from delvm_mm.datasets.transforms.frames import LoadFrames
from delvm_mm.registry import TRANSFORMS
from helpers.layouts_restoration import save, write_frame_folders

PACK = [{"type": "LoadFrames"}, {"type": "PackClip", "keys": ("frames",)}]


def names(dataset) -> list[list[str]]:
    return [[Path(path).name.removesuffix(".jpg") for path in dataset[i]["frame_paths"]] for i in range(len(dataset))]


@pytest.fixture
def numbered(tmp_path):
    """One video whose frame n has the gray level 10 n."""
    for number in range(1, 12):
        save(tmp_path / "video" / f"frame{number}.png", np.full((4, 6, 3), 10 * number, np.uint8))
    return tmp_path


def test_frames_are_in_the_order_of_time(tmp_path):
    videos = write_frame_folders(tmp_path, videos=2, frames=11)
    dataset = FrameFolderDataset(tmp_path, clip_length=11)
    assert len(dataset) == 2 and dataset.task == "video"
    assert dataset[0]["frame_paths"] == [str(path) for path in videos["video_a"]]  # frame2 before frame10
    assert dataset[1]["frame_paths"] == [str(path) for path in videos["video_b"]]
    assert dataset[1]["img_path"] == str(videos["video_b"][0])


def test_numbers_in_names_are_compared_as_numbers():
    assert sorted(["a10", "a9", "a", "b1", "10", "9", "a9b2", "a09"], key=natural_key) == [
        "9", "10", "a", "a09", "a9", "a9b2", "a10", "b1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 11 frames each: (11 - span) // clip_step + 1 clips
        (dict(clip_length=4), [[1, 2, 3, 4], [5, 6, 7, 8]]),
        (dict(clip_length=3, stride=2), [[1, 3, 5], [7, 9, 11]]),
        (dict(clip_length=4, clip_step=3), [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]),
        (dict(clip_length=2, stride=5, clip_step=4), [[1, 6], [5, 10]]),
        (dict(clip_length=1, clip_step=5), [[1], [6], [11]]),
    ],
)
def test_clips_follow_length_stride_and_step(tmp_path, settings, expected):
    write_frame_folders(tmp_path, videos=1, frames=11)
    assert names(FrameFolderDataset(tmp_path, **settings)) == [[f"frame{n}" for n in clip] for clip in expected]


def test_no_clip_crosses_from_one_video_to_the_next(tmp_path):
    write_frame_folders(tmp_path, videos=3, frames=5)
    dataset = FrameFolderDataset(tmp_path, clip_length=2, clip_step=1)
    assert len(dataset) == 3 * 4
    assert all(len({Path(path).parent for path in dataset[i]["frame_paths"]}) == 1 for i in range(12))


def test_videos_are_found_at_any_depth_and_through_links(tmp_path):
    write_frame_folders(tmp_path / "root" / "part10", videos=1, frames=2)
    write_frame_folders(tmp_path / "root" / "part9" / "deep", videos=1, frames=2)
    write_frame_folders(tmp_path / "root" / ".hidden", videos=1, frames=2)
    write_frame_folders(tmp_path / "elsewhere", videos=1, frames=2)
    (tmp_path / "root" / "zlink").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "part9" / "loop").symlink_to(tmp_path / "root")
    dataset = FrameFolderDataset(tmp_path / "root", clip_length=2)
    assert [str(Path(dataset[i]["img_path"]).relative_to(tmp_path / "root")) for i in range(len(dataset))] == [
        "part9/deep/video_a/frame1.jpg",
        "part10/video_a/frame1.jpg",
        "zlink/video_a/frame1.jpg",
    ]
    assert len(FrameFolderDataset(tmp_path / "elsewhere" / "video_a", clip_length=2)) == 1


def test_a_clip_is_loaded_and_packed_in_order(numbered):
    sample = FrameFolderDataset(numbered, clip_length=3, stride=4, pipeline=[LoadFrames()])[0]
    assert sample["frames"].shape == (3, 4, 6, 3) and sample["frames"].dtype == np.uint8
    assert sample["frames"][:, 0, 0, 0].tolist() == [10, 50, 90]
    assert sample["img_shape"] == sample["ori_shape"] == (4, 6)
    packed = FrameFolderDataset(numbered, clip_length=3, stride=4, pipeline=PACK)[0]
    assert packed["inputs"].shape == (3, 3, 4, 6) and packed["inputs"][:, 0, 0, 0].tolist() == [10, 50, 90]
    assert packed["data_samples"].task == "video" and packed["data_samples"].img_path.endswith("frame1.png")


def test_a_broken_frame_is_named_and_other_clips_are_read(numbered):
    (numbered / "video" / "frame4.png").write_bytes(b"")
    save(numbered / "video" / "frame5.png", np.zeros((6, 4, 3), np.uint8))
    dataset = FrameFolderDataset(numbered, clip_length=2, pipeline=PACK)
    with pytest.raises(ValueError, match=r"video/frame4\.png has 0 bytes"):
        dataset[1]
    with pytest.raises(ValueError, match=r"frame6\.png is 6x4 .*the first frame .*frame5\.png, 4x6"):
        dataset[2]
    assert dataset[3]["inputs"].shape == (2, 3, 4, 6)


def test_short_videos_are_named_in_a_warning(tmp_path, monkeypatch):
    write_frame_folders(tmp_path, videos=1, frames=5)
    save(tmp_path / "short" / "1.png", np.zeros((4, 4, 3), np.uint8))
    said = []
    monkeypatch.setattr(
        "delvm_mm.datasets.readers.frame_folders.print_log", lambda text, logger, level: said.append((text, level))
    )
    assert len(FrameFolderDataset(tmp_path, clip_length=5)) == 1
    [(text, level)] = said
    assert level == logging.WARNING and text.startswith("1 of 2 videos") and f"{tmp_path / 'short'} (1)" in text


def test_what_gives_no_clip_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder at"):
        FrameFolderDataset(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="hold no image"):
        FrameFolderDataset(tmp_path)
    write_frame_folders(tmp_path, videos=1, frames=7)
    with pytest.raises(ValueError, match=r"has the 8 frames of a clip .*video_a \(7\)"):
        FrameFolderDataset(tmp_path)
    for name in ("clip_length", "stride", "clip_step"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            FrameFolderDataset(tmp_path, **{name: 0})
    with pytest.raises(ValueError, match="needs a list of files in 'frame_paths'"):
        TRANSFORMS.build({"type": "LoadFrames"})({"img_path": "a.jpg"})


def test_views_indices_and_spawned_workers(numbered):
    dataset = FrameFolderDataset(numbered, clip_length=2, num_views=2, indices=[4, 0], pipeline=PACK)
    assert len(dataset) == 4
    loader = DataLoader(
        pickle.loads(pickle.dumps(dataset)), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert [int(item["inputs"][0, 0, 0, 0]) for item in loader] == [90, 90, 10, 10]
