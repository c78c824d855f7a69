"""Tables in files: what is written comes back, and what is no table says so."""

import csv
import lzma
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.core.require import MissingExtraError
from gonzo.ithemal.tables import column, read_table, write_table

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
@settings(max_examples=40)
@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_strings_come_back(tmp_path_factory, suffix, rows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("t") / f"t{suffix}"
    table = {"hex": [row[0] for row in rows], "note": [row[1] for row in rows]}
    write_table(path, table)
    assert read_table(path) == table
    assert [child.name for child in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_come_back_as_strings(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"t{suffix}"
    write_table(path, {"cycles": [1.5, float("nan")], "pages": [1, 2]})
    assert read_table(path) == {"cycles": ["1.5", "nan"], "pages": ["1", "2"]}


def test_parquet_keeps_numbers_and_reads_missing_values(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    write_table(path, {"cycles": [1.5, None], "hex": ["90", None]})
    assert parquet.read_table(path)["cycles"].to_pylist() == [1.5, None]
    assert read_table(path) == {"cycles": ["1.5", ""], "hex": ["90", ""]}


def test_packed_csv_comments_and_blank_lines(tmp_path):
    path = tmp_path / "t.csv.xz"
    with lzma.open(path, "wt") as file:
        file.write("# where it came from\nhex,app\n90,a\n\n4801d8,b\n")
    assert read_table(path) == {"hex": ["90", "4801d8"], "app": ["a", "b"]}
    with pytest.raises(ValueError, match=r"packed tables are read only, got t\.csv\.xz; write"):
        write_table(path, {"hex": []})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "expected names of columns in the first line of .*, got none"),
        ("t.csv", b"a,a\n1,2\n", r"expected different names of columns in .*\['a', 'a'\]"),
        ("t.csv", b"a,b\n1,2\n1\n", "expected 2 values in line 3 of .*, got 1"),
        ("t.csv", b"a\n\xff\n", "expected CSV in UTF-8 in .*t.csv"),
        ("t.csv", b'a\n"1\n', "expected CSV in UTF-8 in .*t.csv"),
        ("t.csv.xz", b"a\n1\n", "expected CSV packed by xz in UTF-8 in .*"),
        ("t.csv.xz", lzma.compress(b"a\n1\n" * 999)[:-20], "expected CSV packed by xz in UTF-8 in"),
        ("t.txt", b"a\n1\n", r"expected a table ending in .csv, .csv.xz or .parquet, got t.txt"),
        ("t.xz", b"", r"expected a table ending in .csv, .csv.xz or .parquet, got t.xz"),
    ],
)
def test_what_is_no_table_says_so(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_what_is_no_parquet_says_so(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing more PAR1")
    with pytest.raises(ValueError, match=r"expected a parquet file in .*t.parquet"):
        read_table(tmp_path / "t.parquet")


def test_missing_files_folders_and_columns(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a table at .*, there is no file"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected a table at .*, there is a folder"):
        read_table(tmp_path / "f.csv")
    with pytest.raises(FileNotFoundError, match=r"expected a folder at .*no, there is none"):
        write_table(tmp_path / "no" / "t.csv", {"a": []})
    assert column({"a": ["1"]}, "a") == ["1"]
    with pytest.raises(ValueError, match=r"expected a column 'hex' in x\.csv; its columns are: a"):
        column({"a": []}, "hex", "x.csv")


def test_columns_must_be_equally_long(tmp_path):
    with pytest.raises(ValueError, match=r"columns of one length for t.csv, got {'a': 1, 'b': 0}"):
        write_table(tmp_path / "t.csv", {"a": [1], "b": []})
    with pytest.raises(ValueError, match=r"expected at least one column for t.csv, got none"):
        write_table(tmp_path / "t.csv", {})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    class Bad:
        def __str__(self):
            raise RuntimeError("no text")

    write_table(tmp_path / "t.csv", {"a": ["old"]})
    with pytest.raises(RuntimeError, match="no text"):
        write_table(tmp_path / "t.csv", {"a": ["new", Bad()]})
    assert read_table(tmp_path / "t.csv") == {"a": ["old"]}
    assert len(list(tmp_path.iterdir())) == 1


def test_without_pyarrow_the_error_is_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'pip install "gonzo-ithemal\[parquet\]"'):
        write_table(tmp_path / "t.parquet", {"a": []})
    assert not list(tmp_path.iterdir())


def test_the_limit_of_a_field_is_put_back(tmp_path):
    before = csv.field_size_limit()
    write_table(tmp_path / "t.csv", {"a": ["9" * (before + 1)]})
    assert len(read_table(tmp_path / "t.csv")["a"][0]) == before + 1
    assert csv.field_size_limit() == before
