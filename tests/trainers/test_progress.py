"""The progress line is Dassl's, and figures are read rarely."""

import re

import torch

from trainers.progress import StepLog

LINE = re.compile(
    r"^epoch \[2/5\] batch \[(\d+)/(\d+)\] time \d\.\d{3} \(\d\.\d{3}\) data \d\.\d{3} "
    r"\(\d\.\d{3}\) loss (\d+\.\d{4}) \((\d+\.\d{4})\) acc (\d+\.\d{4}) \((\d+\.\d{4})\) "
    r"lr 2\.0000e-03 eta \d:\d\d:\d\d$"
)


def run(n_batches, print_freq, start=0, bad=()):
    written = []
    log = StepLog(
        n_batches, print_freq, "epoch [2/5]", lambda *row: written.append(row), 100, epochs_left=3
    )
    for batch in range(start, n_batches):
        log.data_ready()
        loss = torch.tensor(float("nan") if batch in bad else batch)
        log.step(batch, {"loss": loss, "acc": 2 * loss}, 0.002)
    return written


def lines(capsys):
    return [LINE.match(line) for line in capsys.readouterr().out.splitlines()]


def test_lines(capsys):
    run(7, 3)
    found = [[float(g) for g in m.groups()] for m in lines(capsys)]
    assert found == [[3, 7, 2, 1, 4, 2], [6, 7, 5, 2.5, 10, 5]]


def test_short_epochs_print_every_batch(capsys):
    run(2, 5)
    assert len(lines(capsys)) == 2


def test_every_step_is_written():
    written = run(7, 3)
    losses = [(value, step) for tag, value, step in written if tag == "train/loss"]
    assert losses == [(sum(range(i + 1)) / (i + 1), 100 + i) for i in range(7)]  # running average
    assert [s for t, _, s in written if t == "train/lr"] == list(range(100, 107))


def test_the_rest_of_an_interrupted_epoch(capsys):
    run(7, 3, start=4)
    found = [[float(g) for g in m.groups()] for m in lines(capsys)]
    assert found == [[6, 7, 5, 4.5, 10, 9]]


def test_steps_left_out_count_in_no_average(capsys):
    run(3, 3, bad=[1])
    assert float(lines(capsys)[0][4]) == 1
