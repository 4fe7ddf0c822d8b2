"""Step many environments with a recurrent policy through a pool: a corridor that ends in a choice.

    python examples/policy.py --environments 1000

At the start of a corridor of random length, a sign says which way leads to the reward at its end; an agent
without memory finds it half of the time. The policy learns from demonstrations in seconds. Then one call
per step of the pool runs the policy for all environments, each with its own state; an environment that ends
starts again, and its state is reset.
"""

import argparse
import time

import numpy as np

import onward

SHORTEST, LONGEST = 4, 12  # steps of a corridor
LEFT, RIGHT, AHEAD = range(3)  # actions


class Corridors:
    """Environments that step together. They show (sign is left, sign is right, at the end)."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.rng, self.n = rng, n
        self.position, self.length, self.side = np.zeros((3, n), int)
        self.restart(np.ones(n, bool))

    def restart(self, which: np.ndarray) -> None:
        n = int(which.sum())
        self.position[which] = 0
        self.length[which] = self.rng.integers(SHORTEST, LONGEST + 1, n)
        self.side[which] = self.rng.integers(LEFT, RIGHT + 1, n)

    def observe(self) -> np.ndarray:
        start, end = self.position == 0, self.position == self.length - 1
        return np.stack([start & (self.side == LEFT), start & (self.side == RIGHT), end], 1).astype(
            np.float32
        )

    def best(self) -> np.ndarray:
        """The actions of a demonstration."""
        return np.where(self.position == self.length - 1, self.side, AHEAD)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which environments have ended, and which of them in a reward."""
        at_end = self.position == self.length - 1
        ended = at_end | (actions != AHEAD)  # a turn into the wall ends it, too
        rewarded = at_end & (actions == self.side)
        self.position += 1
        self.restart(ended)
        return ended, rewarded


def learned(rng: np.random.Generator, epochs: int = 30) -> onward.Sequential:
    """A policy that imitates demonstrations: logits of the actions for each step."""
    worlds, x, y = Corridors(512, rng), [], []
    for _ in range(2 * LONGEST):
        x.append(worlds.observe())
        y.append(worlds.best())
        worlds.step(y[-1])
    policy = onward.Sequential(onward.GRU(3, 16, rng=0), onward.Linear(16, 3, rng=1))
    # the first episode of each corridor: the state starts at zeros
    lengths = 1 + np.argmax(np.stack(y) != AHEAD, axis=0)
    onward.train.fit(
        policy,
        onward.train.Batches(np.stack(x), np.stack(y), lengths, batch_size=64),
        optimizer=onward.train.Adam(1e-2),
        epochs=epochs,
        rng=0,
        progress=False,
    )
    return policy


def run(policy: onward.Sequential, n: int, steps: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the share of episodes that ended in a reward, and the seconds that the policy took per step."""
    worlds, pool = Corridors(n, rng), policy.pool(n)
    ids, episodes, rewards, seconds = pool.open(n), 0, 0, 0.0
    for _ in range(steps):
        start = time.perf_counter()
        logits = pool.step(ids, worlds.observe())
        seconds += time.perf_counter() - start
        ended, rewarded = worlds.step(logits.argmax(1))
        pool.reset(ids[ended])
        episodes, rewards = episodes + int(ended.sum()), rewards + int(rewarded.sum())
    return rewards / episodes, seconds / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--environments", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    rewarded, seconds = run(learned(rng), arguments.environments, arguments.steps, rng)
    print(f"{rewarded:.1%} of the episodes ended in a reward")
    print(f"one step of {arguments.environments} environments: {1e6 * seconds:,.0f} µs for the policy")


if __name__ == "__main__":
    main()
