"""Policies of reinforcement learning that stable-baselines3 saved, rebuilt from their weights."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import budget, files
from ..core.arrays import Array
from ..core.checks import MOST_ROWS, integer
from ..errors import ArgumentError, FileError, OnwardError, ShapeError
from ..formats.torch import archive
from ..formats.torch.state_dict import state_dicts
from ..formats.zip import ZipMembers
from ..layers import LSTM, Activation, Conv2d, Linear, Sequential
from ..layers.base import NO_WEIGHTS, Layer

ACTIVATIONS = {
    "ELU": "elu", "GELU": "gelu", "Identity": "linear", "LeakyReLU": "leaky_relu", "ReLU": "relu",
    "ReLU6": "relu6", "SELU": "selu", "SiLU": "silu", "Sigmoid": "sigmoid", "Softplus": "softplus",
    "Tanh": "tanh",
}  # fmt: skip
STRIDES = {8: 4, 4: 2, 3: 1}  # of the convolutions of NatureCNN, by the sizes of their kernels
WEIGHTS = "policy.pth"
FEATURES = "pi_features_extractor.", "features_extractor."
# what the action does not depend on: the critic, and the spread of random actions
OTHERS = re.compile(
    r"(vf_features_extractor|mlp_extractor\.value_net|value_net|critic|lstm_critic)\.|log_std$"
)
Tensors = dict[str, Array]


class Policy:
    """A policy that stable-baselines3 or sb3-contrib saved, such as that of RecurrentPPO.

    A call takes one observation of each of the `environments`, (environments, ...), or of one environment,
    without that axis, and returns their actions as `predict(..., deterministic=True)` does: the likeliest
    class, or the mean within the bounds of the actions. The LSTM keeps its state from call to call; `starts`
    (environments,) tells in which environments an episode starts with this observation.

    `model` maps observations to the scores of classes, or to means. It can be streamed, run as a pool,
    quantized and exported like any other model. `images` are the layers that turn images into its input, or
    None. Observations that VecNormalize normalized in training must be normalized before the call.

    Nothing in the file is executed. Raises FileError for a damaged file, and ArgumentError, which names the
    weights, for feature extractors other than those of MlpPolicy, CnnPolicy and their recurrent variants.

    >>> policy = Policy("agent.zip")  # doctest: +SKIP
    >>> action = policy(observation)  # doctest: +SKIP
    >>> policy.reset()  # before the next episode  # doctest: +SKIP
    """

    def __init__(self, path: str | os.PathLike[str], environments: int | None = None) -> None:
        count = 1 if environments is None else integer("environments", environments, 1, MOST_ROWS)
        self.environments = environments
        try:
            tensors, settings = _read(files.content(path))
            options = settings.get("policy_kwargs") or {}
            self._scale = options.get("normalize_images", True) not in (False, "False")
            self._action = _Action(settings)
            self.images = _images(tensors)
            self.model = _model(tensors, _activation(options))
            self._classes = _classes(settings, *(self.model.step_shape or ()))
        except OnwardError as error:
            raise type(error)(f"{path}: {error}") from error
        self._stream: Any = self.model.stream(count) if self.model.recurrent_sublayers() else None

    def __call__(self, observation: ArrayLike, starts: ArrayLike | None = None) -> Any:
        """Return the actions for one observation of each environment.

        Raises ShapeError and, for numbers outside of a discrete space, ArgumentError.
        """
        actions = self._action(np.atleast_2d(self.outputs(observation, starts)))
        return actions if self.environments is not None else actions[0]

    def outputs(self, observation: ArrayLike, starts: ArrayLike | None = None) -> Array:
        """Step the policy; return the scores of classes, or the means, (environments, O) or (O,)."""
        x = self._features(np.asarray(observation))
        if starts is not None:
            self._start(np.asarray(starts, bool))
        y: Array = self.model(x) if self._stream is None else self._stream(x)
        return y if self.environments is not None else y[0]

    def reset(self) -> None:
        """Start new episodes in all environments."""
        if self._stream is not None:
            self._stream.reset()

    def _start(self, starts: Any) -> None:
        """Set the states of some environments to zeros."""
        starts = np.atleast_1d(starts)
        if starts.shape != (self.environments or 1,):
            raise ShapeError(f"starts has shape {starts.shape}; expected one entry for each environment")
        if starts.any() and self._stream is not None:
            self._stream.state = _restarted(self._stream.state, starts[:, None])

    def _features(self, observation: Any) -> Array:
        """The input of the model: one-hot classes, images through their layers, or all numbers in a row."""
        x = observation if self.environments is not None else observation[None]
        if len(x) != (self.environments or 1):
            raise ShapeError(f"there are observations of {len(x)} environments, not {self.environments}")
        dtype, size = self.model.dtype, self.model.step_shape
        if self._classes is not None:
            x = _one_hot(x.reshape(len(x), -1), self._classes)
        if self.images is not None:
            x = x.astype(dtype) / dtype.type(255) if x.dtype == np.uint8 and self._scale else x.astype(dtype)
            for layer in self.images:
                x = layer(x if isinstance(layer, Conv2d | Activation) else x.reshape(len(x), -1))
        x = x.reshape(len(x), -1).astype(dtype)
        if x.shape[1:] != size:
            raise ShapeError(f"an observation has shape {observation.shape}, but the policy takes {size}")
        features: Array = x
        return features


def _read(data: memoryview) -> tuple[Tensors, dict[str, Any]]:
    """The weights of a policy, and the readable settings of the algorithm."""
    with budget.of_file(len(data)):
        members = ZipMembers(data)
        if WEIGHTS not in members.entries:
            names = ", ".join(sorted(members.entries)[:5])
            raise FileError(f"stable-baselines3 writes {WEIGHTS} into its files, but this one has {names}")
        found = state_dicts(archive.read(members.checked(WEIGHTS)))
        tensors = {name: array.copy() for each in found.values() for name, array in each.tensors.items()}
        try:
            settings = json.loads(bytes(members.checked("data"))) if "data" in members.entries else {}
        except (ValueError, RecursionError) as error:
            raise FileError(f"the member data is not JSON: {error}") from error
    return tensors, settings if isinstance(settings, dict) else {}


def _model(tensors: Tensors, activation: str) -> Sequential:
    """The layers from the features to the scores or means. Raises ArgumentError for weights that remain."""
    layers: list[Layer] = []
    recurrent = {name: tensors.pop(name) for name in list(tensors) if name.startswith("lstm_actor.")}
    if recurrent:
        weights = {name.removeprefix("lstm_actor."): array for name, array in recurrent.items()}
        depth = sum(name.startswith("weight_ih_l") for name in weights)
        gates, size = weights["weight_ih_l0"].shape
        layers.append(_with(LSTM(size, gates // 4, depth, rng=NO_WEIGHTS), weights))
    for name in _numbered(tensors, "mlp_extractor.policy_net."):
        layers += [_linear(tensors, name), Activation(activation)]
    layers.append(_linear(tensors, "action_net"))
    if others := [name for name in tensors if not OTHERS.search(name) and not name.startswith(FEATURES[1])]:
        raise ArgumentError(f"the policy has weights of other layers: {', '.join(others[:5])}")
    return Sequential(*layers)


def _images(tensors: Tensors) -> list[Layer] | None:
    """The layers of NatureCNN; None for an extractor without weights."""
    prefix = next((each for each in FEATURES if any(name.startswith(each) for name in tensors)), None)
    if prefix is None:
        return None
    layers: list[Layer] = []
    for name in _numbered(tensors, f"{prefix}cnn."):
        weight, bias = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.bias")
        outputs, inputs, *kernel = weight.shape
        if len(kernel) != 2 or kernel[0] not in STRIDES or kernel[0] != kernel[1]:
            raise ArgumentError(f"{name} has a kernel of {kernel}: expected those of NatureCNN, 8, 4 and 3")
        layer = Conv2d(inputs, outputs, kernel[0], stride=STRIDES[kernel[0]], rng=NO_WEIGHTS)
        layers += [_with(layer, {"weight": weight, "bias": bias}), Activation("relu")]
    for name in _numbered(tensors, f"{prefix}linear."):
        layers += [_linear(tensors, name), Activation("relu")]
    if others := [name for name in tensors if name.startswith(prefix)]:
        raise ArgumentError(f"the extractor of features has weights of its own: {', '.join(others[:5])}")
    return layers


def _numbered(tensors: Tensors, prefix: str) -> list[str]:
    """The names of the layers with a matrix in a torch.nn.Sequential, in order."""
    found = re.compile(rf"{re.escape(prefix)}(\d+)\.weight")
    numbers = sorted(int(match[1]) for match in map(found.fullmatch, tensors) if match)
    return [f"{prefix}{number}" for number in numbers]


def _linear(tensors: Tensors, name: str) -> Linear:
    if f"{name}.weight" not in tensors:
        raise ArgumentError(f"the policy has no {name}.weight, so it is not of an actor and a critic")
    weights = {key: tensors.pop(f"{name}.{key}") for key in ("weight", "bias") if f"{name}.{key}" in tensors}
    outputs, inputs = weights["weight"].shape
    layer: Linear = _with(Linear(inputs, outputs, bias="bias" in weights, rng=NO_WEIGHTS), weights)
    return layer


def _with(layer: Any, weights: Mapping[str, Array]) -> Any:
    layer.load_state_dict(weights)
    return layer


def _one_hot(numbers: Any, classes: Any) -> Array:
    """Numbers (B, K) of classes as zeros and ones, (B, sum of classes). Raises ArgumentError."""
    if numbers.shape[1:] != classes.shape or not all(
        np.isin(column, np.arange(n)).all() for column, n in zip(numbers.T, classes, strict=True)
    ):
        raise ArgumentError(f"the observations are {numbers.tolist()}; expected a class of each of {classes}")
    found: Array = np.concatenate([numbers[:, [k]] == np.arange(n) for k, n in enumerate(classes)], axis=1)
    return found


def _restarted(state: Any, starts: Any) -> Any:
    """States (L, B, H), in whatever tuples or lists, with zeros where `starts` (B, 1) is True."""
    if isinstance(state, np.ndarray):
        return np.where(starts, state.dtype.type(0), state)
    return type(state)(_restarted(each, starts) for each in state)


def _activation(options: Mapping[str, Any]) -> str:
    """The function between dense layers, from the text that names its class: tanh by default."""
    text = str(options.get("activation_fn", "<class 'torch.nn.modules.activation.Tanh'>"))
    name = text.strip("<>'").rpartition(".")[2]
    if name not in ACTIVATIONS:
        raise ArgumentError(f"the activation_fn {text} is not supported; use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _space(settings: Mapping[str, Any], name: str) -> tuple[str, Mapping[str, Any]]:
    """The kind of a space of observations or actions, such as "Box", and what describes it."""
    described = settings.get(name)
    space: Mapping[str, Any] = described if isinstance(described, dict) else {}
    match = re.search(r"spaces\.\w+\.(\w+)'", str(space.get(":type:", "")))
    return match[1] if match else "", space


def _classes(settings: Mapping[str, Any], size: int) -> Any:
    """The number of classes of each number of an observation; None if the numbers are not classes.

    size: the sum of all. Raises ArgumentError.
    """
    kind, space = _space(settings, "observation_space")
    if kind not in ("Discrete", "MultiDiscrete"):
        return None
    counts = _numbers(space, "n" if kind == "Discrete" else "nvec")
    if counts is None or counts.sum() != size or (counts < 1).any():
        raise ArgumentError(f"the file does not tell which classes of observations are the {size} inputs")
    return counts.astype(np.int64)


def _numbers(described: Mapping[str, Any], name: str) -> Array | None:
    """The numbers of an array that is printed; None if it is abridged."""
    text = str(described.get(f"{name}_repr") or "None")
    text = str(described.get(name, "...")) if text == "None" else text
    found = re.sub(r"[\[\],]", " ", text).split()
    try:
        return np.array(found, np.float32)
    except ValueError:
        return None


class _Action:
    """What turns the outputs of a policy into actions of its space."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._kind, self._space = _space(settings, "action_space")
        if self._kind not in ("Box", "Discrete", "MultiBinary", "MultiDiscrete"):
            raise ArgumentError(
                f"the space of actions {self._kind or settings.get('action_space')!r} is not supported"
            )

    def __call__(self, outputs: Array) -> Any:
        match self._kind:
            case "Discrete":
                return outputs.argmax(axis=1)
            case "MultiBinary":
                return (outputs > 0).astype(np.int8)
            case "MultiDiscrete":
                return np.stack([y.argmax(axis=1) for y in self._classes(outputs)], axis=1)
        low, high = _numbers(self._space, "low"), _numbers(self._space, "high")
        if low is None or high is None:
            raise ArgumentError("the file abridges the bounds of the actions: clip `policy.outputs` to them")
        shape: Sequence[int] = [int(n) for n in re.findall(r"\d+", str(self._space.get("_shape", "")))]
        return outputs.clip(low, high).reshape(len(outputs), *shape)

    def _classes(self, outputs: Array) -> list[Array]:
        """The scores of each of several classes."""
        counts = _numbers(self._space, "nvec")
        if counts is None or counts.sum() != outputs.shape[1]:
            raise ArgumentError("the file does not tell how many classes each action has")
        return np.split(outputs, np.cumsum(counts.astype(np.int64))[:-1], axis=1)
