"""Genomes in JSON: back to the last bit, and refused with a reason."""

import contextlib
import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.neuroevo.export import from_json, load, save, to_json
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

genomes = runpy.run_path(str(Path(__file__).with_name("genomes.py")))["genomes"]

GENOME = Genome(
    2,
    1,
    (NodeGene(0, 0.1), NodeGene(7, -1e-300, 1 / 3, "inv", "maxabs", 2.5)),
    (ConnectionGene(-1, 7, 1e300, False, 12), ConnectionGene(7, 7, -0.0)),
)


@settings(max_examples=60, deadline=None)
@given(genomes(cyclic=True))
def test_there_and_back(genome):
    assert from_json(to_json(genome)) == genome


def test_files(tmp_path):
    path = save(GENOME, tmp_path / "genome.json")
    assert load(path) == load(str(path)) == GENOME
    save(Genome(1, 1, (NodeGene(0),)), path)
    assert load(path).connections == ()
    assert [file.name for file in tmp_path.iterdir()] == ["genome.json"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(GENOME, tmp_path / "none" / "genome.json")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(GENOME, tmp_path / "genome.json")

    def fail(*_):
        raise OSError("full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        save(Genome(1, 1, (NodeGene(0),)), path)
    assert load(path) == GENOME
    assert len(list(tmp_path.iterdir())) == 1


def changed(**fields):
    return json.dumps(json.loads(to_json(GENOME)) | fields)


def with_gene(kind, index=0, **fields):
    data = json.loads(to_json(GENOME))
    data[kind][index] |= fields
    return json.dumps(data)


def without(kind, key):
    data = json.loads(to_json(GENOME))
    del data[kind][0][key]
    return json.dumps(data)


BAD = {
    "": "Expecting value",
    "{": "from_json: Expecting property name",
    "[]": "expected an object, got a list",
    "{}": "expected the format 'gonzo-genome', got null",
    "genome.json": "Expecting value",
    '{"a": NaN}': "from_json: NaN is no number here",
    '{"a": -Infinity}': "-Infinity is no number here",
    '{"a": 1e999}': "1e999 is no number here",
    '{"a": 1, "a": 2}': "the key 'a' comes more than once",
    "[" * 100_000: "nested too deep",
    '{"a":' * 100_000: "nested too deep",
    '{"a": ' + "9" * 5000 + "}": "Exceeds the limit",
    changed(format="other"): "expected the format 'gonzo-genome', got \"other\"",
    changed(version=2): "has version 2, and this package reads version 1; pip install --upgrade",
    changed(version=True): "expected version to be a whole number of at most 63 bits, got true",
    changed(author=1, zoo=2): "unknown keys 'author', 'zoo'; expected format, version",
    changed(inputs=2.0): "expected inputs to be a whole number from 0 to 100000, got 2.0",
    changed(outputs=10**12): "expected outputs to be a whole number from 0 to 100000, got 1000",
    changed(outputs=0): "Genome: expected 0 or more inputs and 1 or more outputs",
    changed(outputs=3): "Genome: no node gene for output 1",
    changed(nodes={}): "expected nodes to be a list, got an object",
    changed(nodes=[1]): r"nodes\[0\]: expected an object, got 1",
    changed(connections="x" * 90): r'connections to be a list, got "x{39}…',
    with_gene("nodes", bias="0.5"): r'nodes\[0\]: expected bias to be a number, got "0.5"',
    with_gene("nodes", bias=True): r"nodes\[0\]: expected bias to be a number, got true",
    with_gene("nodes", bias=10**400): r"nodes\[0\]: expected bias to be a number, got 1000",
    with_gene("nodes", key=2**70): r"nodes\[0\]: expected key to be a whole number of at most 63",
    with_gene("nodes", key=2**62): "has no key in 0 … 2",
    with_gene("nodes", 1, activation="os.system"): "node 7 has the activation 'os.system', expec",
    with_gene(
        "nodes", 1, activation=None
    ): r"nodes\[1\]: expected activation to be a string, got nu",
    with_gene("nodes", 1, key=0): "the node key 0 comes more than once",
    with_gene("nodes", 1, colour="red"): r"nodes\[1\]: unknown key 'colour'; expected key, bias",
    with_gene("nodes", 1, time_constant=0): "has the time_constant 0.0, expected above 0",
    with_gene("connections", enabled=1): r"connections\[0\]: expected enabled to be true or false",
    with_gene("connections", layer=1): r"connections\[0\]: unknown key 'layer'; expected source",
    with_gene("connections", source=-3): "connection -3 → 7 starts at a node that does not exist",
    with_gene("connections", target=-1): "nothing connects into an input",
    without("nodes", "response"): r"nodes\[0\]: the key 'response' is missing",
    without("connections", "weight"): r"connections\[0\]: the key 'weight' is missing",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_bad_text(text):
    with pytest.raises(ValueError, match=BAD[text]) as caught:
        from_json(text)
    assert len(str(caught.value)) < 1000  # the message does not repeat the file


def test_limits(tmp_path):
    with pytest.raises(ValueError, match="the text is larger than 16777216 bytes"):
        from_json(" " * (16 * 2**20 + 1))
    genes = ",".join(["0"] * 100_001)
    head = '{"format": "gonzo-genome", "version": 1, "inputs": 1, "outputs": 1, '
    with pytest.raises(ValueError, match="nodes has 100001 entries, expected at most 100000"):
        from_json(head + f'"nodes": [{genes}], "connections": []}}')
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ValueError, match=r"huge\.json is larger than 16777216 bytes"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"huge\.json is no UTF-8 text"):
        load(path)
    path.write_text(changed(version=3))
    with pytest.raises(ValueError, match=r"huge\.json: has version 3"):
        load(path)
    with pytest.raises(TypeError, match=r"expected text, got \w+Path"):
        from_json(path)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_damaged_text_gives_a_genome_or_a_value_error(data):
    text = to_json(GENOME)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from('{}[]",:0-e.\\ \x00'))
    damaged = text[:place] + letter + text[place + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(ValueError):  # nothing else may be raised
        assert isinstance(from_json(damaged), Genome)
