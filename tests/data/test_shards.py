"""Shards give what a folder of the same pictures gives, by position, and say what is wrong with them."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from imf_deploy.data import Augment, DataSet, encoded, open_data, reopen_data, train_batches
from imf_deploy.data.dataset import EncodedImages, MemoryImages
from imf_deploy.data.image_file import FORMATS
from imf_deploy.data.shards import expand
from imf_deploy.errors import ImfDeployError, UsageError
from imf_deploy.models import ModelSpec
from imf_deploy.settings import DataSettings, TrainingSettings
from imf_deploy.training.supervised import train_classifier

Members = list[tuple[str, bytes]]
MakeShard = Callable[[Path, Members], Path]
MakeSamples = Callable[..., Members]


def opened(data: object, **options: object) -> DataSet:
    return open_data(DataSettings(str(data), **options))  # type: ignore[arg-type]


def by_class(data: DataSet) -> list[list[bytes]]:
    """Return the sorted pictures of each class of the test split."""
    images = data.test.fetch(torch.arange(len(data.test)))
    return [
        sorted(image.numpy().tobytes() for image in images[data.test.labels == c])
        for c in range(data.preprocess.num_classes)
    ]


@pytest.mark.parametrize("form", ["cls", "name", "json"])
def test_they_hold_what_the_folder_holds(
    image_folder: Path,
    data: DataSet,
    tmp_path: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    form: str,
) -> None:
    for part in ("train", "val"):
        make_shard(tmp_path / f"{part}-000.tar", make_samples(image_folder / part, form))
    found = opened(tmp_path)
    assert [len(found.train), len(found.validation), len(found.test)] == [42, 6, 18]
    assert by_class(found) == by_class(data)
    names = ("0", "1", "2") if form == "cls" else ("class0", "class1", "class2")
    assert found.preprocess.labels == names
    assert found.preprocess.size == 16
    assert any("val" in note and "never to choose" in note for note in found.notes)


def test_names_come_from_a_file_beside_them(shards: Path, data: DataSet) -> None:
    (shards / "classes.txt").write_text("2\nrose\nÄhre\n", encoding="utf-8")
    found = opened(shards)
    assert found.preprocess.labels == ("2", "rose", "Ähre")
    assert by_class(found) == by_class(data)  # the shards' 2 is a number: not every class is a name


@pytest.mark.parametrize(
    "pattern", ["{0}/train-{{0..1}}.tar,{0}/val-0.tar", "{0}/{{train-{{0..1}},val-0}}.tar", "{0}"]
)
def test_ways_to_name_them(shards: Path, pattern: str) -> None:
    if pattern.count("{{") == 2:
        pattern = "{0}/{{train-0,train-1,val-0}}.tar"
    named = opened(pattern.format(shards))
    assert (len(named.train), len(named.test)) == (42, 18)
    assert named.name == "shards"


def test_splits_by_folder_and_shards_without_a_split(shards: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "d" / part).mkdir(parents=True)
        for path in shards.glob(f"{part}-*.tar"):
            path.rename(tmp_path / "d" / part / path.name.removeprefix(f"{part}-"))
    assert len(opened(tmp_path / "d").test) == 18
    everything = opened(f"{tmp_path}/d/train/{{0,1}}.tar")
    assert (len(everything.train), len(everything.validation), len(everything.test)) == (36, 3, 9)


def test_expansion() -> None:
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{x,y}/{0..1}.tar") == ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]
    assert expand("plain.tar") == ["plain.tar"]


def test_what_does_not_fit_into_memory_is_read_by_position(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = opened(shards)
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    lazy = opened(shards)
    assert isinstance(kept.train.source, MemoryImages)
    assert isinstance(lazy.train.source, EncodedImages)
    assert lazy.fingerprint == kept.fingerprint
    batches = [
        list(train_batches(data.train, data.preprocess, 8, Augment(1), seed=3, epoch=2))
        for data in (kept, lazy)
    ]
    for (a, b), (c, d) in zip(*batches, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_an_index_entry_is_a_few_bytes(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    pictures = opened(shards).train.source.pictures  # type: ignore[attr-defined]
    tensors = [value for value in vars(pictures).values() if isinstance(value, torch.Tensor)]
    assert sum(t.element_size() * len(t) for t in tensors) == 20 * len(pictures)
    others = [value for value in vars(pictures).values() if not isinstance(value, torch.Tensor)]
    assert sorted(map(len, others)) == [2, 64]  # two shards and a hash


def test_a_training_on_them_and_nothing_unpacked(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    before = sorted(shards.rglob("*"))
    config = TrainingSettings(epochs=1, batch_size=16, device="cpu")
    path = tmp_path / "out" / "t.safetensors"
    made = train_classifier(ModelSpec("resnet8", 3, 16), opened(shards), config, path, "teacher")
    assert made.images == 42
    assert sorted(shards.rglob("*")) == before
    assert {p.name for p in path.parent.iterdir()} == {"t.safetensors", "t.safetensors.json"}


def test_moved_shards_are_the_same_and_other_shards_are_not(
    shards: Path, tmp_path: Path, make_shard: MakeShard, make_samples: MakeSamples, image_folder: Path
) -> None:
    first = opened(shards)
    moved = shards.rename(tmp_path / "elsewhere").rename(tmp_path / "deeper-shards")
    (tmp_path / "x").mkdir()
    moved = moved.rename(tmp_path / "x" / "shards")
    assert reopen_data(first.config, str(moved)).fingerprint == first.fingerprint
    make_shard(moved / "val-0.tar", make_samples(image_folder / "val")[:-2])
    assert opened(moved).fingerprint != first.fingerprint


def problem(data: object) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        opened(data)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("cut", [100, 512, 1024, 3 * 512, 5000, 10240])
def test_a_truncated_shard(shards: Path, cut: int) -> None:
    bad = shards / "train-1.tar"
    content = bad.read_bytes().rstrip(b"\0")
    bad.write_bytes(content[: -(-len(content) // 512) * 512][:-cut])
    assert f"the shard {bad} is truncated or damaged at or after member 00" in str(problem(shards))


def test_a_cut_between_two_members(shards: Path, make_shard: MakeShard, tmp_path: Path) -> None:
    import tarfile

    bad = shards / "train-1.tar"
    with tarfile.open(bad) as tar:
        start = tar.getmembers()[4].offset
    bad.write_bytes(bad.read_bytes()[:start])
    assert "truncated" in str(problem(shards))


def test_a_member_that_is_no_picture(
    shards: Path, make_shard: MakeShard, make_samples: MakeSamples, image_folder: Path
) -> None:
    members = make_samples(image_folder / "train")
    members[6] = ("0003.png", b"this is no picture")
    bad = make_shard(shards / "train-0.tar", members)
    assert f"{bad}, member 0003.png" in str(problem(shards))


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "it is empty"), (b"<html>not found</html>", "it is not one of JPEG, PNG")]
)
def test_what_is_no_picture_is_named_at_the_start_without_decoding(
    shards: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    said: str,
) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    members = make_samples(image_folder / "val")
    members[4] = ("0002.png", content)
    bad = make_shard(shards / "val-0.tar", members)
    assert f"cannot read the image {bad}, member 0002.png ({said}" in str(problem(shards))


def test_every_kind_of_picture_is_known_by_its_first_bytes(
    shards: Path, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    members: Members = []
    for number, form in enumerate(FORMATS):
        content = io.BytesIO()
        Image.new("RGB", (16, 16), (number, 0, 0)).save(content, form)
        members += [(f"{number}.jpg", content.getvalue()), (f"{number}.cls", b"0")]
    make_shard(shards / "val-0.tar", members)
    assert len(opened(shards).test) == len(FORMATS)


def test_a_member_that_is_no_picture_is_named_during_training(
    shards: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = make_samples(image_folder / "train")
    members[6] = ("0003.png", members[6][1][:-200])
    bad = make_shard(shards / "train-0.tar", members)
    monkeypatch.setattr(encoded, "MEMORY_LIMIT", 100)
    data = opened(shards)
    with pytest.raises(ImfDeployError) as caught:
        list(train_batches(data.train, data.preprocess, 4, Augment(1), 0, 0))
    assert f"{bad}, member 0003.png" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (("0000.jpg", b"x"), "second image"),
        (("9999.png", b"GIF89a"), "9999: it has an image but no class"),
        (("9999.cls", b"1"), "9999: it has a class but no image"),
        (("9999.json", b"[1]"), "9999.json in the shard"),
        (("9999.json", b'{"lable": 1}'), '9999.json: it is not {"label": …}'),
        (("9999.json", b'{"label": 1.5}'), "neither an integer nor a name"),
        (("9999.cls", b"\xff"), "9999.cls"),
        (("9999.cls", b""), "9999.cls"),
    ],
)
def test_a_sample_that_cannot_be_used(
    shards: Path,
    make_shard: MakeShard,
    make_samples: MakeSamples,
    image_folder: Path,
    member: tuple[str, bytes],
    said: str,
) -> None:
    bad = make_shard(shards / "train-0.tar", [*make_samples(image_folder / "train"), member])
    message = str(problem(shards))
    assert said in message
    assert str(bad) in message


def test_a_sample_whose_picture_has_an_unknown_ending(
    shards: Path, make_shard: MakeShard, make_samples: MakeSamples, image_folder: Path
) -> None:
    members = [*make_samples(image_folder / "train"), ("9999.avif", b"x"), ("9999.cls", b"1")]
    make_shard(shards / "train-0.tar", members)
    said = "9999: it has a class but no image, and .avif is not a supported image type"
    assert said in str(problem(shards))


def test_a_path_out_of_the_tar_is_only_a_key(shards: Path, make_shard: MakeShard, image_folder: Path) -> None:
    picture = (image_folder / "val" / "class0" / "00.png").read_bytes()
    evil = [("../../evil.png", picture), ("../../evil.cls", b"0")]
    make_shard(shards / "val-0.tar", evil)
    assert len(opened(shards).test) == 1
    assert not list(shards.parent.parent.rglob("evil*"))


def test_classes_that_do_not_fit(shards: Path, make_shard: MakeShard, image_folder: Path) -> None:
    picture = (image_folder / "val" / "class0" / "00.png").read_bytes()
    make_shard(shards / "val-0.tar", [("a.png", picture), ("a.cls", b"7")])
    assert "the class '7', which is not one of the 3 in the training images" in str(problem(shards))
    (shards / "classes.txt").write_text("a\nb\nc\n")
    assert "classes.txt" in str(problem(shards))
    (shards / "classes.txt").write_text("a\nb\na\n")
    assert "names a class twice" in str(problem(shards))
    (shards / "classes.txt").write_text("\n".join("abcdefgh"))
    assert "5 class(es) without a training image, such as 'd'" in str(problem(shards))


def test_shards_that_are_not_there(shards: Path) -> None:
    error = problem(f"{shards}/train-{{0..3}}.tar")
    assert isinstance(error, UsageError)
    assert f"2 of 4 shards do not exist, such as {shards}/train-2.tar" in str(error)


def test_shards_of_which_some_name_no_split(shards: Path) -> None:
    (shards / "train-1.tar").rename(shards / "more-1.tar")
    assert "more-1.tar does not give its split" in str(problem(shards))
    (shards / "more-1.tar").unlink()
    (shards / "train-0.tar").unlink()
    assert "no training shard" in str(problem(shards))


def test_a_compressed_tar(shards: Path) -> None:
    bad = shards / "train-0.tar"
    bad.write_bytes(gzip.compress(bad.read_bytes()))
    assert f"{bad} is not an uncompressed tar" in str(problem(shards))
    bad.write_bytes(b"")
    assert str(bad) in str(problem(shards))
