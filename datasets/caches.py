"""Reads what CoOp pickled (few-shot choices, ImageNet's lists) without running any of it."""

import os
import pickle

from varprompt.common.checks import Problems
from varprompt.errors import DataError, brief, pass_on_memory

from .splits import Item, leaves_folder

DATUM = ("dassl.data.datasets.base_dataset", "Datum")


def read_coop_pickle(path: str, anchor: str) -> dict[str, list[Item]]:
    """Return the lists of a pickle that CoOp wrote: name -> items.

    Args:
        path: the pickle.
        anchor: the end of the image folder's path, such as "caltech-101/101_ObjectCategories".
            The absolute paths in the file, possibly another machine's, are cut behind it.

    Raises:
        DataError: if the file is damaged, holds anything but lists of Datum, or names images that
            are not under the anchor.
    """
    content = _load(path)
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise DataError(f"{path}: expected CoOp's dict of lists of Datum")
    problems = Problems()
    names: dict[str, str] = {}
    lists = {
        str(part): [_item(datum, anchor, names, problems) for datum in data]
        for part, data in content.items()
    }
    problems.raise_if_any(f"{path}: entries that cannot be used")
    return lists


def _item(datum: object, anchor: str, names: dict[str, str], problems: Problems) -> Item | None:
    fields = getattr(datum, "__dict__", {})
    impath, label, name = (fields.get(f) for f in ("_impath", "_label", "_classname"))
    if not (isinstance(impath, str) and isinstance(label, int) and isinstance(name, str)):
        problems.add("not a Datum with path, label and class name", brief(fields))
        return None
    _, found, path = impath.replace(os.sep, "/").rpartition(f"/{anchor}/")
    if not found or leaves_folder(path):
        problems.add(f"images that are not under {anchor}", repr(impath))
        return None
    return Item(path, label, names.setdefault(name, name))


def _load(path: str) -> object:
    class Record:
        """Stands in for Datum; made anew so that a hostile file cannot change it for others."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> type:
            if (module, name) == DATUM:
                return Record
            raise DataError(
                f"{path}: refused, because it wants to load {module}.{name}; a cache of CoOp "
                f"holds nothing but {'.'.join(DATUM)} and plain containers. Delete it"
            )

    try:
        with open(path, "rb") as file:
            return Unpickler(file).load()
    except DataError:
        raise
    except MemoryError as error:
        if not _has_room_for(path):
            raise
        raise DataError(f"{path}: a damaged cache (a length without end); delete it") from error
    except Exception as error:  # a damaged pickle may raise anything
        pass_on_memory(error, f"reading {path}")
        raise DataError(f"{path}: a damaged cache ({brief(error)}); delete it") from error


def _has_room_for(path: str) -> bool:
    """Whether the memory holds what a true cache of this size needs: else it is not at fault.

    A damaged length asks for more than any memory has.
    """
    try:
        bytearray(10 * os.path.getsize(path))
    except MemoryError:
        return False
    return True
