"""The command that gets data sets, from a server on this machine."""

import errno
import hashlib
import inspect
import io
import os
import shutil
import tarfile
import zipfile
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torchvision
from packaging.version import Version

from datasets import COOP_DATASETS, fetching, unpack
from datasets.downloads import ARCHIVES, BY_HAND
from datasets.fetch import main
from varprompt.__main__ import main as varprompt
from varprompt.errors import DataError
from varprompt.towers import download as downloads

KINDS = {kind.__module__.rpartition(".")[2]: kind for kind in COOP_DATASETS}
PAGE = b"<!DOCTYPE html><html>Too many users have viewed this file recently</html>"


def page_name(page):
    return page.replace("/", "_")


@pytest.fixture
def server(range_server, monkeypatch):
    monkeypatch.setattr(fetching, "direct", lambda page: range_server.url(page_name(page)))
    return range_server


@pytest.fixture
def published(server, as_published, tmp_path, monkeypatch):
    """Return a function: puts a data set, packed in its true form, on the server."""

    def publish(name):
        kind = KINDS[name]
        top = as_published(kind.__name__, tmp_path / "true")
        for file in (kind.split_file, "classnames.txt"):
            if file in kind.sources:
                server.files[page_name(kind.sources[file])] = (top / file).read_bytes()
        archives = []
        for archive in ARCHIVES.get(name, ()):
            content = packed(archive, top)
            server.files[page_name(archive.url)] = content
            md5 = hashlib.md5(content).hexdigest() if archive.md5 else ""
            archives.append(replace(archive, md5=md5))
        if archives:
            monkeypatch.setitem(ARCHIVES, name, tuple(archives))
        return top

    return publish


def packed(archive, top):
    """The archive of what lies in `top`, with something beside it."""
    if archive.inner:
        whole = replace(archive, inner="", url=archive.inner)
        return zipped({archive.inner: packed(whole, top), "caltech-101/Annotations.tar": b"x"})
    files = {"README.txt": b"not a part"}
    for inside, part in archive.parts.items():
        for path in [top / part, *sorted((top / part).rglob("*"))]:
            if path.is_file():
                place = inside + str(path)[len(str(top / part)) :].replace(os.sep, "/")
                files[place] = path.read_bytes()
    name = archive.name or archive.url
    return zipped(files) if name.endswith(".zip") else tarred(files, "z" in name)


def zipped(files):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(files, compressed=True):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if compressed else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}" if name == "README.txt" else name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def needed(kind, top):
    """What the true folder holds, but for what is only needed without the split file."""
    spare = tuple(name for name in kind.only_without_split if kind.split_file)
    return {k: v for k, v in tree(top).items() if not k.startswith(spare or "\0")}


def fetch(capsys, *argv):
    code = main([str(argument) for argument in argv])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


@pytest.mark.parametrize("name", ARCHIVES)
def test_into_coops_layout(name, published, server, tmp_path, capsys):
    top, root = published(name), tmp_path / "data"
    code, out, err = fetch(capsys, name, "--root", root)
    kind = KINDS[name]
    assert (code, err) == (0, [])
    assert out == f"{kind.__name__} is complete in {root / kind.dataset_dir}\n"
    assert tree(root / kind.dataset_dir) == needed(kind, top)
    asked = list(server.asked)
    assert fetch(capsys, kind.__name__, "--root", root)[0] == 0  # also by its registry name
    assert server.asked == asked


@pytest.mark.parametrize("name", BY_HAND)
def test_what_has_no_source_is_said_with_what_to_do(name, published, tmp_path, capsys):
    top, root = published(name), tmp_path / "data"
    kind = KINDS[name]
    code, out, err = fetch(capsys, name, "--root", root)
    assert (code, out) == (1, "")
    assert BY_HAND[name] in err[-1] and "DATASETS.md" in err[-1]
    folder = root / kind.dataset_dir
    assert [file.name for file in folder.iterdir()] == [kind.split_file or "classnames.txt"]
    shutil.copytree(top, folder, dirs_exist_ok=True)  # by hand
    assert fetch(capsys, name, "--root", root)[0] == 0


def test_dead_pages_are_said_to_be_dead():
    for name in ("stanford_cars", "sun397"):
        assert "reported dead" in BY_HAND[name] and "github.com/pytorch/vision" in BY_HAND[name]


def test_a_download_that_was_cut_off_goes_on(published, server, tmp_path, capsys):
    top, root = published("dtd"), tmp_path / "data"
    server.limit = 700
    code, out, err = fetch(capsys, "dtd", "--root", root)
    assert (code, out, len(err)) == (1, "", 2)
    assert all("the connection broke off after 700 of" in line for line in err)
    assert not (root / "dtd" / "images").exists()
    assert sum(file.suffix == ".part" for file in (root / "dtd/.fetch").iterdir()) == 2
    server.limit = None
    assert fetch(capsys, "dtd", "--root", root)[0] == 0
    assert [wanted for _, wanted in server.asked] == [None, None, "bytes=700-", "bytes=700-"]
    assert tree(root / "dtd") == needed(KINDS["dtd"], top)


def test_another_content_is_refused_and_not_kept(published, server, tmp_path, capsys, monkeypatch):
    published("oxford_flowers")
    wrong = tuple(replace(archive, md5="0" * 32) for archive in ARCHIVES["oxford_flowers"])
    monkeypatch.setitem(ARCHIVES, "oxford_flowers", wrong)
    code, _, err = fetch(capsys, "oxford_flowers", "--root", tmp_path)
    assert code == 1 and "sent something else: its md5 is" in err[0]
    assert {path.name for path in (tmp_path / "oxford_flowers").iterdir()} == {
        "split_zhou_OxfordFlowers.json"
    }


def test_a_web_page_is_no_split(published, server, tmp_path, capsys):
    published("dtd")
    page = KINDS["dtd"].sources[KINDS["dtd"].split_file]
    server.files[page_name(page)] = PAGE
    code, _, err = fetch(capsys, "dtd", "--root", tmp_path)
    split = tmp_path / "dtd" / KINDS["dtd"].split_file
    assert code == 1 and f"open it in a browser and save the file as {split}" in err[0]
    assert page in err[0] and not split.exists() and (tmp_path / "dtd/images").is_dir()


def test_a_split_of_other_sizes_is_refused(published, server, tmp_path, capsys, monkeypatch):
    published("dtd")
    monkeypatch.setattr(KINDS["dtd"], "sizes", (1, 2, 3))
    code, _, err = fetch(capsys, "dtd", "--root", tmp_path)
    assert code == 1 and "published are (1, 2, 3)" in err[0]
    assert not (tmp_path / "dtd" / KINDS["dtd"].split_file).exists()


def test_no_room_for_a_download(published, tmp_path, capsys, monkeypatch):
    published("dtd")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    code, out, err = fetch(capsys, "dtd", "--root", tmp_path / "data")
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("error: ") and "bytes: 1 are free" in err[0]
    assert not (tmp_path / "data/dtd/images").exists()


def test_a_disk_that_fills_up_leaves_nothing_half_unpacked(
    published, server, tmp_path, capsys, monkeypatch
):
    top, root = published("caltech101"), tmp_path / "data"
    copy, left = shutil.copyfileobj, [5]

    def full(*args):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(*args)

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "shutil", SimpleNamespace(copyfileobj=full))
        code, _, err = fetch(capsys, "caltech101", "--root", root)
    assert code == 2 and err == [
        f"error: [Errno 28] No space left on device: '{root / 'caltech-101'}'"
    ]
    folder = root / "caltech-101"
    assert [p.name for p in folder.iterdir() if p.is_dir()] == [".fetch"]
    asked = list(server.asked)
    assert fetch(capsys, "caltech101", "--root", root)[0] == 0
    assert server.asked == asked  # what had arrived was kept
    assert tree(folder) == needed(KINDS["caltech101"], top)


def test_archives_are_kept_on_request(published, tmp_path, capsys):
    published("eurosat")
    assert fetch(capsys, "eurosat", "--root", tmp_path, "--keep")[0] == 0
    assert (tmp_path / "eurosat/.fetch/EuroSAT.zip").is_file()


BAD = {
    "a path outside": (zipped({"images/../../evil.jpg": b"x"}), "which is outside of it"),
    "an absolute path": (tarred({"/images/x.jpg": b"x"}), "lacks images"),
    "no such part": (zipped({"other/x.jpg": b"x"}), "lacks images; it holds other"),
    "cut short": (tarred({"images/x.jpg": os.urandom(5000)})[:2000], "is damaged"),
    "no archive": (b"images", "is damaged"),
    "a wrong sum": (zipped({"images/x": b"hello"}).replace(b"\xcbH\xcd", b"\xcbI\xcd"), "damaged"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_archives(case, tmp_path):
    content, message = BAD[case]
    archive = tmp_path / "home" / "archive"
    archive.parent.mkdir()
    archive.write_bytes(content)
    with pytest.raises(DataError, match=message):
        unpack.unpack(archive, {"images": archive.parent / "images"})
    assert [path.name for path in tmp_path.rglob("*")] == ["home", "archive"]


def test_links_in_archives_are_left_out(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("images/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        real = tarfile.TarInfo("images/a.jpg")
        archive.addfile(real)
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    unpack.unpack(tmp_path / "a.tar", {"images": tmp_path / "images"})
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.jpg"]


CALLS = {
    "dtd": "say where the data sets lie: --root FOLDER, or export DATA=FOLDER",
    "dtt --root .": "data set is 'dtt'; choose from",
    "digits --root .": "digits is made on first use: there is nothing to fetch",
}


@pytest.mark.parametrize("call", CALLS)
def test_bad_calls(call, capsys, monkeypatch):
    monkeypatch.delenv("DATA", raising=False)
    code, out, err = fetch(capsys, *call.split())
    assert (code, out, len(err)) == (2, "", 1) and CALLS[call] in err[0]


def test_what_can_be_fetched_is_listed(capsys):
    assert varprompt(["fetch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)
    assert "reported dead" in next(line for line in lines if line.startswith("sun397"))


def test_no_network_is_one_line_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fetching, "direct", lambda page: "http://127.0.0.1:9/x")
    monkeypatch.setenv("DATA", str(tmp_path))
    code, out, err = fetch(capsys, "eurosat")
    assert (code, out, len(err)) == (1, "", 2) and all("refused" in line for line in err)


@pytest.mark.skipif(
    Version(torchvision.__version__) < Version("0.29"), reason="older addresses and sums"
)
def test_sums_are_torchvisions():
    sets = torchvision.datasets
    known = {archive.url: archive.md5 for some in ARCHIVES.values() for archive in some}
    assert known[sets.DTD._URL] == sets.DTD._MD5
    assert known[sets.Food101._URL] == sets.Food101._MD5
    assert dict(sets.OxfordIIITPet._RESOURCES).items() <= known.items()
    flowers = sets.Flowers102
    file, md5 = flowers._file_dict["image"]
    assert known[f"{flowers._download_url_prefix}{file}"] == md5
    assert sets.FGVCAircraft._URL in known
    for kind, name in ((sets.Caltech101, "caltech101"), (sets.EuroSAT, "eurosat")):
        text = inspect.getsource(kind)
        assert all(a.url in text and a.md5 in text for a in ARCHIVES[name])


def test_pages_of_drive_become_files():
    page = KINDS["dtd"].sources[KINDS["dtd"].split_file]
    assert page.split("/")[-2] in fetching.direct(page)
    assert fetching.direct("https://example.org/x.zip") == "https://example.org/x.zip"
