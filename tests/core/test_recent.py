"""Results are shared by equal arguments only, and the oldest ones are forgotten."""

import numpy as np

from onward.core.recent import MOST, Recent


def test_arguments_that_differ_in_value_dtype_shape_or_type_share_no_result() -> None:
    recent, x = Recent[object](), np.arange(4, dtype=np.int32)
    arguments = [1, 1.0, True, "1", None, x, x.astype(np.float32), x.reshape(2, 2), x + 1, {"x": x}, {}]
    for a in arguments:
        for b in arguments:
            assert (recent.get(object, a) is recent.get(object, b)) == (a is b)


def test_changing_an_array_after_the_call_changes_no_result() -> None:
    recent, x = Recent[object](), np.zeros(2)
    before = recent.get(object, x)
    x[0] = 1
    assert recent.get(object, x) is not before
    assert recent.get(object, np.zeros(2)) is before


def test_what_cannot_be_compared_shares_no_result() -> None:
    recent, x = Recent[object](), np.array([object()])
    assert recent.get(object, x) is not recent.get(object, x)


def test_only_the_most_recent_results_are_kept() -> None:
    recent = Recent[object]()
    first = recent.get(object, 0)
    for n in range(1, MOST):
        recent.get(object, n)
    assert recent.get(object, 0) is first
    recent.get(object, MOST)
    assert recent.get(object, 0) is not first
