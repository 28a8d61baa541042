"""Workers where shared memory is small, full or missing."""

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from imf_deploy.data import DataSet, encoded, eval_batches, open_data, transport
from imf_deploy.data.augment import Augment
from imf_deploy.data.batches import TrainLoader
from imf_deploy.data.dataset import Split
from imf_deploy.data.transport import PipedBatch, Transport
from imf_deploy.errors import ImfDeployError
from imf_deploy.settings import DataSettings


@pytest.fixture(autouse=True)
def unsaid() -> None:
    transport._warned.clear()


@pytest.fixture
def lazy(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """The images of ``image_folder``, which two processes decode each time."""
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    monkeypatch.setattr(encoded, "usable_cpus", lambda: 2)
    return open_data(DataSettings(str(image_folder)))


def free(monkeypatch: pytest.MonkeyPatch, amount: int | None) -> None:
    monkeypatch.setattr(transport, "_free", lambda: amount)


def test_room_for_all_batches(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for amount in (None, 1 << 40):
        free(monkeypatch, amount)
        assert Transport.choose(2, 1 << 20) == Transport(2)
    assert Transport.choose(0, 1 << 20) == Transport(0)
    assert caplog.text == ""


def test_a_container_has_64_mb(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    free(monkeypatch, 64 << 20)
    for _ in range(3):
        assert Transport.choose(4, 64 * 3 * 224 * 224) == Transport(4, piped=True)
    assert Transport.choose(4, 64 * 3 * 16 * 16) == Transport(4)
    (line,) = caplog.messages
    assert "64 MiB free" in line
    assert "--shm-size" in line


def test_full_or_read_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    free(monkeypatch, 4096)
    assert Transport.choose(2, 1) == Transport(0)
    assert "it is full" in caplog.text
    transport._warned.clear()
    free(monkeypatch, 1 << 40)

    def refuse() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(multiprocessing, "Lock", refuse)
    assert Transport.choose(2, 1) == Transport(0)
    assert "Read-only file system" in caplog.text


@pytest.mark.parametrize("amount", [1 << 40, 1 << 20, 4096])
def test_every_way_brings_the_same(
    lazy: DataSet, data: DataSet, monkeypatch: pytest.MonkeyPatch, amount: int
) -> None:
    free(monkeypatch, amount)
    for here, there in zip(
        eval_batches(data.test, data.preprocess, 7), eval_batches(lazy.test, lazy.preprocess, 7), strict=True
    ):
        assert torch.equal(here[0], there[0])
        assert torch.equal(here[1], there[1])
    loaders = [
        TrainLoader(d.train, d.preprocess, 8, Augment(1), 0, held_out=d.validation) for d in (data, lazy)
    ]
    for batches in (lambda loader: loader.epoch(3), lambda loader: loader.evaluation()):
        for here, there in zip(*map(batches, loaders), strict=True):
            assert torch.equal(here[0], there[0])
            assert torch.equal(here[1], there[1])


@dataclass
class Deadly:
    """Pictures that kill the process that fetches them."""

    labels: torch.Tensor
    workers: int = 1
    marks: torch.Tensor | None = None

    def fetch(self, positions: torch.Tensor, crops: object = None) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return torch.empty(0)


def test_a_worker_that_is_killed_is_said(data: DataSet) -> None:
    split = Split.whole(Deadly(torch.zeros(8, dtype=torch.int64)))
    with pytest.raises(ImfDeployError, match="a process that decodes images has died") as caught:
        list(eval_batches(split, data.preprocess, 4))
    assert "pid" in caught.value.what
    assert "--shm-size" in caught.value.hint


def test_a_piped_batch_holds_no_tensor() -> None:
    images, labels = torch.arange(12, dtype=torch.uint8).view(1, 3, 2, 2), torch.tensor([4])
    batch = pickle.loads(pickle.dumps(PipedBatch.of(images, labels)))
    assert not any(isinstance(value, torch.Tensor) for value in vars(batch).values())
    assert torch.equal(batch.tensors()[0], images)
    assert torch.equal(batch.tensors()[1], labels)


SCRIPT = """
import sys, torch
from imf_deploy.data import encoded, eval_batches, open_data
from imf_deploy.settings import DataSettings
from imf_deploy.show.bars import install
install()
encoded.MEMORY_LIMIT, encoded.usable_cpus = 100, lambda: 2
data = open_data(DataSettings(sys.argv[1], image_size=224))
print(sum(len(labels) for _ in range(3) for _, labels in eval_batches(data.test, data.preprocess, 6)))
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [("size=4m", "use pipes"), ("size=8k", "it is full"), ("size=4m,ro", "Read-only file system")],
)
def test_a_real_small_one(image_folder: Path, options: str, said: str) -> None:
    mount = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
    private = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("only who may mount can make another /dev/shm")
    done = subprocess.run(
        [*private, sys.executable, "-c", SCRIPT, str(image_folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == str(3 * 18)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
