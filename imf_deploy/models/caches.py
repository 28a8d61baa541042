"""The caches of torch and of Hugging Face, filled by their own downloaders."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import torch

from imf_deploy.errors import ImfDeployError, first_line
from imf_deploy.files import sha256_file
from imf_deploy.untrusted import shorten

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def from_url(url: str) -> Path:
    """Return a file of torch's cache (``TORCH_HOME``), downloaded if it is missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), stated_hash(path), progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ImfDeployError(
            f"{path.name} is not in torch's cache, and cannot be downloaded ({shorten(first_line(error))})",
            f"On a machine with a network, type: curl -LO {url} and put the file into {path.parent}",
        ) from error
    return path


def stated_hash(path: Path) -> str | None:
    """Return the first digits of the SHA-256 that torch's naming convention puts into a file's name."""
    match = torch.hub.HASH_REGEX.search(path.name)
    return match[1] if match and match[1] else None


def hash_note(path: Path) -> str:
    """Return a warning if a file does not have the hash that its name states, without a full stop."""
    stated = stated_hash(path)
    if stated is None or sha256_file(path).startswith(stated):
        return ""
    return f"{path} does not have the hash that its name states: it is not the published file"


def from_hub(name: str, *files: str) -> Path:
    """Return the first of some files that a repository has, from Hugging Face's cache (``HF_HOME``).

    It is downloaded if none of them is there.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    files = files or _HUB_FILES
    missing: Exception | None = None
    for local, file in itertools.product((True, False), files):
        try:
            with _without_warnings():
                return Path(
                    hf_hub_download(repository, file, revision=revision or None, local_files_only=local)
                )
        except LocalEntryNotFoundError as error:
            missing = error
            if not local:  # there is no network, so the other files need not be tried
                break
        except EntryNotFoundError as error:
            missing = error
        except Exception as error:  # the network, the hub, and the file system have errors of their own
            raise _not_reached(repository, file, revision, error) from error
    raise _not_reached(repository, files[0], revision, missing or RuntimeError()) from missing


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Let the hub's client print errors only: each of its attempts is a warning of several lines."""
    from huggingface_hub.utils import logging as hub

    before = hub.get_verbosity()
    hub.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub.set_verbosity(before)


def _not_reached(repository: str, file: str, revision: str, error: Exception) -> ImfDeployError:
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"models--{repository.replace('/', '--')}"
    files = file if file == "config.json" else f"config.json {file}"
    at = f" --revision {revision}" if revision else ""
    return ImfDeployError(
        f"{file} of {shorten(repository, 80)} is not in Hugging Face's cache, and cannot be downloaded "
        f"({shorten(first_line(error))})",
        f"On a machine with a network, type: hf download {repository} {files}{at} and copy "
        f"{folder} from its cache into {HF_HUB_CACHE}",
    )
