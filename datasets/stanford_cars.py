"""Stanford Cars (Krause et al. 2013): makes, models and years."""

from dassl.data.datasets import DATASET_REGISTRY

from varprompt.errors import DataError

from .annotations import load_matlab
from .base import FewShotDataset, google_drive
from .rules import split_80_20
from .splits import Item, Split

KRAUSE = "https://ai.stanford.edu/~jkrause"
COPIES = "https://github.com/pytorch/vision/issues/7545"  # Krause's pages were reported dead


@DATASET_REGISTRY.register()
class StanfordCars(FewShotDataset):
    """196 cars, named with the year first: "2012 Audi TTS Coupe"."""

    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    sources = {
        "cars_train/": COPIES,
        "cars_test/": COPIES,
        "devkit/": f"{KRAUSE}/cars/car_devkit.tgz",
        "cars_test_annos_withlabels.mat": f"{KRAUSE}/car196/cars_test_annos_withlabels.mat",
        "split_zhou_StanfordCars.json": google_drive("1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
    }
    only_without_split = ("devkit/", "cars_test_annos_withlabels.mat")
    sizes = (6509, 1635, 8041)
    n_classes = 196

    def build_split(self) -> Split:
        """Keep the official test list; divide the official training list at random."""
        trainval = self._read("cars_train", "devkit/cars_train_annos.mat")
        test = self._read("cars_test", "cars_test_annos_withlabels.mat")
        return split_80_20(trainval, test, self.dataset_dir)

    def _read(self, folder: str, annotations: str) -> list[Item]:
        path = self.need(annotations)
        names = load_matlab(self.need("devkit/cars_meta.mat"), "class_names")
        items = []
        try:
            for row in load_matlab(path, "annotations"):
                label = int(row["class"][0, 0]) - 1
                model, _, year = str(names[label][0]).rpartition(" ")
                items.append(Item(f"{folder}/{row['fname'][0]}", label, f"{year} {model}"))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: row {len(items)} has another form ({error!r})") from error
        return items
