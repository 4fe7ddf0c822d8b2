"""Policies of stable-baselines3 and sb3-contrib: the actions of `predict`, without PyTorch."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, FileError
from onward.recipes import Policy

gym = pytest.importorskip("gymnasium")
sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")
torch = pytest.importorskip("torch")

ENVIRONMENTS, STEPS = 3, 7
BOX = gym.spaces.Box(-2, 3, (5,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (3, 40, 44), np.uint8)
ACTIONS = {
    "discrete": gym.spaces.Discrete(4, start=2),
    "box": gym.spaces.Box(np.array([-0.02, -1, 0.0], np.float32), np.array([0.01, 1, 2.0], np.float32)),
    "multi_discrete": gym.spaces.MultiDiscrete([3, 2, 4]),
    "multi_binary": gym.spaces.MultiBinary(6),
}


class Space(gym.Env):  # type: ignore[misc]  # gymnasium may lack types
    """An environment of random observations."""

    def __init__(self, observations: Any, actions: Any) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


def saved(path: Path, kind: str, policy: str, observations: Any, actions: Any, **options: Any) -> Any:
    """An agent with random weights, larger than initial ones, in a file."""
    torch.manual_seed(0)
    algorithm = contrib.RecurrentPPO if kind == "recurrent" else sb3.PPO
    environment = Space(observations, actions)
    agent = algorithm(policy, environment, n_steps=8, batch_size=8, policy_kwargs=options, device="cpu")
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 if parameter.ndim < 4 else 0.05))
    agent.save(path)
    return agent


def check(agent: Any, path: Path, observations: Any, recurrent: bool) -> None:
    policy = Policy(path, ENVIRONMENTS)
    single = Policy(path)
    state = None
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        starts = np.ones(ENVIRONMENTS, bool) if step == 0 else rng.random(ENVIRONMENTS) < 0.3
        x = np.stack([observations.sample() for _ in range(ENVIRONMENTS)])
        if recurrent:
            expected, state = agent.predict(x, state, starts, deterministic=True)
        else:
            expected, _ = agent.predict(x, deterministic=True)
        found = policy(x, starts)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        if starts[1]:
            single.reset()
        np.testing.assert_array_equal(single(x[1]), found[1])


@pytest.mark.parametrize("kind", ["recurrent", "plain"])
@pytest.mark.parametrize("actions", ACTIONS)
def test_actions_are_those_of_predict(tmp_path: Path, kind: str, actions: str) -> None:
    path, recurrent = tmp_path / "agent.zip", kind == "recurrent"
    options: dict[str, Any] = {"net_arch": {"pi": [12, 8], "vf": [7]}, "activation_fn": torch.nn.ReLU}
    if recurrent:
        options |= {"lstm_hidden_size": 16, "n_lstm_layers": 2}
    policy = "MlpLstmPolicy" if recurrent else "MlpPolicy"
    check(saved(path, kind, policy, BOX, ACTIONS[actions], **options), path, BOX, recurrent)


@pytest.mark.parametrize("share", [True, False])
def test_images_are_read_as_by_nature_cnn(tmp_path: Path, share: bool) -> None:
    options = {"lstm_hidden_size": 16, "share_features_extractor": share, "enable_critic_lstm": True}
    agent = saved(tmp_path / "a.zip", "recurrent", "CnnLstmPolicy", IMAGE, ACTIONS["discrete"], **options)
    check(agent, tmp_path / "a.zip", IMAGE, recurrent=True)


OBSERVATIONS = {
    "classes": gym.spaces.Discrete(6),
    "several classes": gym.spaces.MultiDiscrete([3, 2, 4]),
    "binary": gym.spaces.MultiBinary(5),  # whose `n` was taken for a number of classes
    "binary matrix": gym.spaces.MultiBinary([2, 3]),
    "matrix": gym.spaces.Box(-2, 3, (2, 3), np.float32),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in OBSERVATIONS
        for kind in ("recurrent", "plain")
        if (name, kind) != ("several classes", "recurrent")  # which sb3-contrib 2.9 cannot build
    ],
)
def test_observations_of_any_space_are_read_as_by_the_policy(tmp_path: Path, name: str, kind: str) -> None:
    observations, recurrent = OBSERVATIONS[name], kind == "recurrent"
    policy = "MlpLstmPolicy" if recurrent else "MlpPolicy"
    agent = saved(tmp_path / "a.zip", kind, policy, observations, ACTIONS["discrete"])
    check(agent, tmp_path / "a.zip", observations, recurrent)


@pytest.mark.parametrize("wrong", [6, -1, 0.5, [1, 2]])
def test_an_observation_that_is_no_class_is_refused(tmp_path: Path, wrong: Any) -> None:
    """It was read as none of the classes."""
    saved(tmp_path / "a.zip", "plain", "MlpPolicy", OBSERVATIONS["classes"], ACTIONS["discrete"])
    with pytest.raises(ArgumentError, match="expected a class of each of"):
        Policy(tmp_path / "a.zip")(wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_an_episode_starts_anew_after_observations_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    saved(tmp_path / "a.zip", "recurrent", "MlpLstmPolicy", BOX, ACTIONS["box"])
    policy, x = Policy(tmp_path / "a.zip", 2), np.stack([BOX.sample(), BOX.sample()])
    policy(np.where([[True], [False]], bad, x))
    expected = Policy(tmp_path / "a.zip")(x[0])
    np.testing.assert_array_equal(policy(x, [True, False])[0], expected)


def test_load_names_what_opens_the_file(tmp_path: Path) -> None:
    saved(tmp_path / "a.zip", "plain", "MlpPolicy", BOX, ACTIONS["box"])
    with pytest.raises(FileError, match=r"open it with onward\.recipes\.Policy"):
        onward.load(tmp_path / "a.zip")


def test_a_policy_runs_as_a_pool(tmp_path: Path) -> None:
    saved(tmp_path / "a.zip", "recurrent", "MlpLstmPolicy", BOX, ACTIONS["box"])
    policy, x = Policy(tmp_path / "a.zip"), BOX.sample()
    pool = policy.model.pool(2)
    ids = pool.open(2)
    for y in pool.step(ids, np.stack([x, x])):
        np.testing.assert_array_equal(y, Policy(tmp_path / "a.zip").outputs(x))


def test_other_policies_are_refused_by_the_names_of_their_weights(tmp_path: Path) -> None:
    sb3.DQN("MlpPolicy", Space(BOX, gym.spaces.Discrete(3)), device="cpu").save(tmp_path / "dqn.zip")
    with pytest.raises(ArgumentError, match=r"dqn.zip: the policy has no action_net.weight"):
        Policy(tmp_path / "dqn.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(FileError, match=r"writes policy.pth into its files, but this one has a.txt"):
        Policy(tmp_path / "other.zip")
