"""A corpus of broken and hostile files, each with its outcome: handled, or refused by name.

Every payload would make a file called `ran` if it were run; `test_payloads_would_run` proves it.
"""

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CLASSES, command, make_pictures, own_cache  # noqa: F401 - a fixture
from PIL import Image
from safetensors.torch import save as save_tensors

import train
from datasets.annotations import load_matlab
from datasets.caches import read_coop_pickle
from datasets.listing import ListingCache
from datasets.splits import read_split
from varprompt.common import files
from varprompt.errors import CheckpointError, ConfigError, DataError, out_of_memory
from varprompt.images.feature_cache import FeatureCache
from varprompt.images.read import ImageItems, read_rgb
from varprompt.run.folder import kept_seed
from varprompt.run.results import read_results
from varprompt.settings.merge import merge_file
from varprompt.towers.load import load_clip

PIXELS = np.random.default_rng(0).integers(0, 256, (45, 54, 3)).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS)
KEY = "ab" * 32  # of an entry of the feature cache


@dataclass(frozen=True)
class Case:
    """A file, how it is read, and what comes of it.

    Attributes:
        make: bytes, or writes the file at the given path; its second argument is the path of the
            file that a payload makes.
        read: reads the file.
        error: what must be raised, naming the path; None if the file is handled.
        says: a part of the message, or what a handled file gives.
    """

    make: bytes | Callable[[Path, Path], object]
    read: Callable[[Path], object]
    error: type[Exception] | None
    says: object


# payloads


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, ran):
        self.ran = ran

    def __reduce__(self):
        return os.system, (f"touch '{self.ran}'",)


class Evaluated(Payload):
    def __reduce__(self):
        return eval, (f"open({str(self.ran)!r}, 'w').close()",)


def pickled(kind=Payload, protocol=2, wrap=lambda payload: payload):
    return lambda path, ran: path.write_bytes(pickle.dumps(wrap(kind(ran)), protocol))


def through_datum(path, ran):
    """Asks for an attribute of an attribute of the one class that is allowed."""
    names = (b"dassl.data.datasets.base_dataset", b"Datum.__init__.__globals__")
    path.write_bytes(
        b"\x80\x04" + b"".join(b"\x8c" + bytes([len(n)]) + n for n in names) + b"\x93."
    )


def torch_payload(wrap, new_form=True):
    def make(path, ran):
        torch.save(wrap(Payload(ran)), path, _use_new_zipfile_serialization=new_form)

    return make


def torchscript_payload(path, ran):
    """An archive whose own code writes a file when it is loaded."""

    class Node(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("positional_embedding", torch.ones(2))
            self.target = str(ran)

        def forward(self):
            return self.positional_embedding

        @torch.jit.export
        def __getstate__(self):
            return (self.positional_embedding, self.target, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
            self.positional_embedding = state[0]
            self.target = state[1]
            self.training = state[2]
            torch.save(state[0], state[1])

    torch.jit.save(torch.jit.script(Node()), str(path))


def twice_in_the_archive(path, ran):
    """The same with a harmless second copy of the code for whoever reads that one."""
    torchscript_payload(path, ran)
    with zipfile.ZipFile(path, "a") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".py"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(name, archive.read(name).replace(b"__setstate__", b"__other_one__"))


# images


def image_bytes(suffix, picture=PICTURE, **keys):
    buffer = io.BytesIO()
    picture.save(buffer, suffix, **keys)
    return buffer.getvalue()


def png(width, height, rows, bits=8, colour=2):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = b""
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")):
        crc = zlib.crc32(kind + content)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return b"\x89PNG\r\n\x1a\n" + chunks


def bomb(path, ran):
    """20,000 x 20,000 pixels in 220 KB."""
    path.write_bytes(png(20_000, 20_000, bytes(2501 * 20_000), 1, 0))


def bad_checksum():
    content = bytearray(image_bytes("PNG"))
    content[29] ^= 1  # in the checksum of the header
    return bytes(content)


def eps(path, ran):
    """PostScript that makes a file, called an image."""
    path.write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
        f"({ran}) (w) file closefile\nshowpage\n%%EOF\n"
    )


def as_stored(path):
    """Pixels of an ordinary image, which must be those of Dassl's own reader."""
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_rgb(str(path))), expected)
    return expected.shape


def centre(path):
    """Colour in the middle."""
    image = read_rgb(str(path))
    return image.getpixel((image.width // 2, image.height // 2))


def exif(rotation):
    found = PICTURE.getexif()
    found[0x0112] = rotation
    return found


def palette(**keys):
    image = Image.new("P", (3, 3), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    return image_bytes("PNG", image, **keys)


def pipe(path, ran):
    os.mkfifo(path)


def device(path, ran):
    path.symlink_to("/dev/zero")


def unreadable(path, ran):
    path.symlink_to("/proc/self/mem")  # opens, but its first byte cannot be read, not even by root


FRAMES = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
ANIMATED = {"save_all": True, "append_images": FRAMES[1:]}


def refused_image(make, says="not a readable image"):
    return Case(make, lambda path: read_rgb(str(path)), DataError, says)


def handled_image(make, read, gives):
    return Case(make, read, None, gives)


IMAGES = {
    "nothing.jpg": refused_image(b""),
    "page.jpg": refused_image(b"<html>404 not found</html>"),
    "drawing.svg.png": refused_image(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "zeros.png": refused_image(bytes(5000)),
    "cut.jpg": refused_image(image_bytes("JPEG")[:-300]),
    "cut.png": refused_image(image_bytes("PNG")[:-300]),
    "cut.gif": refused_image(image_bytes("GIF")[:300]),
    "cut.webp": refused_image(image_bytes("WEBP", lossless=True)[:-300]),
    "checksum.png": refused_image(bad_checksum()),
    "bomb.png": refused_image(
        bomb, "could be decompression bomb DOS attack.); store it smaller, or take it out"
    ),
    "claims-to-be-large.png": refused_image(png(2**31 - 1, 2**31 - 1, b"\0")),
    "no-pixels.png": refused_image(png(0, 7, b"")),
    "floats.tif": refused_image(
        image_bytes("TIFF", Image.fromarray(np.ones((3, 3), np.float32))), "without a defined range"
    ),
    "program.jpg": refused_image(eps, "EPS is a program, not pixels"),
    "pickle.jpg": refused_image(pickled()),
    "pipe.jpg": refused_image(pipe, "not a regular file"),
    "device.jpg": refused_image(device, "not a regular file"),
    "folder.jpg": refused_image(lambda path, ran: path.mkdir(), "a folder: give"),
    "loop.jpg": refused_image(lambda path, ran: path.symlink_to(path), "symbolic links"),
    "unreadable.jpg": refused_image(unreadable, "Input/output error"),
    "cmyk.jpg": handled_image(image_bytes("JPEG", PICTURE.convert("CMYK")), as_stored, (45, 54, 3)),
    "grey.jpg": handled_image(image_bytes("JPEG", PICTURE.convert("L")), as_stored, (45, 54, 3)),
    "two-colours.png": handled_image(
        image_bytes("PNG", PICTURE.convert("1")), as_stored, (45, 54, 3)
    ),
    "palette.png": handled_image(palette(), centre, (200, 100, 50)),
    "transparent-palette.png": handled_image(
        palette(transparency=bytes([9, 128])), centre, (200, 100, 50)
    ),
    "alpha.png": handled_image(image_bytes("PNG", PICTURE.convert("RGBA")), as_stored, (45, 54, 3)),
    "16-bit-grey.png": handled_image(
        image_bytes("PNG", Image.fromarray(np.full((3, 3), 0x1234, np.uint16))), centre,
        (0x12, 0x12, 0x12),
    ),
    "16-bit-colour.png": handled_image(png(1, 1, b"\0\x12\x34\x56\x78\x9a\xbc", 16), centre,
                                       (0x12, 0x56, 0x9A)),
    "animated.gif": handled_image(image_bytes("GIF", FRAMES[0], **ANIMATED), centre, (255, 0, 0)),
    "animated.png": handled_image(image_bytes("PNG", FRAMES[0], **ANIMATED), centre, (255, 0, 0)),
    "rotated.png": handled_image(image_bytes("PNG", exif=exif(6)), as_stored, (45, 54, 3)),
    "damaged-exif.jpg": handled_image(
        image_bytes("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), as_stored, (45, 54, 3)
    ),
    "one-pixel.png": handled_image(png(1, 1, b"\0\1\2\3"), centre, (1, 2, 3)),
    "new\nline \u00e9\u4e2d.png": handled_image(png(1, 1, b"\0\1\2\3"), centre, (1, 2, 3)),
}  # fmt: skip


# checkpoints and CLIP weights

STATE = {"state_dict": {"ctx": torch.arange(6.0)}, "epoch": 3}


def saved(content, change=lambda data: data):
    """A checkpoint, and what happened to its bytes."""

    def make(path, ran):
        torch.save(content, path)
        path.write_bytes(change(path.read_bytes()))

    return make


def flipped(data):
    """One bit of the values is another."""
    where = data.index(STATE["state_dict"]["ctx"].numpy().tobytes())
    return data[: where + 5] + bytes([data[where + 5] ^ 1]) + data[where + 6 :]


def claiming(count):
    """A tensor that says it has more values than the file."""
    size = b"J" + struct.pack("<i", count)

    def change(data):
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(b"K\x06", size))
        return changed.getvalue()

    return change


def refused_checkpoint(make, says):
    return Case(make, files.read, CheckpointError, says)


CHECKPOINTS = {
    "command.pth": refused_checkpoint(torch_payload(lambda p: {**STATE, "x": p}), "posix.system"),
    "legacy-command.pth": refused_checkpoint(
        torch_payload(lambda p: {**STATE, "x": p}, new_form=False), "never unpickled"
    ),
    "bare-pickle.pth": refused_checkpoint(pickled(), "never unpickled"),
    "old-pickle.pth": refused_checkpoint(pickled(protocol=0), ""),
    "new-pickle.pth": refused_checkpoint(pickled(protocol=5), ""),
    "evaluated.pth": refused_checkpoint(pickled(Evaluated), ""),
    "nothing.pth": refused_checkpoint(b"", "damaged or not a checkpoint"),
    "page.pth": refused_checkpoint(b"<html>", "is a web page, not the file"),
    "cut.pth": refused_checkpoint(saved(STATE, lambda data: data[:-200]), "damaged"),
    "flipped.pth": refused_checkpoint(saved(STATE, flipped), "the checksum of its part"),
    "claims-much.pth": refused_checkpoint(saved(STATE, claiming(2**31 - 1)), "damaged"),
    "negative.pth": refused_checkpoint(saved(STATE, claiming(-6)), "damaged"),
    "tensor.pth": refused_checkpoint(saved(torch.ones(3)), "holds a Tensor, not a dict"),
    "folder.pth": refused_checkpoint(lambda path, ran: path.mkdir(), "does not exist"),
    "pipe.pth": refused_checkpoint(pipe, "does not exist"),
    "deep.pth": refused_checkpoint(b"\x80\x02" + b"]" * 10**5 + b".", "damaged"),
}


def tensors_header(header, data=b""):
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor_entry(start, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


CLIP_KEYS = ("text_projection", "positional_embedding", "token_embedding.weight", "logit_scale")


def refused_weights(make, says="is damaged or not a weight file"):
    return Case(
        make, lambda path: load_clip("x", str(path), activation="gelu"), CheckpointError, says
    )


WEIGHTS = {
    "command.pt": refused_weights(torch_payload(lambda p: {"text_projection": p}), "posix.system"),
    "runs-its-own.pt": refused_weights(torchscript_payload, "loading it would run its own code"),
    "twice.pt": refused_weights(twice_in_the_archive, ""),
    "cut-archive.pt": refused_weights(
        lambda path, ran: (torchscript_payload(path, ran),
                           path.write_bytes(path.read_bytes()[:-99])), "damaged"),
    "another-model.pt": refused_weights(saved({"fc.weight": torch.ones(2)}), "not a CLIP"),
    "no-tensors.pt": refused_weights(saved(dict.fromkeys(CLIP_KEYS, 1)), "not a CLIP"),
    "wrong-shapes.pt": refused_weights(
        saved({k: torch.ones(2, 2) for k in CLIP_KEYS}), "is not a CLIP of OpenAI's form"
    ),
    "without-values.pt": refused_weights(
        saved({k: torch.ones(2, 2, device="meta") for k in CLIP_KEYS}), "not a CLIP"
    ),
    "endless.pt": refused_weights(
        saved({k: torch.ones(1).expand(2**40, 2**20) for k in CLIP_KEYS}), "not a CLIP"
    ),
    "nothing.safetensors": refused_weights(b"", "it is empty"),
    "cut.safetensors": refused_weights(save_tensors({"w": torch.ones(99)})[:-50]),
    "header-too-long.safetensors": refused_weights(struct.pack("<Q", 2**63) + b"{}"),
    "header-longer-than-file.safetensors": refused_weights(struct.pack("<Q", 99) + b"{}"),
    "header-no-json.safetensors": refused_weights(tensors_header(b"{]")),
    "header-not-text.safetensors": refused_weights(tensors_header(b"\xff\xfe\xff")),
    "unknown-type.safetensors": refused_weights(
        tensors_header({"w": tensor_entry(0, 4, dtype="PICKLE")}, bytes(4))
    ),
    "overlapping.safetensors": refused_weights(
        tensors_header({"v": tensor_entry(0, 4), "w": tensor_entry(0, 4)}, bytes(4))
    ),
    "outside.safetensors": refused_weights(tensors_header({"w": tensor_entry(0, 4)}, b"")),
    "backwards.safetensors": refused_weights(tensors_header({"w": tensor_entry(4, 0)}, bytes(4))),
    "shape-too-large.safetensors": refused_weights(
        tensors_header({"w": tensor_entry(0, 4, (2**62, 2**62))}, bytes(4))
    ),
    "another-model.safetensors": refused_weights(save_tensors({"w": torch.ones(2)}), "not a CLIP"),
    "pickle.safetensors": refused_weights(pickled()),
}  # fmt: skip


# few-shot choices, splits and other lists

ANCHOR = "dtd/images"


class Datum:
    """Pickled under the name of Dassl's class."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


Datum.__module__ = "dassl.data.datasets.base_dataset"
GOOD = {"_impath": f"/home/x/{ANCHOR}/a/b.jpg", "_label": 1, "_classname": "a", "_domain": 0}


def choice(**fields):
    """A choice of one image with other fields than a good one's."""

    def make(path, ran):
        datum = Datum(**GOOD | fields)
        dassl = __import__("dassl.data.datasets.base_dataset", fromlist=["Datum"])
        theirs, dassl.Datum = dassl.Datum, Datum
        try:
            path.write_bytes(pickle.dumps({"train": [datum]}, 2))
        finally:
            dassl.Datum = theirs

    return make


def nested(depth, leaf=()):
    found = list(leaf)
    for _ in range(depth):
        found = [found]
    return found


def doubled(depth):
    """A list of 2^depth entries in few bytes."""
    found = ["x"]
    for _ in range(depth):
        found = [found, found]
    return found


def refused_cache(make, says="a damaged cache"):
    return Case(make, lambda path: read_coop_pickle(str(path), ANCHOR), DataError, says)


def refused_split(content, says="not a split file"):
    return Case(content, lambda path: read_split(str(path)), DataError, says)


def split(train):
    return json.dumps({"train": train, "val": [], "test": []}).encode()


ENTRIES = "entries that are not [image path, label >= 0, class name]"
LISTS = {
    "command.pkl": refused_cache(pickled(), "wants to load posix.system"),
    "command-in-place.pkl": refused_cache(
        pickled(wrap=lambda p: {"train": [p]}), "wants to load posix.system"
    ),
    "evaluated.pkl": refused_cache(pickled(Evaluated), "wants to load __builtin__.eval"),
    "text-protocol.pkl": refused_cache(pickled(protocol=0), "wants to load posix.system"),
    "through-datum.pkl": refused_cache(
        through_datum, "base_dataset.Datum.__init__.__globals__"
    ),
    "nothing.pkl": refused_cache(b""),
    "cut.pkl": refused_cache(pickle.dumps({"train": [1, 2, 3]})[:-3]),
    "long-string.pkl": refused_cache(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"."),
    "numbers.pkl": refused_cache(pickle.dumps({"train": [1]}), "not a Datum with path"),
    "list.pkl": refused_cache(pickle.dumps([1]), "expected CoOp's dict of lists"),
    "deep.pkl": refused_cache(choice(_label=nested(300)), "not a Datum with path"),
    "doubled.pkl": refused_cache(choice(_label=doubled(60)), "not a Datum with path"),
    "large-number.pkl": refused_cache(choice(_classname=10**9999), "not a Datum with path"),
    "elsewhere.pkl": refused_cache(
        choice(_impath="/etc/passwd"), "images that are not under dtd/images"
    ),
    "climbs-out.pkl": refused_cache(
        choice(_impath=f"/{ANCHOR}/../../../etc/passwd"), "images that are not under dtd/images"
    ),
    "nothing.json": refused_split(b"", "not a readable JSON file"),
    "cut.json": refused_split(split([["a", 0, "b"]])[:-9], "not a readable JSON file"),
    "binary.json": refused_split(b"\x80\x04\xff", "not a readable JSON file"),
    "deep.json": refused_split(b"[" * 10**5, "not a readable JSON file"),
    "list.json": refused_split(b"[1]"),
    "no-test.json": refused_split(b'{"train": [], "val": []}'),
    "text.json": refused_split(b'{"train": "abc", "val": [], "test": []}'),
    "strange-entries.json": refused_split(
        split([["a", 0], 5, ["a", "x", "n"], ["a", -1, "n"], ["a", 0.5, "n"], [None, 0, "n"],
               ["a", 0, ""], ["a", 1e308, "n"], nested(500), ["a", 10**4000, "n"]]), ENTRIES,
    ),
    "not-a-number.json": refused_split(
        b'{"train": [["a", NaN, "n"], ["a", Infinity, "n"]], "val": [], "test": []}', ENTRIES
    ),
    "folder.json": refused_split(lambda path, ran: path.mkdir(), "not a readable JSON file"),
    "labels.mat": Case(b"MATLAB 5.0" + bytes(200), lambda path: load_matlab(str(path), "labels"),
                       DataError, "no MATLAB file with an array 'labels'"),
}  # fmt: skip


# what this project writes itself

YAML_COMMAND = "OPTIM:\n  LR: !!python/object/apply:os.system [\"touch '{}'\"]\n"


def configured(path):
    from dassl.config import get_cfg_default

    cfg = get_cfg_default()
    merge_file(cfg, path)


def refused_yaml(make, says="is not valid YAML"):
    return Case(make, configured, ConfigError, says)


def cache_entry(path):
    """(what the cache gave, whether it said that the file is damaged, whether it is gone)."""
    said = []
    os.environ["VARPROMPT_CACHE"] = str(path.parent)
    found = FeatureCache(1e9, said.append).read(KEY, 2)
    return found, any(str(path) in line and "damaged" in line for line in said), path.exists()


def ignored_entry(make):
    return Case(make, cache_entry, None, (None, True, False))


def seed(path):
    first, second = kept_seed(path.parent), kept_seed(path.parent)
    return first == second and 0 <= first < 2**31


LARGE_TREE = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
)
OWN = {
    "command.yaml": refused_yaml(
        lambda path, ran: path.write_text(YAML_COMMAND.format(ran)), "python/object/apply:os.system"
    ),
    "object.yaml": refused_yaml(b"OPTIM: !!python/object:os.PathLike {}\n"),
    "name.yaml": refused_yaml(b"OPTIM:\n  LR: !!python/name:os.system\n"),
    "doubled.yaml": refused_yaml(LARGE_TREE.encode(), "aliases"),
    "deep.yaml": refused_yaml(b"[" * 10**4),
    "binary.yaml": refused_yaml(b"\x80\x04\xff"),
    "results.json": Case(
        b'{"accuracy": 90.1', lambda path: read_results(path.parent), None, None
    ),
    f"{KEY}.safetensors": ignored_entry(b"garbage"),
    "listing.json": Case(
        b'{"train": 5', lambda path: ListingCache(str(path), str(path.parent)).names("x", list),
        None, [],
    ),
    ".seed": Case(b"99999999999999999999", seed, None, True),
}  # fmt: skip
ENTRIES_OF_THE_CACHE = {
    "nothing": ignored_entry(b""),
    "pickle": ignored_entry(pickled()),
    "header-too-long": ignored_entry(struct.pack("<Q", 2**63) + b"{}"),
    "of-another-key": ignored_entry(save_tensors({"features": torch.ones(2, 3)}, {"key": "x"})),
    "flipped": ignored_entry(
        save_tensors({"features": torch.ones(2, 3)}, {"key": KEY, "sha256": "0" * 64})
    ),
}

CORPUS = {
    **{f"images/{k}": v for k, v in IMAGES.items()},
    **{f"checkpoints/{k}": v for k, v in CHECKPOINTS.items()},
    **{f"weights/{k}": v for k, v in WEIGHTS.items()},
    **{f"lists/{k}": v for k, v in LISTS.items()},
    **{f"own/{k}": v for k, v in OWN.items()},
    **{f"cache-{k}/{KEY}.safetensors": v for k, v in ENTRIES_OF_THE_CACHE.items()},
}


def make(case, path, ran):
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(case.make):
        case.make(path, ran)
    else:
        path.write_bytes(case.make)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's, and all of it
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", CORPUS, ids=ascii)
def test_outcome(name, tmp_path):
    case, path, ran = CORPUS[name], tmp_path / name, tmp_path / "ran"
    make(case, path, ran)
    if case.error is None:
        assert case.read(path) == case.says
    else:
        with pytest.raises(case.error) as caught:
            case.read(path)
        assert type(caught.value) is case.error
        assert str(path) in str(caught.value) and case.says in str(caught.value)
        assert len(str(caught.value)) < 2000
    assert not ran.exists()


def test_size_of_the_corpus():
    assert len(CORPUS) >= 100


PAYLOADS = {
    "images/pickle.jpg": lambda path: pickle.loads(path.read_bytes()),
    "checkpoints/command.pth": lambda path: torch.load(path, weights_only=False),
    "checkpoints/legacy-command.pth": lambda path: torch.load(path, weights_only=False),
    "checkpoints/evaluated.pth": lambda path: pickle.loads(path.read_bytes()),
    "weights/command.pt": lambda path: torch.load(path, weights_only=False),
    "weights/runs-its-own.pt": torch.jit.load,
    "lists/command.pkl": lambda path: pickle.loads(path.read_bytes()),
    "lists/command-in-place.pkl": lambda path: pickle.loads(path.read_bytes()),
    "lists/text-protocol.pkl": lambda path: pickle.loads(path.read_bytes()),
    "own/command.yaml": lambda path: __import__("yaml").unsafe_load(path.read_text()),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_would_run(name, tmp_path):
    """Otherwise the absence of `ran` above would prove nothing."""
    path, ran = tmp_path / name, tmp_path / "ran"
    make(CORPUS[name], path, ran)
    PAYLOADS[name](path)
    assert ran.exists()


# the same through the front door


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Data root, and the folder of a run on it that is over."""
    root, output = make_pictures(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("run")
    assert train.main(command(root, output, OPTIM__MAX_EPOCH=1)) == 0
    return root, output


def refused(arguments, capsys, *parts):
    code = train.main(arguments)
    err = capsys.readouterr().err
    last = err[err.rindex("error: ") :]
    assert code == 2 and "Traceback" not in err
    assert all(str(part) in last for part in parts), last


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize(("part", "name"), [("train", "cut.jpg"), ("test", "program.jpg"),
                                            ("train", "bomb.png")])  # fmt: skip
def test_image_in_a_run(part, name, n_workers, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    root, ran = make_pictures(tmp_path), tmp_path / "ran"
    path = root / "pictures" / part / CLASSES[0] / name
    make(IMAGES[name], path, ran)
    arguments = command(root, tmp_path / "out", DATALOADER__NUM_WORKERS=n_workers,
                        DATALOADER__TRAIN_X__BATCH_SIZE=16, OPTIM__MAX_EPOCH=1)  # fmt: skip
    refused(arguments, capsys, f"{path}: not a readable image")
    assert not ran.exists() and not (tmp_path / "out/results.json").exists()


OPTIONS = {
    "MODEL.INIT_WEIGHTS": [f"checkpoints/{k}" for k in ("command.pth", "cut.pth", "flipped.pth")],
    "MODEL.BACKBONE.PATH": [f"weights/{k}" for k in ("runs-its-own.pt", "cut.safetensors")],
    "DATASET.PATH": [f"lists/{k}" for k in ("cut.json", "strange-entries.json")],
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("key", "name"), [(k, n) for k, names in OPTIONS.items() for n in names])
def test_file_named_by_an_option(key, name, finished, tmp_path, capsys):
    path, ran = tmp_path / name, tmp_path / "ran"
    make(CORPUS[name], path, ran)
    arguments = [*command(finished[0], tmp_path / "out"), key, str(path)]
    refused(arguments, capsys, path, CORPUS[name].says)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["command.yaml", "doubled.yaml"])
def test_configuration_file(name, finished, tmp_path, capsys):
    make(OWN[name], tmp_path / name, tmp_path / "ran")
    arguments = command(finished[0], tmp_path / "out", "--config-file", tmp_path / name)
    refused(arguments, capsys, tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_links_are_the_users_business(finished, tmp_path, capsys):
    """A split file cannot name what is outside; whoever owns the folder may link to it."""
    root = make_pictures(tmp_path)
    path = next((root / "pictures/test").rglob("*.png"))
    elsewhere = tmp_path / "elsewhere.png"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert train.main(command(root, tmp_path / "out", OPTIM__MAX_EPOCH=1)) == 0


LEARNED = {
    "no-tensors": {"state_dict": 5},
    "numbered": {"state_dict": {1: torch.ones(4, 128)}},
    "empty": {"state_dict": {}},
    "not-a-number": {"state_dict": {"ctx": torch.full((4, 128), torch.nan)}},
    "whole-numbers": {"state_dict": {"ctx": torch.ones(4, 128, dtype=torch.long)}},
    "sparse": {"state_dict": {"ctx": torch.ones(4, 128).to_sparse()}},
    "without-values": {"state_dict": {"ctx": torch.ones(4, 128, device="meta")}},
    "another-clip": {"weights_sha256": 5},
    "another-config": {"config": "[1"},
    "epoch-in-words": {"epoch": "three"},
}


@pytest.mark.parametrize("name", LEARNED)
def test_model_that_is_none(name, finished, tmp_path, capsys):
    """A readable file whose content is not what a trainer learns."""
    file = tmp_path / "model/prompt_learner/model.pth.tar-1"
    file.parent.mkdir(parents=True)
    good = torch.load(finished[1] / "prompt_learner/model.pth.tar-1", weights_only=True)
    bad = LEARNED[name]
    tensors = bad.get("state_dict", {})
    if isinstance(tensors, dict) and "ctx" in tensors:
        bad = {"state_dict": good["state_dict"] | tensors}
    torch.save(good | bad, file)
    arguments = command(
        finished[0], tmp_path / "out", "--eval-only", "--model-dir", tmp_path / "model"
    )
    refused(arguments, capsys, file)


STATES = {
    "command": lambda good, ran: {**good, "optimizer": Payload(ran)},
    "no-optimizer": lambda good, ran: {k: v for k, v in good.items() if k != "optimizer"},
    "empty-optimizer": lambda good, ran: {**good, "optimizer": {}},
    "noise-of-another-size": lambda good, ran: {**good, "noise": torch.ones(3, dtype=torch.uint8)},
    "seed-in-words": lambda good, ran: {**good, "seed": "one"},
    "schedule-in-words": lambda good, ran: {**good, "scheduler": "cosine"},
    "batch-in-words": lambda good, ran: {**good, "batch": "one"},
    "epoch-in-words": lambda good, ran: {**good, "epoch": None},
}


@pytest.mark.parametrize("name", STATES)
def test_state_that_is_none(name, finished, tmp_path, capsys):
    root, run = finished
    good = torch.load(run / "prompt_learner/resume.pth.tar", weights_only=True)
    file = tmp_path / "out/prompt_learner/resume.pth.tar"
    file.parent.mkdir(parents=True)
    torch.save(STATES[name](good, tmp_path / "ran"), file)
    refused(command(root, tmp_path / "out", OPTIM__MAX_EPOCH=1), capsys, file.parent)
    assert not (tmp_path / "ran").exists()


RESULTS = [
    b"", b"[1]", b"[" * 10**5, b'{"accuracy": "high"}', b'{"accuracy": null}',
    b'{"accuracy": 1, "config": 5}', b'{"accuracy": 1, "config": "!!python/name:os.system"}',
]  # fmt: skip


@pytest.mark.parametrize("content", RESULTS, ids=lambda c: c[:50].decode())
def test_results_that_are_none(content, finished, tmp_path, capsys):
    """They are measured again, or, if they might be somebody's, named."""
    (tmp_path / "results.json").write_bytes(content)
    code = train.main(command(finished[0], tmp_path, OPTIM__MAX_EPOCH=0))
    err = capsys.readouterr().err
    if b"config" in content:
        assert code == 2 and "results.json holds the results of another configuration" in err
    else:
        assert code == 0 and read_results(tmp_path)["n_total"] == 20


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_worker_that_dies(finished, tmp_path, capsys, monkeypatch):
    """As of a full memory: nobody says why."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("varprompt.images.read.read_rgb", lambda *_: os.kill(os.getpid(), 9))
    arguments = command(finished[0], tmp_path / "out", DATALOADER__NUM_WORKERS=1)
    refused(arguments, capsys, "DataLoader worker", "the memory seems full; lower BATCH_SIZE")


def test_full_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert out_of_memory(caught.value) and out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("The size of tensor a must match"))


def test_items_name_what_cannot_be_transformed(tmp_path):
    class Record:
        impath, label, domain = str(tmp_path / "small.png"), 0, 0

    PICTURE.save(Record.impath)

    def crop(image):
        raise ValueError("larger than the image")

    with pytest.raises(DataError, match="small.png: an image of 54 x 45 pixels cannot be trans"):
        ImageItems(None, [Record], crop)[0]
