"""Features of test images on disk, and training on views that were encoded beforehand."""

import os
import random
import resource
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from helpers import at_once
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader

import datasets  # noqa: F401 - registers Folder
import train
import trainers.baselines  # noqa: F401 - registers the trainers
from varprompt.errors import ConfigError, DataError
from varprompt.images import feature_cache
from varprompt.images.encode import data_source
from varprompt.images.feature_cache import FeatureCache, cache_folder, is_deterministic
from varprompt.images.loaders import derive_seed
from varprompt.images.read import ImageItems
from varprompt.run.interrupt import EXIT_RESUMABLE
from varprompt.run.results import read_results
from varprompt.settings.merge import difference

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("sun", "king of hearts", "small ring")
KEY, OTHER_KEY, THIRD_KEY = "ab" * 32, "cd" * 32, "ef" * 32
COUNTS = {"train": 5, "test": 7}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of 15 training and 21 test images of odd sizes."""
    root = tmp_path_factory.mktemp("data")
    noise = np.random.RandomState(3)
    for part, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            folder = root / "pictures" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = noise.randint(0, 90, (37, 41, 3), dtype=np.uint8)
                pixels[5 * label : 12 + 5 * label, 7:30] += 150
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of the cache: empty, and not the user's."""
    monkeypatch.setenv("VARPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def configure(images):
    """Return a function: trainer, output folder, KEY VALUE pairs -> frozen config."""

    def configure(trainer, output, *opts, flags=(), root=images):
        argv = [
            "--root", str(root), "--trainer", trainer, "--seed", "1",
            "--output-dir", str(output), *flags,
            "--dataset-config-file", str(ROOT / "configs/datasets/custom.yaml"),
            "--config-file", str(ROOT / "configs/trainers/VPT/embedded.yaml"),
            "DATASET.PATH", "pictures", "TRAINER.COOP.PREC", "fp32",
            "DATALOADER.TRAIN_X.BATCH_SIZE", "4", "DATALOADER.TEST.BATCH_SIZE", "5",
            "INPUT.TRANSFORMS", "['random_resized_crop', 'normalize']",
            "OPTIM.MAX_EPOCH", "3", "TRAINER.VPT.L", "3", *map(str, opts),
        ]  # fmt: skip
        return train.setup_cfg(train.parser().parse_args(argv))

    return configure


@pytest.fixture
def make(configure, tmp_path):
    """Return a function: trainer, name of the output folder, KEY VALUE pairs -> trainer."""

    def make(trainer="VPT", output="run", *opts, **where):
        set_random_seed(1)
        return build_trainer(configure(trainer, tmp_path / output, *opts, **where))

    return make


@pytest.fixture
def read(configure, tmp_path):
    """Return a function that gets mean colours as features, and tells if they were computed."""

    def read(*opts, root=None, cache=None, is_train=False, scale=1, **identity):
        where = {"root": root} if root else {}
        cfg, computed = configure("VPT", tmp_path, *opts, **where), []
        random.seed(cfg.SEED)
        items = build_dataset(cfg).test
        images = ImageItems(cfg, items, build_transform(cfg, is_train))
        loader = DataLoader(images, cfg.DATALOADER.TEST.BATCH_SIZE)

        def encode(batch):
            computed.append(len(batch))
            return scale * batch.mean((2, 3))

        cache = cache or quiet_cache()[0]
        found = cache.features(loader, encode, **{"weights": "w", **identity})
        return found, bool(computed)

    return read


def entries(folder):
    return sorted(folder.glob("*.safetensors"))


def counted(trainer):
    """Batch sizes that the image tower sees from now on."""
    calls, encode = [], trainer.towers.encode_image
    trainer.towers.encode_image = lambda images: calls.append(len(images)) or encode(images)
    return calls


def quiet_cache(limit=1e9):
    notes = []
    return FeatureCache(limit, notes.append), notes


def random_features(seed, n_images=6, width=11):
    return torch.randn(n_images, width, generator=torch.Generator().manual_seed(seed))


def parameters(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.prompt_learner.parameters()])


# what is cached


def test_second_test_reads_what_the_first_computed_bit_for_bit(make, folder, capsys):
    uncached, first = make(flags=["--no-cache"]), make(output="first")
    uncached.test()
    assert not entries(folder)
    first.test()
    second = make(output="second")
    calls = counted(second)
    second.test()
    assert calls == [] and len(entries(folder)) == 1
    assert f"Image features from {entries(folder)[0]}" in capsys.readouterr().out
    results = [read_results(t.output_dir) for t in (uncached, first, second)]
    assert len({r["nll"] for r in results}) == 1
    assert results[0]["n_total"] == 3 * COUNTS["test"]
    assert not difference(uncached.cfg.dump(), first.cfg.dump())  # the same run, else

    log_prob, labels = [], []  # Dassl's own loop, from images
    for batch in uncached.test_loader:
        log_prob.append(uncached.predictor()(uncached.towers.encode_image(batch["img"])))
        labels.append(batch["label"])
    nll = torch.nn.functional.nll_loss(torch.cat(log_prob).double(), torch.cat(labels))
    assert results[2]["nll"] == pytest.approx(nll.item(), abs=1e-12)


def test_features_are_shared_by_trainers_seeds_and_samples(make, folder):
    make().test()
    for name in ("VPT_CoCoOp", "CoOp", "ZeroshotCLIP"):
        options = ("TRAINER.VPT.L_TEST", 2, "TRAINER.VPT.KL_REDUCTION", "sum", "SEED", 5)
        trainer = make(name, name, *options)
        calls = counted(trainer)
        trainer.test()
        assert calls == [], name
    assert len(entries(folder)) == 1
    coarse = make("VPT", "coarse", "TRAINER.VPT.PREC", "bf16")
    coarse.test()
    assert len(entries(folder)) == 2


@pytest.mark.parametrize(
    "opts",
    [
        ("DATASET.SUBSAMPLE_CLASSES", "base"),
        ("INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]"),
        ("INPUT.TRANSFORMS", "['normalize', 'instance_norm']"),
        ("INPUT.INTERPOLATION", "bilinear"),
        ("INPUT.SIZE", "(31, 31)"),
        ("DATALOADER.TEST.BATCH_SIZE", 6),  # rounds differently
    ],
)
def test_what_changes_features_makes_another_entry(read, folder, opts):
    read()
    assert read()[1] is False
    changed, computed = read(*opts)
    assert computed and len(entries(folder)) == 2
    again, computed = read(*opts)
    assert not computed and torch.equal(again, changed)


def test_features_that_are_not_finite_are_not_kept(read, folder):
    broken = read(scale=float("inf"))
    assert broken[1] and not entries(folder)
    assert read(scale=float("inf"))[1] is True


def test_weights_are_part_of_the_key(read):
    read(weights="w")
    assert read(weights="v")[1] is True


def test_whether_images_are_turned_upright_is_part_of_the_key(tmp_path, folder):
    """The same file is another picture in a data set that reads it as it is stored."""
    file, exif = tmp_path / "phone.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tri(16, dtype=np.uint8) * 255).save(file, exif=exif)
    transform, found = T.Compose([T.Resize(8), T.CenterCrop(8), T.ToTensor()]), []
    for upright in (False, True):
        items = [SimpleNamespace(impath=str(file), label=0, domain=0, upright=upright)]
        loader = DataLoader(ImageItems(None, items, transform), batch_size=1)
        found.append(quiet_cache()[0].features(loader, lambda batch: batch.flatten(1)))
    assert (found[0] != found[1]).any() and len(entries(folder)) == 2


def test_random_transforms_are_not_cached(read, folder):
    assert [read(is_train=True)[1] for _ in range(2)] == [True, True]
    assert not entries(folder)


def test_unknown_transforms_count_as_random():
    assert is_deterministic(T.Compose([T.Resize(3), T.CenterCrop(3), T.ToTensor()]))
    assert not is_deterministic(T.Compose([T.Resize(3), T.RandomCrop(2)]))
    assert not is_deterministic(lambda image: image)
    assert not is_deterministic(None)


# what changes under the cache's feet


@pytest.fixture
def moved(images, tmp_path):
    return Path(shutil.copytree(images, tmp_path / "elsewhere"))


def test_moved_data_are_recognised(read, moved):
    here, _ = read()
    there, computed = read(root=moved)
    assert not computed and torch.equal(here, there)


def test_changed_image_is_noticed(read, moved):
    before, _ = read(root=moved)
    path = moved / "pictures/test/sun/3.png"
    size = path.stat().st_size
    Image.new("RGB", (37, 41), "red").save(path)
    after, computed = read(root=moved)
    changed = (before != after).any(1)
    assert computed and changed.sum() == 1
    with open(path, "ab") as file:  # the same size as before, another time
        file.write(bytes(max(0, size - path.stat().st_size)))
    assert read(root=moved)[1] is True


def test_image_of_equal_size_and_time_is_noticed(read, moved, monkeypatch):
    """Content decides, whoever sets whatever times."""
    monkeypatch.setattr("varprompt.images.content._TICK", 0)  # so that digests are remembered
    for path in (moved / "pictures/test/sun").iterdir():
        path.with_suffix(".bmp").write_bytes(path.read_bytes())
        path.unlink()
    path = moved / "pictures/test/sun/3.bmp"
    Image.new("RGB", (37, 41), "red").save(path)
    before, _ = read(root=moved)
    assert read(root=moved)[1] is False
    found = path.stat()
    Image.new("RGB", (37, 41), "blue").save(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    after, computed = read(root=moved)
    assert computed and (before != after).any(1).sum() == 1


def test_image_replaced_while_others_are_encoded_is_not_kept(read, moved, folder, monkeypatch):
    path, encode = moved / "pictures/test/sun/3.png", feature_cache.encode_images

    def encode_images(*args):
        features = encode(*args)
        Image.new("RGB", (37, 41), "red").save(path)
        return features

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "encode_images", encode_images)
        read(root=moved)
    assert not entries(folder) and read(root=moved)[1] is True


def test_added_image_is_noticed(read, moved):
    read(root=moved)
    shutil.copy(moved / "pictures/test/sun/3.png", moved / "pictures/test/sun/30.png")
    after, computed = read(root=moved)
    assert computed and len(after) == 3 * COUNTS["test"] + 1


# entries that cannot be trusted


def flip_last_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def rename_other(path):
    os.replace(path.with_name(f"{OTHER_KEY}.safetensors"), path)


DAMAGE = {
    "one bit": flip_last_bit,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 7),
    "empty": lambda path: os.truncate(path, 0),
    "text": lambda path: path.write_text("<html>quota exceeded</html>"),
    "huge header": lambda path: path.write_bytes(b"\xff" * 64),
    "another entry": rename_other,
    "no metadata": lambda path: save_file({"features": random_features(1)}, path),
    "other tensor": lambda path: save_file({"f": random_features(1)}, path, {"key": KEY}),
    "half precision": lambda path: save_file(
        {"features": random_features(1).half()}, path, {"key": KEY}
    ),
    "a picture": lambda path: Image.new("RGB", (9, 9)).save(path, "PNG"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_entry_is_reported_deleted_and_replaced(folder, damage):
    cache, notes = quiet_cache()
    cache.write(KEY, random_features(1))
    cache.write(OTHER_KEY, random_features(2))
    path = folder / f"{KEY}.safetensors"
    damage(path)
    assert cache.read(KEY, 6) is None
    assert len(notes) == 1 and str(path) in notes[0] and "is damaged" in notes[0]
    assert not path.exists()
    cache.write(KEY, random_features(1))
    assert torch.equal(cache.read(KEY, 6), random_features(1))


def test_entry_of_another_number_of_images_is_not_used(folder):
    cache, notes = quiet_cache()
    cache.write(KEY, random_features(1))
    assert cache.read(KEY, 5) is None and "is damaged" in notes[0]


def test_damaged_entry_of_a_run_is_computed_again(read, folder):
    good, _ = read()
    flip_last_bit(entries(folder)[0])
    again, computed = read()
    assert computed and torch.equal(good, again)
    assert read()[1] is False


# room


def test_least_recently_used_entries_go_first(folder):
    features = random_features(0, 900)
    entry = features.nbytes
    cache, _ = quiet_cache(2.5 * entry)
    for age, key in ((30, KEY), (20, OTHER_KEY)):
        cache.write(key, features)
        os.utime(folder / f"{key}.safetensors", (1e9 - age, 1e9 - age))
    others = [folder / name for name in ("thesis.safetensors", f"{KEY}.txt", ".thesis")]
    for path in others:
        path.write_bytes(bytes(5 * entry))
    abandoned = folder / f".{KEY}.safetensors.x1_y2"  # of a process that was killed
    abandoned.write_bytes(bytes(entry))
    os.utime(abandoned, (1e9 - 40, 1e9 - 40))
    assert cache.read(KEY, 900) is not None  # used now
    cache.write(THIRD_KEY, features)
    assert {p.name[:2] for p in entries(folder)} == {KEY[:2], THIRD_KEY[:2], "th"}
    assert not abandoned.exists() and all(path.exists() for path in others)


def test_entry_beyond_the_limit_is_not_stored(folder):
    cache, notes = quiet_cache(1100)
    cache.write(KEY, random_features(0))
    assert not entries(folder) and "TEST.CACHE_SIZE_GB" in notes[0]


def test_limit_zero_reads_nothing(read, folder):
    read()
    assert read(cache=quiet_cache(0)[0])[1] is True
    assert len(entries(folder)) == 1


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/here"])
def test_unusable_folder_costs_one_note(read, folder, monkeypatch, place):
    folder.write_text("in the way")
    where = {"a file": folder, "below a file": folder / "cache"}.get(place, Path(place))
    monkeypatch.setenv("VARPROMPT_CACHE", str(where))
    cache, notes = quiet_cache()
    assert [read(cache=cache)[1] for _ in range(3)] == [True] * 3
    assert [note.split(" are not ")[0] for note in notes] in (
        ["Image features"], ["Digests of images", "Image features"],
    )  # fmt: skip
    assert all("set VARPROMPT_CACHE" in note for note in notes)


def test_full_disk_costs_one_note(folder):
    cache, notes = quiet_cache()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        for _ in range(2):
            assert cache.read(KEY, 6) is None
            cache.write(KEY, random_features(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(notes) == 1 and "File too large" in notes[0]
    assert not list(folder.iterdir())


def test_folder_by_default_and_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VARPROMPT_CACHE", "~/features")
    assert cache_folder() == tmp_path / "features"
    monkeypatch.delenv("VARPROMPT_CACHE")
    assert cache_folder() == tmp_path / ".cache/varprompt/features"
    assert "~/.cache/varprompt/features" in " ".join(train.parser().format_help().split())


def test_many_at_once_read_whole_entries_or_none(folder):
    entry = random_features(0, 200, 64).nbytes + 1000
    keys = [f"{i:064x}" for i in range(4)]
    wrong, notes = [], []

    def work(number):
        cache = FeatureCache(2.2 * entry, notes.append)
        for turn in range(30):
            i = (number + turn) % len(keys)
            found = cache.read(keys[i], 200)
            if found is None:
                cache.write(keys[i], random_features(i, 200, 64))
            elif not torch.equal(found, random_features(i, 200, 64)):
                wrong.append(i)

    at_once(work, 4)
    assert not wrong
    assert {note.split(str(folder))[0] for note in notes} == {"Image features from "}
    assert len(entries(folder)) <= 4 and len(list(folder.iterdir())) == len(entries(folder))


# images that cannot be read


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("part", ["test", "train"])
def test_undecodable_image_is_named(make, moved, part, n_workers):
    path = moved / f"pictures/{part}/small ring/2.png"
    os.truncate(path, path.stat().st_size // 2)
    trainer = make(
        "VPT", "run", "DATALOADER.NUM_WORKERS", n_workers, "TRAIN.FEATURE_CACHE", 1, root=moved
    )
    with pytest.raises(DataError) as caught:
        trainer.test() if part == "test" else trainer.train()
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_vanished_image_is_named(make, moved):
    trainer = make(root=moved)
    path = moved / "pictures/test/sun/3.png"
    path.unlink()
    with pytest.raises(DataError, match=str(path)):
        trainer.test()


# views


PLAIN = ("INPUT.TRANSFORMS", "['normalize']", "TRAINER.VPT.KL_WEIGHT", 0.1)


def test_one_view_without_augmentation_trains_as_without_cache(make):
    plain, cached = make("VPT", "plain", *PLAIN), make("VPT", "c", *PLAIN, "TRAIN.FEATURE_CACHE", 1)
    start = parameters(cached)
    calls = counted(cached)
    plain.train()
    cached.train()
    n_images = 3 * COUNTS["train"]
    assert sum(calls[:3]) == n_images and sum(calls) in (n_images, n_images + 3 * COUNTS["test"])
    assert (parameters(cached) - start).norm() > 0.01
    torch.testing.assert_close(parameters(cached), parameters(plain), rtol=0, atol=1e-6)


def test_epochs_show_the_views_in_turn(make):
    trainer = make("VPT", "run", "TRAIN.FEATURE_CACHE", 2)
    images = trainer.train_loader_x.dataset
    trainer.before_train()
    trainer.close_writer()
    loader, shown = trainer.train_loader_x, []
    for epoch in range(3):
        loader.batch_sampler.epoch = epoch
        rows = [(int(i), f) for b in loader for i, f in zip(b["index"], b["features"], strict=True)]
        shown.append(dict(rows))
    for i in set(shown[0]) & set(shown[1]) & set(shown[2]):
        assert torch.equal(shown[0][i], shown[2][i])
        assert not torch.allclose(shown[0][i], shown[1][i], atol=1e-3)
        view = images[i, derive_seed(trainer.seed, "view", 1, i)]["img"][None]
        torch.testing.assert_close(trainer.encode_image(view)[0], shown[1][i], rtol=0, atol=1e-6)
    assert data_source(loader.dataset)[4].impath == images.items.data_source[4].impath


@pytest.mark.parametrize("stop_at", [2, 5])
def test_interrupted_training_on_views_goes_on_bit_for_bit(make, stop_at):
    opts = ("TRAIN.FEATURE_CACHE", 2, "TEST.NO_TEST", True)
    whole, broken = make("VPT", "whole", *opts), make("VPT", "broken", *opts)
    whole.train()
    step, steps = broken.forward_backward, []

    def interrupted(batch):
        steps.append(batch)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(batch)

    broken.forward_backward = interrupted
    with pytest.raises(SystemExit) as left:
        broken.train()
    assert left.value.code == EXIT_RESUMABLE
    broken.close_writer()
    resumed = make("VPT", "broken", *opts)
    resumed.train()
    assert torch.equal(parameters(resumed), parameters(whole))


# configuration


def test_bad_values_are_named(make):
    with pytest.raises(ConfigError) as caught:
        make("VPT", "run", "TEST.CACHE_SIZE_GB", -1, "TRAIN.FEATURE_CACHE", -2)
    assert [p.split()[0] for p in caught.value.problems] == [
        "TEST.CACHE_SIZE_GB", "TRAIN.FEATURE_CACHE",
    ]  # fmt: skip
