"""The signature of a function that takes and returns tuples, lists and dicts of arrays.

A template is the name of an array, a `Fixed` value, or a tuple, list or dict of templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core import budget
from ..errors import SignatureError

CONTAINERS = (tuple, list, dict)
ELEMENT = budget.STEP // 2  # operations for an element of nested containers, of which many may be the same


class Fixed:
    """A value that is not an array and is the same in every call."""

    __match_args__ = __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and bool(self.value == other.value)


class Structure(NamedTuple):
    """The parameters of a function by name, and its results, as templates of inputs and outputs."""

    parameters: Mapping[str, Any]
    results: tuple[Any, ...]

    def flatten(
        self, args: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments in order and by name as arrays by name.

        Arguments that name inputs themselves stay as they are. Raises SignatureError.
        """
        if len(args) > len(self.parameters):
            return tuple(args), dict(named)  # the inputs themselves, in order
        flat: dict[str, Any] = {}
        seen = set()
        for name, value in (*zip(self.parameters, args, strict=False), *named.items()):
            if name in flat or name in seen:
                raise SignatureError(f"the argument {name} is passed twice")
            seen.add(name)
            is_parameter = name in self.parameters
            flat |= _flattened(self.parameters[name], value, name) if is_parameter else {name: value}
        return (), flat

    def pack(self, outputs: Mapping[str, Any]) -> Any:
        """Return the result of the function, or the tuple of its results, from outputs by name.

        An optional result that is None is an array of None among the outputs.
        """
        results = tuple(_packed(template, outputs) for template in self.results)
        return results[0] if len(results) == 1 else results


def results(result: Any, carries: Sequence[str] = ()) -> tuple[Any, ...]:
    """Return the results of a function that returns a template, followed by the new values of carries.

    A tuple holds several results; without carries, a tuple of one element is one result.
    """
    is_several = isinstance(result, tuple) and (len(result) != 1 or carries)
    return (*(result if is_several else (result,)), *carries)


def leaves(value: Any) -> Iterator[Any]:
    """Yield the elements of nested tuples, lists and dicts in order."""
    budget.spend(ELEMENT)
    if isinstance(value, CONTAINERS):
        for element in value.values() if isinstance(value, dict) else value:
            yield from leaves(element)
    else:
        yield value


def names(template: Any) -> Iterator[str]:
    """Return the names of the arrays in a template, in order."""
    return (leaf for leaf in leaves(template) if isinstance(leaf, str))


def _flattened(template: Any, value: Any, where: str) -> dict[str, Any]:
    match template:
        case str():
            return {template: value}
        case Fixed():
            if value is not template.value and value != template.value:
                raise SignatureError(
                    f"{where} is {value!r}, but the model was exported with {template.value!r}"
                )
            return {}
        case dict() if isinstance(value, tuple | list):  # in order
            template = list(template.values())
        case list() if isinstance(value, Mapping) and all(isinstance(each, str) for each in template):
            template = {name: name for name in template}  # by name
    if isinstance(template, dict):
        if not isinstance(value, Mapping) or value.keys() != template.keys():
            got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            raise SignatureError(f"{where} is {got}; expected a dict with the keys {list(template)}")
        pairs = [(template[key], value[key], f"{where}[{key!r}]") for key in template]
    else:
        if not isinstance(value, tuple | list) or len(value) != len(template):
            got = f"{len(value)} items" if isinstance(value, tuple | list) else type(value).__name__
            kind = type(template).__name__
            raise SignatureError(f"{where} is {got}; expected a {kind} of {len(template)} items")
        pairs = [(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(template, value, strict=True))]
    parts = [_flattened(child, item, place) for child, item, place in pairs]
    return {name: array for part in parts for name, array in part.items()}


def _packed(template: Any, outputs: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        output = outputs[template]
        return None if output.dtype == object and output.shape == () and output.item() is None else output
    if isinstance(template, Fixed):
        return template.value
    if isinstance(template, dict):
        return {key: _packed(child, outputs) for key, child in template.items()}
    return type(template)(_packed(child, outputs) for child in template)
