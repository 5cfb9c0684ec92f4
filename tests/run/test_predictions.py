"""The table of predictions: every number comes back, in both formats."""

import csv
import math

import numpy as np
import pytest
import torch

from varprompt.run import predictions
from varprompt.run.predictions import Predictions, file_name, write_predictions

LATIN = b"caf\xe9.png".decode(errors="surrogateescape")


@pytest.fixture(params=[1, 11])
def table(request, monkeypatch):
    monkeypatch.setattr(predictions, "_BLOCK", 4)  # several blocks, the last one short
    n = request.param
    generator = torch.Generator().manual_seed(3)
    log_prob = (9 * torch.randn(n, 3, generator=generator)).log_softmax(-1)
    log_prob[0, 1] = -math.inf
    names = ["hot dog", 'a "b", c', "d\ne"]
    paths = [f"x/{i}.png" for i in range(n - 1)] + [LATIN]
    scores = torch.rand(3, n, generator=generator, dtype=torch.float64)
    return Predictions(paths, names, torch.arange(n) % 3, log_prob, *scores)


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_parquet(path):
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize(("kind", "read"), [("csv", read_csv), ("parquet", read_parquet)])
def test_everything_comes_back(kind, read, table, tmp_path):
    assert write_predictions(tmp_path, kind, table) == file_name(kind) == f"predictions.{kind}"
    rows = read(tmp_path / file_name(kind))
    assert [file.name for file in tmp_path.iterdir()] == [file_name(kind)]
    assert list(rows[0]) == table.columns and len(rows) == len(table)
    assert [row["path"] for row in rows] == [*table.paths[:-1], r"caf\udce9.png"]
    predicted = table.log_prob.argmax(1)
    assert [int(row["label"]) for row in rows] == table.labels.tolist()
    assert [int(row["predicted"]) for row in rows] == predicted.tolist()
    assert [row["label_name"] for row in rows] == [table.classnames[i] for i in table.labels]
    assert [row["predicted_name"] for row in rows] == [table.classnames[i] for i in predicted]
    numbers = {
        "probability": table.log_prob.max(1)[0].exp(), "total": table.total,
        "aleatoric": table.aleatoric, "epistemic": table.epistemic,
        **{f"log_prob_{i}": table.log_prob[:, i] for i in range(3)},
    }  # fmt: skip
    for name, want in numbers.items():
        got = np.array([float(row[name]) for row in rows], np.float32)
        assert np.array_equal(got, want.float().numpy()), name  # to the last bit


def test_nothing_wanted_is_no_name():
    assert file_name("") == ""


def test_half_a_table_is_not_there(table, tmp_path, monkeypatch):
    (tmp_path / "predictions.csv").write_text("old")

    def fail(self):
        yield next(blocks(self))
        raise OSError(28, "No space left on device")

    blocks = Predictions.blocks
    monkeypatch.setattr(Predictions, "blocks", fail)
    with pytest.raises(OSError, match=r"No space left.*predictions.csv"):
        write_predictions(tmp_path, "csv", table)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]
    assert (tmp_path / "predictions.csv").read_text() == "old"
