"""How many random cases a test tries."""

import os


def random_cases(count: int) -> int:
    """Return the number of random cases, which the environment variable ONWARD_RANDOM_CASES multiplies."""
    return max(1, round(count * float(os.environ.get("ONWARD_RANDOM_CASES", "1"))))
