"""The reader of tables: CSV, JSON lines and Parquet from any source."""

import importlib.util
from pathlib import Path

import pytest

from imf_deploy.data import table as module
from imf_deploy.data.table import read_table
from imf_deploy.errors import ImfDeployError, UsageError

PYARROW = pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="needs pyarrow")


def read(path: Path, content: str | bytes) -> list[tuple[str, str, str | None]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.image, row.label, row.split) for row in read_table(path).rows]


def problem(path: Path, content: str | bytes) -> ImfDeployError:
    with pytest.raises(ImfDeployError) as caught:
        read(path, content)
    assert str(path) in caught.value.what
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


TWO = [("a.png", "cat", None), ("b, c.png", 'the "dog"', None)]


@pytest.mark.parametrize(
    "content",
    [
        'path,label\na.png,cat\n"b, c.png","the ""dog"""\n',
        'path,label\r\na.png,cat\r\n"b, c.png","the ""dog"""',
        '\ufeffImage_Path;Class\na.png;cat\nb, c.png;"the ""dog"""\n',
        'id\tfilename\tcategory\n1\ta.png\tcat\n\n2\tb, c.png\t"the ""dog"""\n',
        ' file , label \n a.png , cat \n"b, c.png","the ""dog"""\n\n,\n',
    ],
)
def test_csv(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "t.csv", content) == TWO


def test_json_lines(tmp_path: Path) -> None:
    lines = '{"file_name": "a.png", "label": "cat"}\n\n{"label": "the \\"dog\\"", "file_name": "b, c.png"}\n'
    assert read(tmp_path / "t.jsonl", lines) == TWO
    numbers = '{"file_name": "a.png", "label": 3, "split": "train"}'
    assert read(tmp_path / "t.jsonl", numbers) == [("a.png", "3", "train")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("path,label\n", "has no rows"),
        ("a.png,cat\nb.png,dog\n", "has no column of images; it has 'a.png', 'cat'"),
        ("path,cat,dog\na.png,1,0\n", "has no column of labels; it has 'path', 'cat', 'dog'"),
        ("path,image,label\n", "2 columns that could hold the images: 'path' and 'image'"),
        ("path,label,Label\n", "2 columns that could hold the labels: 'label' and 'Label'"),
        ("path,label,split,set\n", "2 columns that could hold the splits: 'split' and 'set'"),
        ("path,label\na.png,cat\nb.png\n", "line 3 of"),
        ("path,label\na.png,cat\nb,c.png,dog\n", "has 3 value(s), but there are 2 columns"),
        ('path,label\na.png,cat\n"b.png,dog\n', "line 3 of"),
        ('path,label\n"a"x,cat\n', "is not valid CSV"),
        ('path,label\n"a\nb.png",cat\nc.png,\n', "line 4 of"),
        (b"path,label\na.png,cat\nb.png,caf\xe9\n", "line 3 of"),
        ("path,label\n".encode("utf-16"), "line 1 of"),
        ("path,label\na.png," + "x" * 200_000, "line 2 of"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, content: str | bytes, said: str) -> None:
    assert said in problem(tmp_path / "t.csv", content).what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("[1]", "line 1 of"),
        ('{"path": "a", "label": "b"}\n{"path": "a"', "line 2 of"),
        ('{"path": "a", "label": "b"}\n{"path": "a"}', "no value in the column 'label'"),
        ('{"path": "a", "label": null}', "no value in the column 'label'"),
        ('{"path": "a", "label": 1.5}', "holds 1.5, which is neither text nor an integer"),
        ('{"path": "a", "label": ["cat", "dog"]}', "which is neither text nor an integer"),
        ('{"path": {"bytes": ""}, "label": 1}', "which is neither text nor an integer"),
        ('{"path": "a", "label": ' + "9" * 4000 + "}", "which is neither text nor an integer"),
        ('{"path": "a", "label": ' + "[" * 100_000, "line 1 of"),
        ('{"path": "\\ud800", "label": "b"}', "line 1 of"),
    ],
)
def test_json_lines_that_cannot_be_used(tmp_path: Path, content: str, said: str) -> None:
    assert said in problem(tmp_path / "t.jsonl", content).what


def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, said in (
        (tmp_path / "none.csv", "does not exist"),
        (tmp_path, "is not a file"),
        (tmp_path / ("x" * 5000), "does not exist"),
    ):
        with pytest.raises(UsageError, match=said):
            read_table(path)
    assert "unknown ending" in problem(tmp_path / "labels.xlsx", b"PK").what
    monkeypatch.setattr(module, "LARGEST_TABLE", 20)
    assert "is larger than" in problem(tmp_path / "t.csv", "path,label\na.png,cat\n").what
    monkeypatch.setattr(module, "LARGEST_TABLE", 1000)
    monkeypatch.setattr(module, "MOST_ROWS", 1)
    assert "has more than 1 rows" in problem(tmp_path / "t.csv", "path,label\na.png,cat\nb.png,cat\n").what


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    error = problem(tmp_path / "t.parquet", b"PAR1")
    assert "imf-deploy[parquet]" in error.hint


@PYARROW
class TestParquet:
    """Tables that pyarrow writes."""

    def write(self, target: Path, **columns: object) -> Path:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), target)
        return target

    def test_text_and_integers(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path / "t.parquet",
            label=[3, 5],
            size=[1.5, 2.5],
            path=["a.png", "b.png"],
            split=["train", "test"],
        )
        assert [tuple(row) for row in read_table(path).rows] == [
            (1, "a.png", "3", "train"),
            (2, "b.png", "5", "test"),
        ]

    def test_categories(self, tmp_path: Path) -> None:
        import pyarrow

        label = pyarrow.array(["cat", "dog", "cat"]).dictionary_encode()
        path = self.write(tmp_path / "t.parquet", path=["a", "b", "c"], label=label)
        assert [row.label for row in read_table(path).rows] == ["cat", "dog", "cat"]

    @pytest.mark.parametrize(
        ("label", "said"),
        [
            ([1.0, 2.0], "row 1 of"),
            (["cat", None], "row 2 of"),
            ([b"cat", b"dog"], "which is neither text nor an integer"),
            ([{"a": 1}, {"a": 2}], "which is neither text nor an integer"),
        ],
    )
    def test_labels_that_cannot_be_used(self, tmp_path: Path, label: list[object], said: str) -> None:
        path = self.write(tmp_path / "t.parquet", path=["a", "b"], label=label)
        with pytest.raises(ImfDeployError) as caught:
            read_table(path)
        assert said in caught.value.what

    def test_damaged_files(self, tmp_path: Path) -> None:
        names = [f"{number:06}.png" for number in range(5000)]
        whole = self.write(tmp_path / "t.parquet", path=names, label=["cat", "dog"] * 2500).read_bytes()
        for content in (b"", b"PAR1", whole[: len(whole) // 2], whole[:1000] + bytes(2000) + whole[3000:]):
            problem(tmp_path / "t.parquet", content)

    def test_limits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.write(tmp_path / "t.parquet", path=["x" * 100_000] * 400, label=["cat"] * 400)
        monkeypatch.setattr(module, "LARGEST_TABLE", 1 << 20)
        assert path.stat().st_size < 1 << 20
        with pytest.raises(ImfDeployError, match=r"paths and labels .* take more than 1 MiB"):
            read_table(path)
        monkeypatch.setattr(module, "MOST_ROWS", 399)
        with pytest.raises(ImfDeployError, match="more than 399 rows"):
            read_table(path)
