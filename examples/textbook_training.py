"""The textbook's own LSTM learns who is speaking: onward.textbook, NumPy, and nothing else.

    python examples/textbook_training.py

Nine men say two vowels; each recording is 7 to 29 frames of 12 numbers. The LSTM reads the frames and is
asked, at the last one, who it was. Forward pass, loss, backpropagation through time and a step downhill, all
in sight; it takes ten seconds on one processor core.
"""

import argparse
from pathlib import Path

import numpy as np

from onward import textbook

DATA = Path(textbook.__file__).parent / "bundled"
SPEAKERS = 9
BATCH = 30
LEARNING_RATE = 0.1
MOMENTUM = 0.9
LARGEST_NORM = 1.0  # of the gradient, which is cut where it explodes


def read(name: str, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames x (T, n_x, m), padded with 0, and labels y (T, 9, m): one at each last frame, none elsewhere."""
    with np.load(DATA / f"{name}.npz") as file:
        utterances = np.split(file["x"], np.cumsum(file["lengths"])[:-1])
        lengths, speakers = file["lengths"], file["y"]
    x = np.zeros((longest, utterances[0].shape[1], len(utterances)))
    y = np.zeros((longest, SPEAKERS, len(utterances)))
    for k, utterance in enumerate(utterances):
        x[: len(utterance), :, k] = utterance
        y[lengths[k] - 1, speakers[k], k] = 1
    return x, y


def first_parameters(n_x: int, n_h: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Small random weights, biases of 0, but 1 for the forget gate: at first, remember."""
    parameters = {}
    for gate in "fioc":
        parameters["W" + gate] = rng.normal(0, (n_h + n_x) ** -0.5, (n_h, n_h + n_x))
        parameters["b" + gate] = np.full((n_h, 1), 1.0 if gate == "f" else 0.0)
    parameters["Wy"] = rng.normal(0, n_h**-0.5, (SPEAKERS, n_h))
    parameters["by"] = np.zeros((SPEAKERS, 1))
    return parameters


def accuracy(x: np.ndarray, y: np.ndarray, parameters: dict[str, np.ndarray]) -> float:
    """How often the largest prediction at the last frame is the speaker."""
    state = np.zeros((len(parameters["bf"]), x.shape[2]))
    _, _, y_pred, _ = textbook.lstm_forward(x, state, state, parameters)
    answers = (y_pred * y.sum(axis=1, keepdims=True)).sum(axis=0)  # those at each last frame
    return float((answers.argmax(axis=0) == y.sum(axis=0).argmax(axis=0)).mean())


def train(epochs: int, units: int, seed: int = 0) -> float:
    """Trains, tells how it goes, and returns the accuracy on recordings that were not learnt from."""
    rng = np.random.default_rng(seed)
    (x, y), (x_test, y_test) = (read(f"japanese_vowels_{part}", 29) for part in ("train", "test"))
    parameters = first_parameters(x.shape[1], units, rng)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    state = np.zeros((units, BATCH))
    no_gradient_from_above = np.zeros((len(x), units, BATCH))

    for epoch in range(1, epochs + 1):
        losses = []
        for rows in rng.permutation(x.shape[2]).reshape(-1, BATCH):
            _, _, y_pred, caches = textbook.lstm_forward(x[:, :, rows], state, state, parameters)
            losses.append(textbook.cross_entropy_loss(y[:, :, rows], y_pred))
            gradients = textbook.lstm_backward(no_gradient_from_above, caches, y[:, :, rows])
            norm = np.sqrt(sum((gradients["d" + name] ** 2).sum() for name in parameters))
            for name in parameters:
                downhill = -gradients["d" + name] * min(1, LARGEST_NORM / norm)
                velocity[name] = MOMENTUM * velocity[name] + LEARNING_RATE * downhill
                parameters[name] = parameters[name] + velocity[name]
        if epoch % 5 == 0 or epoch == epochs:
            right = accuracy(x_test, y_test, parameters)
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}, {right:.1%} of the test recordings right")
    return accuracy(x_test, y_test, parameters)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The textbook's LSTM learns who is speaking.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.epochs, arguments.units)
