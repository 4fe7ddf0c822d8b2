"""Patterns match the expressions that they describe, whatever the order and the grouping of sums."""

import random
from itertools import product

import numpy as np

from onward.graph.graph import Graph
from onward.graph.patterns import ASSOCIATIVE, Matcher, occurs
from onward.graph.simplification.idioms import IDIOMS, replace_idioms

MOST = 64  # choices of one pattern that are tried


def choices(pattern):
    """Return the patterns without lists that a pattern stands for."""
    if isinstance(pattern, list):
        return [each for choice in pattern for each in choices(choice)]
    if isinstance(pattern, tuple):
        operation, *parts = pattern
        return [(operation, *found) for found in product(*map(choices, parts))]
    return [pattern]


def add(graph, pattern, names, rng):
    """Add an expression to a graph and return its name; sums have a random order and grouping."""
    if isinstance(pattern, str):
        return names.setdefault(pattern, f"input {pattern}")
    if not isinstance(pattern, tuple):
        return graph.add_constant(np.array(pattern, np.float32))
    operation, *parts = pattern
    values = [add(graph, part, names, rng) for part in parts]
    if operation not in ASSOCIATIVE:
        attributes = {"axes": (-1,), "epsilon": 1e-5} if operation == "Standardize" else {}
        return graph.add(operation, *values, **attributes)
    rng.shuffle(values)
    while len(values) > 1:
        place = rng.randrange(len(values) - 1)
        values[place : place + 2] = [graph.add(operation, *values[place : place + 2])]
    return values[0]


def test_the_checks_before_a_search_lose_no_match():
    rng = random.Random(11)
    for patterns, _ in IDIOMS:
        for pattern in patterns:
            for choice in choices(pattern)[:MOST]:
                graph = Graph()
                graph.add("Relu", "another input")
                graph.outputs = (add(graph, choice, {}, rng),)
                assert occurs(pattern, Matcher(graph).operands), choice
                found = []
                Matcher(graph).replaced([pattern], found.append, graph.nodes[-1])
                assert found, choice


def test_a_number_or_an_operand_that_a_graph_lacks_ends_the_search():
    graph = Graph()
    graph.outputs = (graph.add("Mul", "x", graph.add("Sigmoid", graph.add("Add", "x", "y"))),)
    operands = Matcher(graph).operands
    assert occurs(("Mul", "x", ("Sigmoid", "x")), operands)
    assert not occurs(("Mul", "x", ("Add", "x", "y")), operands)
    assert not occurs(("Mul", "x", 0.5), operands)
    assert not occurs(("Mul", "x", ("Sigmoid", ("Add", "x", 3.0))), operands)


def replaced_one_by_one(graph):
    """Return a graph whose idioms are replaced, with a new matcher for each idiom."""
    for patterns, replace in IDIOMS:
        matcher = Matcher(graph)
        nodes = [matcher.replaced(patterns, replace, node) for node in graph.nodes]
        if found := [each for each in nodes if each]:
            matcher.replace(found)
            graph = graph.replaced(nodes=matcher.nodes, constants=matcher.constants).without_unused()
    return graph


def test_nodes_that_a_replacement_removes_do_not_count_as_readers():
    graph = Graph()
    y = graph.add("Neg", "x")
    product = graph.add("Mul", graph.add("Abs", y), graph.add("Exp", y))
    graph.outputs = (graph.add("Sqrt", product),)
    matcher = Matcher(graph)
    inner, outer = [("Mul", ("Abs", "y"), ("Exp", "y"))], [("Sqrt", ("Tanh", ("Neg", "x")))]
    new = matcher.replaced(inner, lambda match: [match.node("Tanh", "y")], matcher.makers[product])
    matcher.replace([new])
    assert [node.operation for node in matcher.nodes] == ["Neg", "Tanh", "Sqrt"]
    assert all(occurs(pattern, matcher.operands) for pattern in outer)
    assert matcher.replaced(outer, lambda match: [match.node("Relu", "x")], matcher.nodes[-1])


def test_idioms_are_replaced_as_with_a_new_matcher_for_each():
    rng, replacements = random.Random(5), 0
    patterns = [pattern for patterns, _ in IDIOMS for pattern in patterns]
    for _ in range(60):
        graph, x = Graph(), "x"
        for _ in range(rng.randint(2, 5)):
            pattern = rng.choice(choices(rng.choice(patterns))[:MOST])
            names = {"x": x, "axes": graph.add_constant(np.array([-1]))}
            names["epsilon"] = graph.add_constant(np.array(1e-5, np.float32))
            names |= {name: graph.add_constant(np.ones(3, np.float32)) for name in ("scale", "bias", "C")}
            names["B"] = graph.add_constant(np.eye(3, dtype=np.float32))
            x = add(graph, pattern, names, rng)
            if rng.random() < 0.3:  # another reader keeps some of the nodes
                read = rng.choice(graph.nodes).outputs[0]
                graph.outputs += (graph.add("Neg", read),)
        graph.outputs += (x,)
        graph = graph.without_unused()
        found, expected = replace_idioms(graph), replaced_one_by_one(graph)
        described = [[(n.operation, n.inputs, n.outputs) for n in each.nodes] for each in (found, expected)]
        assert described[0] == described[1]
        assert found.constants.keys() == expected.constants.keys()
        replacements += len(found.nodes) < len(graph.nodes)
    assert replacements > 30
