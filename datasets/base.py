"""What the data sets share: from a folder and a config to the lists that a Dassl trainer reads."""

import os
import random
from collections import Counter
from collections.abc import Callable

from dassl.data.datasets import DatasetBase, Datum

from varprompt.errors import ConfigError
from varprompt.images.tree import suffixes
from varprompt.settings.options import SUBSETS

from .caches import read_coop_pickle
from .coop import CoOpHelpers, make_datum
from .missing import MissingError, looks_like
from .rules import one_of, subsample_classes
from .splits import Item, Split, check_choice, check_split, read_split, same_prompts

MAX_VAL_SHOTS = 4  # CoOp draws at most four validation images per class
ATTENTION = "ATTENTION: "  # begins a line that says why figures cannot be compared


def log_line(message: str) -> None:
    """Write one line into the log of the run, which is Dassl's redirected standard output."""
    print(message)  # noqa: T201


def google_drive(file_id: str) -> str:
    """Return the page of a file on Google Drive."""
    return f"https://drive.google.com/file/d/{file_id}/view"


class FewShotDataset(CoOpHelpers, DatasetBase):
    """A data set in CoOp's layout, with CoOp's splits, few-shot choice and class halves.

    A subclass states its class attributes and, where the split file may be missing,
    :meth:`build_split`. The few-shot choice draws from Python's global generator, which train.py
    seeds with ``cfg.SEED``; nothing else here touches it.

    Attributes:
        dataset_dir: folder under ``DATASET.ROOT``; absolute in an instance.
        image_dir: folder of the images inside it, '' = itself; absolute in an instance.
        split_file: name of the split JSON inside ``dataset_dir``, '' = there is none.
        sources: what the folder holds (folders end with '/') and where each comes from.
        only_without_split: the sources that are not needed where the split file is.
        sizes: published numbers of train, val and test images, None = not published.
        n_classes: published number of classes.
        test_only: there is no training list: the test list stands in, never subsampled.
        val_is_test: the test list is also the validation list.
        upright: turn images as their EXIF data says; CoOp reads the protocol's as stored.
        own_data: nobody published what belongs in it, so that a class without test images is said
            instead of refused.
    """

    dataset_dir: str = ""
    image_dir: str = ""
    split_file: str = ""
    sources: dict[str, str] = {}
    only_without_split: tuple[str, ...] = ()
    sizes: tuple[int | None, int | None, int | None] = (None, None, None)
    n_classes: int | None = None
    test_only: bool = False
    val_is_test: bool = False
    upright: bool = False
    own_data: bool = False

    def __init__(self, cfg):
        """Find, check and choose the images.

        Args:
            cfg: the full config; DATASET.ROOT, .NUM_SHOTS, .SUBSAMPLE_CLASSES and SEED are read.

        Raises:
            ConfigError: if an option has no meaning.
            DataError: if files are missing, damaged or contradictory; lists all of them.
        """
        subsample = one_of(cfg.DATASET.SUBSAMPLE_CLASSES, SUBSETS, "DATASET.SUBSAMPLE_CLASSES")
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(self.root, self.dataset_dir)
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_dir))
        before = random.getstate()
        self.prepare(cfg)
        split = self._full_split()
        random.setstate(before)  # importing what these need may draw from it
        if not self.test_only:
            split = subsample_classes(self._few_shot(split, cfg), subsample)
        elif subsample != "all":
            log_line(f"{type(self).__name__} is for testing only: SUBSAMPLE_CLASSES is ignored")
        train, val, test = ([self._datum(item) for item in items] for items in split)
        super().__init__(train_x=train, val=test if self.val_is_test else val or None, test=test)

    def prepare(self, cfg) -> None:
        """Get the folder ready before it is read; the default does nothing.

        ``self.root``, ``self.dataset_dir`` and ``self.image_dir`` are absolute here and may be
        changed. Must leave Python's global generator alone.
        """

    def build_split(self) -> Split:
        """Return the full split when there is no split file.

        Paths of the items are relative to ``self.image_dir``, labels count from 0. Random rules
        use their own generator, so that the few-shot choice does not depend on who built the
        split.

        Raises:
            MissingError: in the default, which explains what is missing and where to get it.
        """
        raise self.missing(self.split_file)

    def file_names(self, folder: str) -> list[str]:
        """Return the sorted names of the files in a folder of ``image_dir``; none if unreadable."""
        return sorted(self.scan(os.path.join(self.image_dir, folder)))

    def scan(self, folder: str) -> list[str]:
        """Return the names of the visible files in a folder, as the system lists them."""
        try:
            with os.scandir(folder) as entries:
                return [e.name for e in entries if not e.name.startswith(".") and _is(e.is_file)]
        except (OSError, ValueError):
            return []

    def folder_names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the visible folders in a folder of ``image_dir``."""
        with os.scandir(self.need(os.path.join(self.image_dir, folder))) as entries:
            return sorted(e.name for e in entries if not e.name.startswith(".") and _is(e.is_dir))

    def need(self, path: str) -> str:
        """Return ``path``, taken relative to ``dataset_dir``, if it exists.

        Raises:
            MissingError: if it does not.
        """
        if not os.path.exists(os.path.join(self.dataset_dir, path)):
            raise self.missing(path)
        return os.path.join(self.dataset_dir, path)

    def missing(self, path: str) -> MissingError:
        """Return the error that says what is missing, what looks like it, and where to get it."""
        path = os.path.normpath(os.path.join(self.dataset_dir, path))
        advice = []
        if self.sources:
            advice = ["Expected (DATASETS.md has the details):", f"  {self.dataset_dir}/"]
            advice += [
                f"    {name:<34} {source}"
                + (" (only needed without the split file)" * (name in self.only_without_split))
                for name, source in self.sources.items()
            ]
        what = f"{type(self).__name__}: {path} does not exist"
        return MissingError(what, looks_like(path), [*advice, self.origin()])

    def origin(self) -> str:
        """Return the sentence that says which option the folder comes from."""
        return f"The folder above it is DATASET.ROOT (--root, DATA of the scripts), now {self.root}"

    def _full_split(self) -> Split:
        """Return the checked lists, before any choice."""
        self.need("")
        self.need(self.image_dir)
        path = os.path.join(self.dataset_dir, self.split_file)
        if self.split_file and os.path.isfile(path):
            log_line(f"Reading split from {path}")
            split = read_split(path)
        else:
            split = self.build_split()
            path = self.dataset_dir
            if self.split_file:
                log_line(
                    f"{ATTENTION}{self.split_file} is missing from {path}. A split was drawn "
                    "instead. It is NOT the official one: do not compare with published figures. "
                    f"Official file: {self.sources.get(self.split_file, 'see DATASETS.md')}"
                )
        where = f"{type(self).__name__}: {path} and its images disagree"
        notes, unnamed = check_split(split, where, self.file_names, lenient=self.own_data)
        images = [path for path in unnamed if os.path.splitext(path)[1].lower() in suffixes()]
        if images and (self.split_file or not self.own_data):  # folders count for themselves
            log_line(f"{len(images)} images beside these are in no list, such as {images[0]}")
        for note in [*notes, *same_prompts(split)]:
            log_line(f"{ATTENTION}{note}")
        self._compare_with_published(split)
        return split

    def _compare_with_published(self, split: Split) -> None:
        sizes = [len(items) for items in split]
        n_classes = len({item.label for item in split.train})
        pairs = zip([*sizes, n_classes], [*self.sizes, self.n_classes], strict=True)
        if any(wanted not in (None, got) for got, wanted in pairs):
            log_line(
                f"{ATTENTION}{type(self).__name__} has {sizes} train, val, test images of "
                f"{n_classes} classes; published figures are for {list(self.sizes)} of "
                f"{self.n_classes}"
            )

    def _few_shot(self, split: Split, cfg) -> Split:
        """Choose NUM_SHOTS training and at most four validation images per class."""
        n_train = cfg.DATASET.NUM_SHOTS
        if n_train == 0 or n_train < -1:
            raise ConfigError(
                f"DATASET.NUM_SHOTS is {n_train}; give a number of images per class, or -1 for all "
                "of them"
            )
        if n_train < 0:
            return split
        few = [n for n in Counter(item.label for item in split.train).values() if n < n_train]
        if few:
            log_line(
                f"{len(few)} classes have fewer than {n_train} training images (the smallest "
                f"{min(few)}); all of them are taken"
            )
        n_shots = {"train": n_train, "val": min(n_train, MAX_VAL_SHOTS)}
        name = f"shot_{n_train}-seed_{cfg.SEED}.pkl"
        cache = os.path.join(self.dataset_dir, "split_fewshot", name)
        if cfg.SEED < 0:
            log_line("SEED is not set: the few-shot images differ from run to run")
        elif os.path.isfile(cache):
            log_line(f"Loading preprocessed few-shot data from {cache}")
            lists = read_coop_pickle(cache, self.anchor)
            chosen = {part: lists.get(part, []) for part in n_shots}
            check_choice(chosen, split, n_shots, cache)
            return split._replace(**chosen)
        return split._replace(
            **{
                part: self.generate_fewshot_dataset(getattr(split, part), num_shots=n)
                for part, n in n_shots.items()
            }
        )

    @property
    def anchor(self) -> str:
        """The part of an image's absolute path that is the same on every machine."""
        return os.path.relpath(self.image_dir, os.path.dirname(self.dataset_dir))

    def _datum(self, item: Item) -> Datum:
        datum = make_datum(os.path.join(self.image_dir, item.path), item.label, item.classname)
        datum.upright = self.upright
        return datum


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False
