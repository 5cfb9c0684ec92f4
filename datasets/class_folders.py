"""Data sets that are one folder per class, divided into 50 % train, 20 % val, 30 % test."""

from .base import FewShotDataset
from .rules import split_50_20_30
from .splits import Item, Split


class ClassFolders(FewShotDataset):
    """Labels follow the sorted folder names; a class is called like its folder or its rename."""

    ignored: frozenset[str] = frozenset()
    renames: dict[str, str] = {}

    def build_split(self) -> Split:
        """Divide every class at random."""
        folders = [name for name in self.folder_names() if name not in self.ignored]
        items = [
            Item(f"{folder}/{name}", label, self.renames.get(folder, folder))
            for label, folder in enumerate(folders)
            for name in self.file_names(folder)
        ]
        return split_50_20_30(items, self.image_dir)
