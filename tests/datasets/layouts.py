"""Makes each of CoOp's data sets in its true layout, with a few tiny images.

Everything about names and labels is written out here by hand, so that the tests do not
recompute it with the code under test.
"""

import io
import json
import random
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (5, 3), (200, 30, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = _jpeg()

# registry name -> class names in the order of the labels
CLASSNAMES = {
    "Caltech101": ["face", "leopard", "motorbike", "accordion", "airplane", "yin_yang"],
    "OxfordPets": ["abyssinian", "american_bulldog", "birman", "great_pyrenees", "pug"],
    "StanfordCars": [
        "2000 AM General Hummer SUV",
        "2012 Audi TTS Coupe",
        "2012 BMW 1 Series Convertible",
        "1993 Geo Metro Convertible",
        "2012 smart fortwo Convertible",
    ],
    "OxfordFlowers": ["pink primrose", "hard-leaved pocket orchid", "canterbury bells", "iris"],
    "Food101": ["apple_pie", "baby_back_ribs", "macaroni_and_cheese", "waffles"],
    "FGVCAircraft": ["707-320", "Cessna 172", "F-16A/B", "Hawk T1", "A340-300"],
    "SUN397": ["abbey", "outdoor apartment_building", "indoor church", "zen_garden"],
    "DescribableTextures": ["banded", "honeycombed", "polka-dotted", "zigzagged"],
    "EuroSAT": [
        "Annual Crop Land",
        "Forest",
        "Herbaceous Vegetation Land",
        "Highway or Road",
        "Industrial Buildings",
        "Pasture Land",
        "Permanent Crop Land",
        "Residential Buildings",
        "River",
        "Sea or Lake",
    ],
    "UCF101": ["Apply_Eye_Makeup", "Handstand_Pushups", "Tai_Chi", "Yo_Yo"],
    "ImageNet": ["tench", "great white shark", "night snake", "toilet paper"],
    "ImageNetV2": ["tench", "great white shark", "night snake", "toilet paper"],
    "ImageNetSketch": ["tench", "great white shark", "night snake", "toilet paper"],
    "ImageNetA": ["great white shark", "toilet paper"],
    "ImageNetR": ["tench", "night snake", "toilet paper"],
}

# where the classes of a folder layout live: dir, image dir, folders in the order of the labels
FOLDERS = {
    "Caltech101": (
        "caltech-101",
        "101_ObjectCategories",
        ["Faces", "Leopards", "Motorbikes", "accordion", "airplanes", "yin_yang"],
    ),
    "Food101": ("food-101", "images", CLASSNAMES["Food101"]),
    "DescribableTextures": ("dtd", "images", CLASSNAMES["DescribableTextures"]),
    "EuroSAT": (
        "eurosat",
        "2750",
        [
            "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial",
            "Pasture", "PermanentCrop", "Residential", "River", "SeaLake",
        ],
    ),
}  # fmt: skip
EXTRA_FOLDERS = {"Caltech101": ["BACKGROUND_Google", "Faces_easy"]}
SYNSETS = {
    "n01440764": "tench",
    "n01484850": "great white shark",
    "n01740131": "night snake",
    "n15075141": "toilet paper",
}
TRAINABLE = list(CLASSNAMES)[:11]
WITH_SPLIT_FILE = [name for name in TRAINABLE if name not in ("FGVCAircraft", "ImageNet")]


def n_images(label: int) -> int:
    """Different for each class: some have fewer than 16 training images, some more."""
    return 11 + 7 * label


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(JPEG)


def lines(path: Path, content: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(content) + "\n", encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def make(name: str, root: Path) -> Path:
    """Make the images and annotations, without a split file; return the data set's folder."""
    return (_folders if name in FOLDERS else globals()[f"_{name.lower()}"])(name, Path(root))


def _folders(name: str, root: Path) -> Path:
    directory, images, folders = FOLDERS[name]
    for label, folder in enumerate(folders + EXTRA_FOLDERS.get(name, [])):
        for i in range(n_images(label)):
            touch(root / directory / images / folder / f"{folder}_{i}.jpg")
    (root / directory / images / ".DS_Store").write_text("")
    return root / directory


def _oxfordpets(name: str, root: Path) -> Path:
    top, parts = root / "oxford_pets", {"trainval": [], "test": []}
    for label, breed in enumerate(
        ["Abyssinian", "american_bulldog", "Birman", "great_pyrenees", "pug"]
    ):
        for i in range(n_images(label) * 2):
            touch(top / "images" / f"{breed}_{i}.jpg")
            parts["test" if i % 2 else "trainval"].append(f"{breed}_{i} {label + 1} 1 1")
    for part, rows in parts.items():
        random.Random(part).shuffle(rows)
        lines(top / "annotations" / f"{part}.txt", rows)
    return top


def _stanfordcars(name: str, root: Path) -> Path:
    top = root / "stanford_cars"
    names = [n.partition(" ")[2] + " " + n.partition(" ")[0] for n in CLASSNAMES[name]]
    (top / "devkit").mkdir(parents=True)
    meta = np.empty((1, len(names)), dtype=object)
    meta[0] = names
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": meta})
    for folder, path in (
        ("cars_train", "devkit/cars_train_annos.mat"),
        ("cars_test", "cars_test_annos_withlabels.mat"),
    ):
        labels = [label for label in range(len(names)) for _ in range(n_images(label))]
        random.Random(folder).shuffle(labels)
        rows = np.empty((1, len(labels)), dtype=[("class", object), ("fname", object)])
        for i, label in enumerate(labels):
            rows[0, i] = (np.array([[label + 1]], np.uint8), f"{i + 1:05d}.jpg")
            touch(top / folder / f"{i + 1:05d}.jpg")
        savemat(top / path, {"annotations": rows})
    return top


def _oxfordflowers(name: str, root: Path) -> Path:
    top, names = root / "oxford_flowers", CLASSNAMES[name]
    labels = [label + 1 for label in range(len(names)) for _ in range(n_images(label))]
    random.Random(3).shuffle(labels)
    for i in range(len(labels)):
        touch(top / "jpg" / f"image_{i + 1:05d}.jpg")
    savemat(top / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    (top / "cat_to_name.json").write_text(
        json.dumps({str(label + 1): text for label, text in enumerate(names)})
    )
    return top


def _fgvcaircraft(name: str, root: Path) -> Path:
    top, names, number = root / "fgvc_aircraft", CLASSNAMES[name], 1025794
    lines(top / "variants.txt", names)
    for part in ("train", "val", "test"):
        rows = []
        for label, variant in enumerate(names):
            for _ in range(n_images(label)):
                number += 1
                touch(top / "images" / f"{number}.jpg")
                rows.append(f"{number} {variant}")
        random.Random(part).shuffle(rows)
        lines(top / f"images_variant_{part}.txt", rows)
    return top


def _sun397(name: str, root: Path) -> Path:
    top = root / "sun397"
    keys = ["/a/abbey", "/a/apartment_building/outdoor", "/c/church/indoor", "/z/zen_garden"]
    lines(top / "ClassName.txt", keys)
    for part in ("Training_01", "Testing_01"):
        rows = []
        for label, key in enumerate(keys):
            for i in range(n_images(label)):
                rows.append(f"{key}/sun_{part.lower()}_{i}.jpg")
                touch(top / "SUN397" / rows[-1][1:])
        random.Random(part).shuffle(rows)
        lines(top / f"{part}.txt", rows)
    return top


def _ucf101(name: str, root: Path) -> Path:
    top, actions = root / "ucf101", ["ApplyEyeMakeup", "HandstandPushups", "TaiChi", "YoYo"]
    lists = top / "ucfTrainTestlist"
    lines(lists / "classInd.txt", [f"{i + 1} {action}" for i, action in enumerate(actions)])
    for part, groups in (("train", "g08"), ("test", "g01")):
        rows = []
        for label, action in enumerate(actions):
            for i in range(n_images(label)):
                video = f"v_{action}_{groups}_c{i:02d}"
                touch(top / "UCF-101-midframes" / CLASSNAMES[name][label] / f"{video}.jpg")
                suffix = f" {label + 1}" if part == "train" else ""
                rows.append(f"{action}/{video}.avi{suffix}")
        random.Random(part).shuffle(rows)
        lines(lists / f"{part}list01.txt", rows)
    return top


def _classnames(top: Path) -> None:
    lines(top / "classnames.txt", [f"{synset} {text}" for synset, text in SYNSETS.items()])


def _imagenet(name: str, root: Path) -> Path:
    top = root / "imagenet"
    _classnames(top)
    for label, synset in enumerate(SYNSETS):
        for i in range(n_images(label)):
            touch(top / "images" / "train" / synset / f"{synset}_{(i * 37) % 101}.JPEG")
        for i in range(3):
            touch(top / "images" / "val" / synset / f"ILSVRC2012_val_{label}{i}.JPEG")
    return top


def _test_set(top: Path, images: str, folders: list[str]) -> Path:
    _classnames(top)
    for folder in folders:
        for i in range(3):
            touch(top / images / folder / f"{i}.jpg")
    return top


def _imagenetv2(name: str, root: Path) -> Path:
    folders = [str(label) for label in range(len(SYNSETS))]
    return _test_set(root / "imagenetv2", "imagenetv2-matched-frequency-format-val", folders)


def _imagenetsketch(name: str, root: Path) -> Path:
    return _test_set(root / "imagenet-sketch", "images", list(SYNSETS))


def _some_synsets(name: str) -> list[str]:
    return [synset for synset, text in SYNSETS.items() if text in CLASSNAMES[name]]


def _imageneta(name: str, root: Path) -> Path:
    top = _test_set(root / "imagenet-adversarial", "imagenet-a", _some_synsets(name))
    (top / "imagenet-a" / "README.txt").write_text("about")
    return top


def _imagenetr(name: str, root: Path) -> Path:
    top = _test_set(root / "imagenet-rendition", "imagenet-r", _some_synsets(name))
    (top / "imagenet-r" / "README.txt").write_text("about")
    return top


def images_of(name: str, top: Path) -> list[tuple[str, int]]:
    """(path, label) of all images that belong to the data set, by its naming conventions."""
    found = []
    if name in FOLDERS:
        _, images, folders = FOLDERS[name]
        for label, folder in enumerate(folders):
            files = sorted((top / images / folder).iterdir())
            found += [(f"{folder}/{file.name}", label) for file in files]
    elif name == "OxfordPets":
        for file in sorted((top / "images").iterdir()):
            breed = file.stem.rpartition("_")[0].lower()
            found.append((file.name, CLASSNAMES[name].index(breed)))
    elif name == "UCF101":
        for label, action in enumerate(CLASSNAMES[name]):
            files = sorted((top / "UCF-101-midframes" / action).iterdir())
            found += [(f"{action}/{file.name}", label) for file in files]
    elif name == "SUN397":
        folders = ["a/abbey", "a/apartment_building/outdoor", "c/church/indoor", "z/zen_garden"]
        for label, folder in enumerate(folders):
            files = sorted((top / "SUN397" / folder).iterdir())
            found += [(f"{folder}/{file.name}", label) for file in files]
    else:  # labels are not in the names: any will do for a split file
        directory = {"StanfordCars": "cars_train", "OxfordFlowers": "jpg"}[name]
        prefix = "cars_train/" if name == "StanfordCars" else ""
        for i, file in enumerate(sorted((top / directory).iterdir())):
            found.append((f"{prefix}{file.name}", i % len(CLASSNAMES[name])))
    return found


def write_split(name: str, top: Path, seed: int = 5) -> dict[str, list]:
    """Write an "official" split file, its rows shuffled; return its content."""
    rows = [[path, label, CLASSNAMES[name][label]] for path, label in images_of(name, top)]
    random.Random(seed).shuffle(rows)
    parts = {"train": [], "val": [], "test": []}
    seen: dict[int, int] = {}
    for row in rows:
        seen[row[1]] = seen.get(row[1], -1) + 1
        parts[("train", "train", "val", "test", "train")[seen[row[1]] % 5]].append(row)
    write_json(top / f"split_zhou_{name}.json", parts)
    return parts
