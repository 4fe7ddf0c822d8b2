"""Patterns match the expressions that they describe, whatever the order and the grouping of sums."""

import random
from itertools import product

import numpy as np

from onward.graph.graph import Graph
from onward.graph.patterns import ASSOCIATIVE, Matcher, occurs, operands_of
from onward.graph.simplification.idioms import IDIOMS

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
                assert occurs(pattern, operands_of(graph)), choice
                found = []
                Matcher(graph).replaced([pattern], found.append, graph.nodes[-1])
                assert found, choice


def test_a_number_or_an_operand_that_a_graph_lacks_ends_the_search():
    graph = Graph()
    graph.outputs = (graph.add("Mul", "x", graph.add("Sigmoid", graph.add("Add", "x", "y"))),)
    operands = operands_of(graph)
    assert occurs(("Mul", "x", ("Sigmoid", "x")), operands)
    assert not occurs(("Mul", "x", ("Add", "x", "y")), operands)
    assert not occurs(("Mul", "x", 0.5), operands)
    assert not occurs(("Mul", "x", ("Sigmoid", ("Add", "x", 3.0))), operands)
