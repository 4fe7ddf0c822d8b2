"""PyTorch's own samples of its functions (OpInfo), as .pt2 and TorchScript, beside PyTorch.

ONWARD_RANDOM_CASES=1000 tries all samples, and prints the functions that are refused.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.op_programs import Outcome, outcomes
from support.op_samples import OPERATORS, labelled, samples
from support.randomized import random_cases
from support.skips import Cases

WAYS = ("exported", "decomposed", "traced")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Hide the messages of the exporter."""
    logging.disable(logging.CRITICAL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    logging.disable(logging.NOTSET)


def _found(way: str, path: Path) -> Iterator[Outcome]:
    """Yield the outcomes of samples of every function; few samples are those of every ninth function."""
    count = random_cases(1)
    for place, operator in enumerate(OPERATORS):
        if count > 1 or place % (3 * len(WAYS)) == 3 * WAYS.index(way):
            yield from outcomes([*samples(operator, count)], way, path)


@pytest.mark.filterwarnings("ignore")  # those of PyTorch's samples
@pytest.mark.parametrize("way", WAYS)
def test_a_function_equals_that_of_torch_or_is_refused_by_name(way: str, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong, cases = [], Cases()
    for sample, kind, details in _found(way, tmp_path / "m.pt2"):
        with cases.new() as case:
            if kind in ("refused", "skipped"):
                case.skip()
        counts[kind] += 1
        refused[sample.operator] += kind == "refused"
        if kind == "wrong":
            wrong.append(f"{sample.operator}, {sample.label}: {details}")
    print(way, dict(counts), *(f"{name}: {n}" for name, n in refused.most_common() if n))
    assert wrong == []
    cases.check()


WERE_WRONG = [
    *[("diff", label) for label in ("plain bool 0", "strided int16 43", "plain float32 22")],
    ("linalg.matrix_norm", "empty float32 24"), ("linalg.norm", "plain float32 52"),
    ("linalg_norm_subgradients_at_zero", "empty float32 42"), ("scatter_reduce_amax", "plain bool 0"),
    ("var_mean", "empty float32 9"), ("std", "empty float32 9"), ("div_floor_rounding", "plain float16 6"),
    ("nn.functional.cosine_similarity", "strided float32 7"), ("mH", "plain complex64 1"),
    ("bool", "plain complex64 12"), ("nonzero", "plain int64 2"), ("index_select", "plain complex64 0"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("operator", "label"), WERE_WRONG)
def test_a_sample_that_was_wrong_is_right(operator: str, label: str, tmp_path: Path) -> None:
    for way in ("exported", "traced"):
        ((_, kind, details),) = outcomes([labelled(operator, label)], way, tmp_path / "m.pt2")
        assert kind == "equal", details
