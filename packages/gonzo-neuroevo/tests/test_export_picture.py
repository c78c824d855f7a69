"""Pictures are well-formed, nothing overlaps, and names cannot break out of them."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonzo.neuroevo.export import to_dot, to_svg
from gonzo.neuroevo.export.layout import place
from gonzo.neuroevo.genome import ConnectionGene, Genome, NodeGene

genomes = runpy.run_path(str(Path(__file__).with_name("genomes.py")))["genomes"]

SVG = "{http://www.w3.org/2000/svg}"


def boxes(root):
    for group in root.iter(f"{SVG}g"):
        if group.get("class", "").startswith("node"):
            rect = group.find(f"{SVG}rect")
            yield tuple(float(rect.get(key)) for key in ("x", "y", "width", "height"))


def points(path):
    """Points along a path of the commands M, H and C."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MHC]) ([-\d. ]+)", path):
        values = [float(number) for number in numbers.split()]
        if command == "C":
            a, b, c, d, u, v = values
            for t in (0.25, 0.5, 0.75):
                s = 1 - t
                weights = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
                yield tuple(
                    sum(w * z for w, z in zip(weights, row, strict=True))
                    for row in ((x, a, c, u), (y, b, d, v))
                )
            x, y = u, v
        else:
            x, y = values[0], values[1] if command == "M" else y
        yield x, y


@settings(max_examples=60, deadline=None)
@given(genomes(cyclic=True))
def test_svg(genome):
    root = ElementTree.fromstring(to_svg(genome))
    found = list(boxes(root))
    assert len(found) == genome.inputs + len(genome.nodes)
    left, top, width, height = map(float, root.get("viewBox").split())
    for i, (x, y, w, h) in enumerate(found):
        assert left <= x
        assert x + w <= left + width
        assert top <= y
        assert y + h <= top + height
        for u, v, a, b in found[:i]:
            assert x + w <= u or u + a <= x or y + h <= v or v + b <= y, "two nodes overlap"
    edges = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(edges) == len(genome.connections)
    dashed = sum(path.get("stroke-dasharray") is not None for path in edges)
    assert dashed == sum(not gene.enabled for gene in genome.connections)
    for path in edges:
        for x, y in points(path.get("d")):
            assert left + 10 <= x <= left + width - 10
            assert top + 10 <= y <= top + height - 10


@settings(max_examples=60, deadline=None)
@given(genomes())
def test_layers(genome):
    layout = place(genome)
    layer = {key: i for i, keys in enumerate(layout.layers) for key in keys}
    assert layout.layers[0] == [-i for i in range(1, genome.inputs + 1)]
    assert layout.layers[-1] == list(range(genome.outputs))
    heights = [layout.height[key] for key in layout.layers[-1]]
    assert heights == sorted(heights)
    for gene in genome.connections:
        hidden = gene.source not in range(genome.outputs)
        if gene.enabled and hidden:
            assert layer[gene.source] < layer[gene.target]
            between = layer[gene.target] - layer[gene.source] - 1
            assert len(layout.bends[gene.source, gene.target]) == between


def test_layers_are_longest_paths():
    links = [(1, 5), (2, 3), (3, 4), (4, 5), (5, 0), (-1, 1), (-1, 2)]
    nodes = tuple(NodeGene(key) for key in range(6))
    genome = Genome(1, 1, nodes, tuple(ConnectionGene(s, t, 1.0) for s, t in links))
    assert [sorted(layer) for layer in place(genome).layers] == [[-1], [1, 2], [3], [4], [5], [0]]


def test_arcs_between_distant_outputs_stay_inside():
    nodes = tuple(NodeGene(key) for key in range(16))
    root = ElementTree.fromstring(to_svg(Genome(1, 16, nodes, (ConnectionGene(15, 0, 1.0),))))
    left, _, width, _ = map(float, root.get("viewBox").split())
    (arc,) = (path for path in root.iter(f"{SVG}path") if path.get("marker-end"))
    assert max(x for x, _ in points(arc.get("d"))) <= left + width - 10


def test_bends_pass_clear_of_nodes():
    nodes = tuple(NodeGene(key) for key in range(5))
    links = [(-1, 1), (1, 2), (2, 3), (3, 0), (-1, 0), (-1, 4), (4, 0), (1, 0)]
    genome = Genome(1, 1, nodes, tuple(ConnectionGene(s, t, 1.0) for s, t in links))
    layout = place(genome)
    layer = {key: i for i, keys in enumerate(layout.layers) for key in keys}
    assert [layer[key] for key in (-1, 1, 2, 3, 0)] == [0, 1, 2, 3, 4]
    for (source, _), heights in layout.bends.items():
        for i, height in enumerate(heights, layer[source] + 1):
            assert all(abs(height - layout.height[key]) > 20 for key in layout.layers[i])


def test_what_it_shows():
    genome = Genome(
        2,
        1,
        (NodeGene(0, 0.5, 1.0, "tanh"), NodeGene(3, 0.0, 1.0, "gauss", "max")),
        (
            ConnectionGene(-1, 3, 2.0, True, 4),
            ConnectionGene(3, 0, -1.0),
            ConnectionGene(3, 3, 0.25),
            ConnectionGene(0, 3, 0.5, False),
        ),
    )
    text = to_svg(genome, {-1: "angle", 3: "gate"})
    root = ElementTree.fromstring(text)
    shown = [element.text for element in root.iter(f"{SVG}text")]
    assert shown == ["angle", "x2", "gauss · max", "gate", "tanh", "y1"]
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert "angle → gate: weight 2, innovation 4" in titles
    assert "y1 → gate: weight 0.5, disabled" in titles
    assert "y1 (node 0): tanh(0.5 + 1 · sum), time constant 1" in titles
    widths = {
        path.find(f"{SVG}title").text.partition(":")[0]: float(path.get("stroke-width"))
        for path in root.iter(f"{SVG}path")
        if path.get("marker-end")
    }
    assert widths["angle → gate"] > widths["gate → y1"] > widths["gate → gate"]
    colours = {
        path.get("stroke") for path in root.iter(f"{SVG}path") if "y1: " in "".join(path.itertext())
    }
    assert colours == {"#c2452d"}
    assert to_svg(genome, {-1: "angle", 3: "gate"}) == text


HOSTILE = ['"]; x [label="', "</text><script>alert(1)</script>", "a\\", "\x00\x1b\n", "&amp;", "'>"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_names(name):
    genome = Genome(1, 1, (NodeGene(0), NodeGene(5)), (ConnectionGene(-1, 0, 1.0),))
    plain, root = (
        ElementTree.fromstring(to_svg(genome, names))
        for names in (dict.fromkeys((0, -1, 5), "a"), dict.fromkeys((0, -1, 5), name))
    )
    assert [e.tag for e in root.iter()] == [e.tag for e in plain.iter()]
    clean = "".join(c if c.isprintable() else " " for c in name)
    assert [e.text for e in root.iter(f"{SVG}text")][-1] == clean
    assert strings(to_dot(genome, {0: name, -1: name})).count(clean) == 1


def strings(dot):
    """Quoted strings of a DOT text, unescaped, by a reader of its own; the rest must be plain."""
    found, rest, text, quoted = [], [], "", False
    letters = iter(dot)
    for letter in letters:
        if quoted and letter == "\\":
            following = next(letters)
            text += "\n" if following == "n" else following
        elif letter == '"':
            if quoted:
                found.append(text)
            text, quoted = "", not quoted
        elif quoted:
            assert letter != "\n"
            text += letter
        else:
            rest.append(letter)
    assert not quoted
    assert re.fullmatch(r"[\w\s{}\[\];,=.>-]*", "".join(rest)), "".join(rest)
    return found


@settings(max_examples=40, deadline=None)
@given(genomes(cyclic=True), st.text(max_size=20))
def test_dot(genome, name):
    dot = to_dot(genome, {0: name})
    strings(dot)
    assert dot.count(" -> ") - name.count(" -> ") == len(genome.connections)
    assert dot.count("style=dashed") >= sum(not gene.enabled for gene in genome.connections)


@pytest.mark.parametrize("draw", [to_svg, to_dot])
def test_bad_names(draw):
    genome = Genome(1, 1, (NodeGene(0),))
    with pytest.raises(TypeError, match="expected a name for key 0, got int"):
        draw(genome, {0: 1})
    with pytest.raises(ValueError, match=r"there is no node 4 to call 'a'; inputs are -1 … -1"):
        draw(genome, {4: "a"})
    with pytest.raises(ValueError, match="the name of 0 has 81 letters, at most 80"):
        draw(genome, {0: "a" * 81})
