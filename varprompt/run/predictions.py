"""What a test says of each image: a table beside the results, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from ..common.files import write_atomic

FORMATS = ("", "csv", "parquet")
EXTRA = "parquet"  # of the package, which brings pyarrow
_BLOCK = 4096  # rows that are turned into text or into columns at once


@dataclass(frozen=True)
class Predictions:
    """One row an image, in the order of the test.

    Attributes:
        paths: where the images are, from DATASET.ROOT.
        classnames: C names in the order of the labels.
        labels: `(N,)`.
        log_prob: `(N, C)`, of the predictive distribution.
        total: `(N,)`, entropy of the predictive distribution in nats.
        aleatoric: `(N,)`, mean entropy of the samples in nats.
        epistemic: `(N,)`, what is left: how much the samples disagree.
    """

    paths: Sequence[str]
    classnames: Sequence[str]
    labels: Tensor
    log_prob: Tensor
    total: Tensor
    aleatoric: Tensor
    epistemic: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def columns(self) -> list[str]:
        """Names of the columns; one log-probability for each label."""
        first = ["path", "label", "label_name", "predicted", "predicted_name", "probability"]
        logs = [f"log_prob_{label}" for label in range(self.log_prob.shape[1])]
        return [*first, "total", "aleatoric", "epistemic", *logs]

    def blocks(self) -> Iterator[list[Any]]:
        """Some rows at a time: the values of each column, floats as NumPy arrays."""
        for start in range(0, len(self), _BLOCK):
            rows = slice(start, start + _BLOCK)
            log_prob, labels = self.log_prob[rows].float(), self.labels[rows].tolist()
            confidence, predicted = log_prob.max(1)
            scores = (confidence.exp(), self.total[rows], self.aleatoric[rows])
            yield [
                list(self.paths[rows]), labels, [self.classnames[i] for i in labels],
                predicted.tolist(), [self.classnames[i] for i in predicted.tolist()],
                *(score.float().numpy() for score in (*scores, self.epistemic[rows])),
                *log_prob.T.contiguous().numpy(),
            ]  # fmt: skip


def file_name(kind: str) -> str:
    """What the file of a format is called; "" of none."""
    return kind and f"predictions.{kind}"


def write_predictions(folder: str | Path, kind: str, table: Predictions) -> str:
    """Write `table`, whole or not at all; returns the name of the file.

    Numbers are float32, and in CSV have the nine digits that give them back exactly.

    Args:
        folder: of the run.
        kind: "csv" or "parquet".
        table: what is written.

    Raises:
        OSError: the disk is full, or nothing may be written there.
    """
    write = {"csv": _write_csv, "parquet": _write_parquet}[kind]
    write_atomic(Path(folder) / file_name(kind), lambda file: write(file, table))
    return file_name(kind)


def _write_csv(file: IO[bytes], table: Predictions) -> None:
    text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    for block in table.blocks():
        columns = [
            [f"{value:.9g}" for value in column] if hasattr(column, "dtype") else column
            for column in block
        ]
        writer.writerows(zip(*columns, strict=True))
    text.flush()
    text.detach()  # who has opened the file closes it


def _write_parquet(file: IO[bytes], table: Predictions) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"path": pa.string(), "label": pa.int64(), "label_name": pa.string(),
             "predicted": pa.int64(), "predicted_name": pa.string()}  # fmt: skip
    schema = pa.schema([(name, kinds.get(name, pa.float32())) for name in table.columns])
    with pq.ParquetWriter(file, schema) as writer:
        for block in table.blocks():
            columns = [
                pa.array([_in_utf8(v) for v in column] if kind == pa.string() else column, kind)
                for column, kind in zip(block, schema.types, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=schema))


def _in_utf8(text: str) -> str:
    """A name of a file may hold bytes that are no text."""
    return text.encode(errors="backslashreplace").decode()
