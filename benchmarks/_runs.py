"""Short runs of train.py in processes forked from one that has imported everything."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


import train  # noqa: E402
from benchmarks._rows import PASSING  # noqa: E402
from varprompt.standin.which import ensure_dassl  # noqa: E402

EPOCHS = 3
LIMIT = 300  # seconds for one run
AUGMENTED = "['random_resized_crop', 'normalize']"


def command(folder: Path, trainer: str, seed: int, dataset: str = "digits", *pairs: Any) -> list:
    """Arguments of train.py for a short run in ``folder/run``, on data in ``folder/data``."""
    return [
        "--root", str(folder / "data"), "--output-dir", str(folder / "run"), "--seed", str(seed),
        "--trainer", trainer,
        "--dataset-config-file", str(ROOT / f"configs/datasets/{dataset}.yaml"),
        "--config-file", str(ROOT / f"configs/trainers/{trainer}/embedded.yaml"),
        "OPTIM.MAX_EPOCH", str(EPOCHS), "DATASET.NUM_SHOTS", "8", "TRAIN.FEATURE_CACHE", "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE", "16", "INPUT.TRANSFORMS", AUGMENTED, *map(str, pairs),
    ]  # fmt: skip


def preload() -> None:
    """Import all that a run needs, so that a forked one starts at once, on the CPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a forked process cannot use what its parent saw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages on their own dependencies
        ensure_dassl()
        import dassl.engine  # noqa: F401
        import torch.utils.tensorboard  # noqa: F401

        import trainers.baselines  # noqa: F401
        from varprompt.towers.load import clip_module

        clip_module()
    torch.set_num_threads(1)
    gc.freeze()  # forked runs share the pages


@dataclass
class Run:
    """A process that runs train.py, forked from this one."""

    arguments: list[str]
    cache: Path
    log: Path
    pid: int = 0
    code: int | None = None

    def start(self) -> Run:
        """Start it; its output is appended to `log`."""
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._main()
        return self

    def _main(self) -> None:
        code = 1
        try:
            os.environ["VARPROMPT_CACHE"] = str(self.cache)
            with open(self.log, "ab") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = train.main(self.arguments)
        except SystemExit as leaving:
            code = leaving.code
        finally:
            sys.stdout.flush()
            os._exit(code)

    def running(self) -> bool:
        """Whether it is; if not, `code` is set (minus the signal that killed it)."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def wait(self, until: Callable[[], bool] = lambda: False, pause: float = 0.002) -> bool:
        """Wait for its end, or until `until()`; returns whether it is running.

        Raises:
            TimeoutError: it takes longer than `LIMIT`.
        """
        end = time.monotonic() + LIMIT
        while self.running() and not until():
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"no end after {LIMIT} s: {' '.join(self.arguments)}")
            time.sleep(pause)
        return self.running()

    def kill(self) -> None:
        """End it by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)

    def finish(self) -> Run:
        """Wait for its end.

        Raises:
            RuntimeError: it fails.
        """
        self.wait(pause=0.02)
        if self.code:
            raise RuntimeError(f"exit code {self.code}: {self.log.read_text()[-2000:]}")
        return self


def unfinished(run: Path) -> list[str]:
    """Temporary files of checkpoints in a run's folder."""
    try:
        return [name for name in os.listdir(run / "prompt_learner") if name.endswith(".tmp")]
    except FileNotFoundError:
        return []


def results(run: Path, *but: str) -> dict[str, Any]:
    """results.json without what may differ."""
    content = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in (*PASSING, *but)}
