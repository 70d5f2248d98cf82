from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.errors import DataError, UsageError
from irdet.data.sirst import load_dataset


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def image(number: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)


def mask(number: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    truth = np.zeros(shape, np.uint8)
    truth[3 + number % 3 : 6, 5:8] = 255
    return truth


def build(root: Path, numbers: range = range(1, 13), folders: str = "images masks", ending: str = "") -> Path:
    images, masks = folders.split()
    for number in numbers:
        save(root / images / f"Misc_{number}.png", image(number))
        save(root / masks / f"Misc_{number}{ending}.png", mask(number))
    return root


@pytest.mark.parametrize("ending", ["", "_pixels0"])
@pytest.mark.parametrize("folders", ["images masks", "image mask", "mixed annotations/masks"])
def test_layouts_and_natural_order(tmp_path: Path, folders: str, ending: str) -> None:
    dataset = load_dataset(build(tmp_path / "set", folders=folders, ending=ending))
    assert (dataset.name, dataset.root, len(dataset)) == ("set", tmp_path / "set", 12)
    assert [sample.name for sample in dataset] == [f"Misc_{number}" for number in range(1, 13)]
    raw, truth = dataset.samples[1].read()
    np.testing.assert_array_equal(raw, image(2))
    np.testing.assert_array_equal(truth, mask(2) > 0)
    assert truth.dtype == np.bool_


@pytest.mark.parametrize(("path", "split"), [(".", "train"), ("data", "train"), ("data/train", None)])
def test_the_authors_folders(tmp_path: Path, path: str, split: str | None) -> None:
    build(tmp_path / "data" / "train", range(1, 4), "image mask")
    build(tmp_path / "data" / "test", range(7, 9), "image mask")
    assert [sample.name for sample in load_dataset(tmp_path / path, split)] == ["Misc_1", "Misc_2", "Misc_3"]


def test_a_folder_of_parts_is_not_read_as_one(tmp_path: Path) -> None:
    build(tmp_path / "data" / "train", range(1, 4), "image mask")
    build(tmp_path / "data" / "test", range(7, 9), "image mask")
    for path in (tmp_path, tmp_path / "data"):
        with pytest.raises(UsageError, match="parts test, train: choose one with split"):
            load_dataset(path)
        with pytest.raises(UsageError, match=r"parts test, train: give the folder of one, .*data/test"):
            load_dataset(path, empty_truth=True)


@pytest.mark.parametrize("index", ["train.txt", "img_idx/train.txt", "splits/train.txt", "img_idx/train_NUDT.txt"])
@pytest.mark.parametrize("line", ["Misc_{}", "Misc_{}.png", "images/Misc_{}.bmp", "  Misc_{}\r"])
def test_index_files(tmp_path: Path, index: str, line: str) -> None:
    root = build(tmp_path / "NUDT")
    file = root / index
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(line.format(number) for number in (10, 2, 2, 9)) + "\n\n", newline="")
    for dataset in (load_dataset(root, "train"), load_dataset(file)):
        assert [sample.name for sample in dataset] == ["Misc_2", "Misc_9", "Misc_10"]
    assert len(load_dataset(root)) == 12


def test_two_indexes_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    root = build(tmp_path / "set")
    for folder in ("idx_427", "idx_320"):
        (root / folder).mkdir()
        (root / folder / "test.txt").write_text("Misc_1\n")
    with pytest.raises(UsageError, match=r"idx_320/test\.txt, idx_427/test\.txt"):
        load_dataset(root, "test")
    (root / "test.txt").write_text("Misc_2\n")
    assert [sample.name for sample in load_dataset(root, "test")] == ["Misc_2"]


def test_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    root = build(tmp_path / "set")
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("Misc_1\n")
    with pytest.raises(UsageError, match=r"no split 'test': it has val"):
        load_dataset(root, "test")
    with pytest.raises(UsageError, match="leave split 'val' out"):
        load_dataset(root / "splits" / "val.txt", "val")


def test_names_with_dots(tmp_path: Path) -> None:
    save(tmp_path / "images" / "clip.v2.7.png", image(1))
    save(tmp_path / "masks" / "clip.v2.7.png", mask(1))
    (tmp_path / "test.txt").write_text("clip.v2.7\n")
    assert [sample.name for sample in load_dataset(tmp_path, "test")] == ["clip.v2.7"]


def test_target_free_frames(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", image(number))
    with pytest.raises(DataError, match="no folders of images and masks"):
        load_dataset(tmp_path)
    dataset = load_dataset(tmp_path, empty_truth=True)
    assert len(dataset) == 3
    raw, truth = dataset.samples[0].read()
    assert truth.shape == raw.shape
    assert not truth.any()


def test_labelled_data_are_not_target_free(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has masks"):
        load_dataset(build(tmp_path), empty_truth=True)
    shutil.rmtree(tmp_path / "masks")
    assert len(load_dataset(tmp_path, empty_truth=True)) == 12


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (0, 65535), (3, 250)])
def test_masks_of_other_levels(tmp_path: Path, levels: tuple[int, int]) -> None:
    low, high = levels
    save(tmp_path / "images" / "a.png", image(1))
    values = np.where(mask(1) > 0, high, low).astype(np.uint16 if high > 255 else np.uint8)
    save(tmp_path / "masks" / "a.png", values)
    np.testing.assert_array_equal(load_dataset(tmp_path).samples[0].read()[1], mask(1) > 0)


def test_an_empty_mask_is_a_truth(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", image(1))
    save(tmp_path / "masks" / "a.png", np.zeros((12, 16), np.uint8))
    assert not load_dataset(tmp_path).samples[0].read()[1].any()


def test_deep_and_coloured_images(tmp_path: Path) -> None:
    deep = image(1).astype(np.uint16) * 200
    save(tmp_path / "images" / "deep.png", deep)
    save(tmp_path / "images" / "grey.png", cv2.cvtColor(image(2), cv2.COLOR_GRAY2BGRA))
    for name in ("deep", "grey"):
        save(tmp_path / "masks" / f"{name}.png", cv2.cvtColor(mask(1), cv2.COLOR_GRAY2BGR))
    samples = {sample.name: sample.read()[0] for sample in load_dataset(tmp_path)}
    np.testing.assert_array_equal(samples["deep"], deep)
    np.testing.assert_array_equal(samples["grey"], image(2))
    assert (samples["deep"].dtype, samples["grey"].dtype) == (np.uint16, np.uint8)


def grey_levels(root: Path) -> None:
    save(root / "masks" / "Misc_3.png", image(9))


def other_size(root: Path) -> None:
    save(root / "masks" / "Misc_3.png", mask(3, (24, 32)))


def third_level(root: Path) -> None:
    values = mask(3)
    values[0, 0] = 128
    save(root / "masks" / "Misc_3.png", values)


def missing_mask(root: Path) -> None:
    (root / "masks" / "Misc_3.png").unlink()


def two_masks(root: Path) -> None:
    save(root / "masks" / "Misc_3_pixels0.png", mask(3))


def two_images(root: Path) -> None:
    save(root / "images" / "Misc_3.bmp", image(3))


def empty_image(root: Path) -> None:
    (root / "images" / "Misc_3.png").write_bytes(b"")


def cut_image(root: Path) -> None:
    content = (root / "images" / "Misc_3.png").read_bytes()
    (root / "images" / "Misc_3.png").write_bytes(content[: len(content) // 2])


def text_as_mask(root: Path) -> None:
    (root / "masks" / "Misc_3.png").write_text("not an image")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (grey_levels, "mask is not binary"),
        (third_level, "mask is not binary"),
        (other_size, "mask is 32x24, image 16x12"),
        (missing_mask, "Misc_3: no mask"),
        (two_masks, "Misc_3: 2 masks"),
        (two_images, "Misc_3: 2 images"),
        (empty_image, "the file is empty (0 bytes)"),
        (cut_image, "not an image that OpenCV can decode"),
        (text_as_mask, "not an image that OpenCV can decode"),
    ],
)
def test_bad_samples_are_named(tmp_path: Path, damage: object, says: str) -> None:
    root = build(tmp_path)
    assert callable(damage)
    damage(root)
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        load_dataset(root)
    assert str(caught.value).startswith("1 of 12 samples")
    assert "Misc_3" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["", "_pixels0"])
def test_masks_without_an_image_are_told(tmp_path: Path, ending: str) -> None:
    root = build(tmp_path / "set", ending=ending)
    assert load_dataset(root).notes == ()
    (root / "images/Misc_7.png").unlink()
    (root / "images/Misc_10.png").unlink()
    told = f"2 of the 12 masks of {root} have no image: Misc_7{ending}; Misc_10{ending}"
    assert load_dataset(root).notes == (told,)
    (root / "part.txt").write_text("Misc_1\nMisc_2\n")
    assert load_dataset(root, "part").notes == (), "an index takes what it names"


def test_many_bad_samples_make_one_line(tmp_path: Path) -> None:
    root = build(tmp_path)
    for number in range(2, 10):
        (root / "masks" / f"Misc_{number}.png").unlink()
    (root / "all.txt").write_text("\n".join(f"Misc_{number}" for number in range(1, 14)))
    with pytest.raises(DataError, match=r"9 of 13 .*: Misc_2: no mask; .*Misc_6: no mask; and 4 more$"):
        load_dataset(root, "all")


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set at"):
        load_dataset(tmp_path / "nothing")
    (tmp_path / "readme.md").write_text("text")
    with pytest.raises(UsageError, match="neither a folder nor an index"):
        load_dataset(tmp_path / "readme.md")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no images in"):
        load_dataset(tmp_path)
    (tmp_path / "list.txt").write_text("\n")
    save(tmp_path / "images" / "a.png", image(1))
    with pytest.raises(DataError, match="names no images"):
        load_dataset(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file"):
        load_dataset(tmp_path / "list.txt")


def test_the_real_training_set(shared: Path) -> None:
    dataset = load_dataset(shared / "sirst")
    assert len(dataset) == 331
    assert dataset.samples[0].read()[1].any()
    assert len(load_dataset(shared / "backgrounds", empty_truth=True)) == 48
