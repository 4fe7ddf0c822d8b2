"""Links to states of the page of `onward explore`, and the numbers that it shows."""

import json
from urllib.parse import urlencode


def link(**state):
    return "#" + urlencode(state)


def shown(page):
    """The exact numbers of the unit and step on display."""
    return json.loads(page.get_attribute("#cell", "data-values"))
