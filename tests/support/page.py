"""Links to states of the page of `onward explore`, the numbers that it shows, and what a file embeds."""

import base64
import json
import re
from typing import Any
from urllib.parse import urlencode

import numpy as np


def link(**state: Any) -> str:
    return "#" + urlencode(state)


def shown(page: Any) -> Any:
    """The exact numbers of the unit and step on display."""
    return json.loads(page.get_attribute("#cell", "data-values"))


def embedded(page: Any) -> Any:
    """The description of the only model that a single file embeds."""
    (found,) = re.findall(r'id="embedded">(.*?)</script>', page.html)
    (only,) = json.loads(found)["models"]
    return only


def floats(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), np.float32)
