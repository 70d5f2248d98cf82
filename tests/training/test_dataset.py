"""Reading and splitting: whole scenes to one side, the same ones each time, told by a digest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from irdet.core.errors import DataError, UsageError
from irdet.core.frame import Preprocessor
from irdet.core.images import read_image
from irdet.data.crops import LabelledFrame
from irdet.data.protocol import resize_protocol
from irdet.data.synth.deep import make_deep_scene
from irdet.training import dataset
from irdet.training.dataset import load_training_data, stretch
from irdet.training.recipe import Recipe


def write_set(root: Path, scenes: int = 6, views: int = 3, *, targets: bool = True) -> Path:
    """Frames that pan over textures of their own: `views` of each scene, numbered at random."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    numbers = iter(rng.permutation(1000)[: scenes * views] * 2)
    for scene in range(scenes):
        texture = cv2.GaussianBlur(rng.random((160, 200), dtype=np.float32), (0, 0), 2.5)
        texture = cv2.normalize(texture, None, 40, 170, cv2.NORM_MINMAX)
        for view in range(views):
            image = texture[5 * view : 5 * view + 128, 8 * view : 8 * view + 150].copy()
            mask = np.zeros(image.shape, np.uint8)
            if targets:
                y, x = rng.integers(20, 100, 2)
                mask[y : y + 3, x : x + 3] = 255
                image[mask > 0] += 80
            name = f"s{scene}_{next(numbers)}.png"
            cv2.imwrite(str(root / "images" / name), np.clip(image, 0, 255).astype(np.uint8))
            cv2.imwrite(str(root / "masks" / name), mask)
    return root


def write_free(root: Path) -> Path:
    """Ten target-free frames."""
    root.mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8)
        cv2.imwrite(str(root / f"f{number}.png"), noise)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set") / "made")


def test_scenes_are_not_split(made: Path) -> None:
    data = load_training_data(made, None, Recipe(fold=2))
    held = {name.split("_")[0] for name in data.validation_names}
    assert len(data.validation) + len(data.train) == 18
    assert len(data.validation_names) == 3 * len(held), "a scene is held back with all its views or not at all"
    assert 1 <= len(held) <= 3
    assert data.description["train_images"] == len(data.train)


def test_every_image_is_held_out_in_one_fold_whatever_the_seed(made: Path) -> None:
    parts = [load_training_data(made, None, Recipe(fold=fold)) for fold in range(1, 6)]
    assert sorted(name for part in parts for name in part.validation_names) == sorted(
        path.stem for path in (made / "images").iterdir()
    )
    again = load_training_data(made, None, Recipe(fold=2, seed=9))
    assert again.digest == parts[1].digest and again.validation_names == parts[1].validation_names
    assert len({part.digest for part in parts}) == 5


def test_fold_0_trains_on_everything(made: Path, tmp_path: Path) -> None:
    data = load_training_data(made, write_free(tmp_path / "free"), Recipe(fold=0))
    assert len(data.train) == 18 and not data.validation and not data.free_validation and len(data.backgrounds) == 10


def test_target_free_frames_are_split_too(made: Path, tmp_path: Path) -> None:
    data = load_training_data(made, write_free(tmp_path / "free"), Recipe())
    assert (len(data.backgrounds), len(data.free_validation)) == (8, 2)
    assert not any(frame.mask.any() for frame in (*data.backgrounds, *data.free_validation))
    assert data.digest != load_training_data(made, None, Recipe()).digest


def test_views_of_one_target_free_scene_are_held_out_together(made: Path, tmp_path: Path) -> None:
    """Else what a network cries wolf at on held-out frames is told by frames that it has seen."""
    free = tmp_path / "free"
    write_set(tmp_path / "views", 6, 3, targets=False).joinpath("images").rename(free)
    scenes = {read_image(path).tobytes(): path.name.split("_")[0] for path in free.iterdir()}

    def held(fold: int) -> list[str]:
        data = load_training_data(made, free, Recipe(fold=fold))
        assert len(data.backgrounds) + len(data.free_validation) == 18
        return [scenes[np.rint(frame.pixels * 255).astype(np.uint8).tobytes()] for frame in data.free_validation]

    parts = [held(fold) for fold in range(1, 6)]
    assert sorted(name for part in parts for name in part) == sorted(scenes.values())
    assert all(part.count(name) == 3 for part in parts for name in part)
    assert held(0) == []


def test_scenes_are_looked_for_once(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told: list[object] = []
    first = load_training_data(made, None, Recipe(), advance=lambda n=1, **more: told.extend(more.values()))
    assert told[-1] == "of 18 of 18 frames compared"
    (kept,) = tmp_path.rglob("*.json")
    with monkeypatch.context() as once:
        once.delattr(dataset, "group_scenes")
        assert load_training_data(made, None, Recipe()).digest == first.digest
    kept.write_text("[1]")  # of something else, or damaged
    assert load_training_data(made, None, Recipe()).digest == first.digest


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image with a target"):
        load_training_data(write_set(tmp_path / "empty", 2, 2, targets=False), None, Recipe())


def test_a_side_without_targets_is_refused(tmp_path: Path) -> None:
    """Without targets held out the first network would be the best; with all of them held out none would learn."""
    root = write_set(tmp_path / "few", 5, 1)
    files = sorted((root / "masks").iterdir())
    for file in files[1:]:
        cv2.imwrite(str(file), 0 * read_image(file))
    told = set()
    for fold in range(1, 6):
        with pytest.raises(DataError, match=f"with fold {fold} held out, for no target lies on that side") as error:
            load_training_data(root, None, Recipe(fold=fold))
        told.add(str(error.value).split("nothing to ")[1].split(" ")[0])
    assert told == {"learn", "validate"}


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", 3, 2)
    plain = load_training_data(root, None, Recipe(fold=0)).digest
    for folder in ("images", "masks"):
        file = min((root / folder).iterdir())
        file.rename(file.with_name(os.fsdecode(b"s\xff.png")))
    assert load_training_data(root, None, Recipe(fold=0)).digest != plain


def test_one_scene_cannot_be_split(tmp_path: Path) -> None:
    one = write_set(tmp_path / "one", 1, 3)
    with pytest.raises(UsageError, match="shows one scene, so fold 1 cannot be held out: --fold 0 trains on all"):
        load_training_data(one, None, Recipe())
    assert len(load_training_data(one, None, Recipe(fold=0)).train) == 3


def test_a_fold_that_does_not_exist_is_misuse(tmp_path: Path) -> None:
    three = write_set(tmp_path / "three", 3, 2)
    with pytest.raises(UsageError, match="has images of folds 1, 2, 3 alone, so fold 5 cannot be held out"):
        load_training_data(three, None, Recipe(fold=5))
    assert load_training_data(three, None, Recipe(fold=3)).validation
    parted = write_set(tmp_path / "parted", 2, 2)
    for old, number in zip(sorted((parted / "images").iterdir()), (3, 8, 17, 4), strict=True):
        for kind in ("images", "masks"):
            (parted / kind / old.name).rename(parted / kind / f"Misc_{number}.png")
    with pytest.raises(UsageError, match="has images of folds 1, 5 alone, so fold 3 cannot be held out"):
        load_training_data(parted, None, Recipe(fold=3))
    (parted / "images" / "Misc_4.png").unlink()
    with pytest.raises(UsageError, match="has images of folds 1 alone, so fold 1 cannot be held out"):
        load_training_data(parted, None, Recipe(fold=1))


def test_locally_mapped_frames_are_there_where_the_recipe_asks(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "DEEP_SCENES", 3)
    free = write_free(tmp_path / "free")
    assert load_training_data(made, free, Recipe()).local == ()
    data = load_training_data(made, free, Recipe(local_share=0.1))
    assert len(data.local) == len(data.backgrounds) + 3
    *mapped, last = data.local
    np.testing.assert_array_equal(
        mapped[0].pixels, Preprocessor(mode="local")(np.round(data.backgrounds[0].pixels * 255).astype(np.uint8)).pixels
    )
    assert last.mask.any() and last.pixels.dtype == np.float32
    assert abs(float(np.median(last.pixels)) - 0.25) < 0.05, "what does not stand out has the level of the mapping"
    assert data.description["deep_scenes"] == 3


def test_deep_frames_are_mapped_locally_from_their_counts(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained on is what runs: 8 bits would leave a third of the grey levels of a dim scene."""
    monkeypatch.setattr(dataset, "DEEP_SCENES", 0)
    free = tmp_path / "free"
    free.mkdir()
    raw = make_deep_scene(1).raw
    cv2.imwrite(str(free / "deep.png"), raw)
    data = load_training_data(made, free, Recipe(fold=0, local_share=0.1))
    np.testing.assert_array_equal(data.local[0].pixels, Preprocessor(mode="local")(raw).pixels)


@pytest.mark.parametrize("depth", [8, 16])
def test_stretching_is_that_of_evaluation(depth: int) -> None:
    """The papers' protocol resizes counts; validation must not see other pixels than `irdet eval` does."""
    raw = np.random.default_rng(0).integers(0, 2**depth, (50, 70), f"uint{depth}")
    raw.flat[:2] = 0, 2**depth - 1
    mask = np.zeros(raw.shape, bool)
    wanted = Preprocessor((0, 2**depth - 1))(resize_protocol(raw, mask, (96, 96))[0]).pixels
    given = stretch(LabelledFrame(Preprocessor()(raw).pixels, mask), 96).pixels
    np.testing.assert_allclose(given, wanted, atol=1e-6)
