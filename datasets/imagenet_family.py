"""What ImageNet and its four test sets share: class folders named by classnames.txt."""

import os

from varprompt.common.checks import Problems
from varprompt.errors import DataError

from .base import FewShotDataset, google_drive
from .splits import Item, Split

CLASSNAMES = "classnames.txt"
CLASSNAMES_SOURCE = google_drive("1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF")


class ImageNetFamily(FewShotDataset):
    """Labels follow the sorted folder names unless :meth:`classes` says otherwise."""

    def named_folders(self) -> dict[str, str]:
        """Return folder -> class name in the order of classnames.txt."""
        return self.read_classnames(self.need(CLASSNAMES))

    def classes(self, folder: str) -> dict[str, str]:
        """Return class folder -> class name in the order of the labels."""
        return dict(sorted(self.named_folders().items()))

    def read_folder(self, folder: str = "") -> list[Item]:
        """Return the images of all class folders in a folder of ``image_dir``.

        Raises:
            DataError: lists the classes without a folder and the folders without a class.
        """
        classes, present = self.classes(folder), set(self.folder_names(folder))
        problems = Problems()
        for name in sorted(classes.keys() - present):
            problems.add("class folders that are missing", name)
        for name in sorted(present - classes.keys()):
            problems.add(f"folders that {CLASSNAMES} does not name", name)
        problems.raise_if_any(
            f"{os.path.join(self.image_dir, folder)} and {CLASSNAMES} disagree (for a part of the "
            f"classes on purpose, shorten {CLASSNAMES})"
        )
        return [
            Item(os.path.join(folder, class_folder, name), label, classname)
            for label, (class_folder, classname) in enumerate(classes.items())
            for name in self.file_names(os.path.join(folder, class_folder))
        ]


class ImageNetTestSet(ImageNetFamily):
    """A test set for models trained on ImageNet: NUM_SHOTS and SUBSAMPLE_CLASSES do not apply."""

    test_only = True

    def build_split(self) -> Split:
        """Return the test images, also as training list, for its class names."""
        items = self.read_folder()
        return Split(items, [], items)


class PartOfImageNet(ImageNetTestSet):
    """A test set with only some of ImageNet's classes; the classifier knows just these."""

    def classes(self, folder: str) -> dict[str, str]:
        """Return the classes that have a folder."""
        names = self.named_folders()
        return {name: names[name] for name in self.folder_names(folder) if name in names}


class NumberedImageNet(ImageNetTestSet):
    """A test set whose folders are called 0, 1, 2, ... like the labels."""

    def classes(self, folder: str) -> dict[str, str]:
        """Number the classes of classnames.txt.

        Raises:
            DataError: if the file is not sorted, which would give the classes wrong names.
        """
        names = self.named_folders()
        if list(names) != sorted(names):
            raise DataError(
                f"{os.path.join(self.dataset_dir, CLASSNAMES)}: the lines must be sorted, because "
                "the folders of the images are numbered in that order"
            )
        return {str(label): name for label, name in enumerate(names.values())}
