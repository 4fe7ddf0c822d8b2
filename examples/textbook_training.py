"""Train the textbook's LSTM to recognize a speaker, with onward.textbook and NumPy only.

    python examples/textbook_training.py

Nine men each say two vowels; a recording has 7 to 29 frames of 12 features. The LSTM reads the frames and
predicts the speaker at the last one. The script shows every step: the forward pass, the loss, backpropagation
through time and gradient descent. It takes ten seconds on one core.
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
MAX_NORM = 1.0  # larger gradients are scaled down to this norm


def read(name: str, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return frames x (T, n_x, m), padded with 0, and labels y (T, 9, m), one-hot at each last frame."""
    with np.load(DATA / f"{name}.npz") as file:
        utterances = np.split(file["x"], np.cumsum(file["lengths"])[:-1])
        lengths, speakers = file["lengths"], file["y"]
    x = np.zeros((longest, utterances[0].shape[1], len(utterances)))
    y = np.zeros((longest, SPEAKERS, len(utterances)))
    for k, utterance in enumerate(utterances):
        x[: len(utterance), :, k] = utterance
        y[lengths[k] - 1, speakers[k], k] = 1
    return x, y


def initial_parameters(n_x: int, n_h: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw small random weights; biases are 0, except 1 for the forget gate, which then starts open."""
    parameters = {}
    for gate in "fioc":
        parameters["W" + gate] = rng.normal(0, (n_h + n_x) ** -0.5, (n_h, n_h + n_x))
        parameters["b" + gate] = np.full((n_h, 1), 1.0 if gate == "f" else 0.0)
    parameters["Wy"] = rng.normal(0, n_h**-0.5, (SPEAKERS, n_h))
    parameters["by"] = np.zeros((SPEAKERS, 1))
    return parameters


def accuracy(x: np.ndarray, y: np.ndarray, parameters: dict[str, np.ndarray]) -> float:
    """Return the fraction of recordings whose speaker has the largest prediction at the last frame."""
    state = np.zeros((len(parameters["bf"]), x.shape[2]))
    _, _, y_pred, _ = textbook.lstm_forward(x, state, state, parameters)
    last = (y_pred * y.sum(axis=1, keepdims=True)).sum(axis=0)  # the predictions at each last frame
    return float((last.argmax(axis=0) == y.sum(axis=0).argmax(axis=0)).mean())


def train(epochs: int, units: int, seed: int = 0) -> float:
    """Train, print the progress, and return the accuracy on the test recordings."""
    rng = np.random.default_rng(seed)
    (x, y), (x_test, y_test) = (read(f"japanese_vowels_{part}", 29) for part in ("train", "test"))
    parameters = initial_parameters(x.shape[1], units, rng)
    velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
    state = np.zeros((units, BATCH))
    zero_da = np.zeros((len(x), units, BATCH))

    for epoch in range(1, epochs + 1):
        losses = []
        for rows in rng.permutation(x.shape[2]).reshape(-1, BATCH):
            _, _, y_pred, caches = textbook.lstm_forward(x[:, :, rows], state, state, parameters)
            losses.append(textbook.cross_entropy_loss(y[:, :, rows], y_pred))
            gradients = textbook.lstm_backward(zero_da, caches, y[:, :, rows])
            norm = np.sqrt(sum((gradients["d" + name] ** 2).sum() for name in parameters))
            for name in parameters:
                downhill = -gradients["d" + name] * min(1, MAX_NORM / norm)
                velocity[name] = MOMENTUM * velocity[name] + LEARNING_RATE * downhill
                parameters[name] = parameters[name] + velocity[name]
        if epoch % 5 == 0 or epoch == epochs:
            correct = accuracy(x_test, y_test, parameters)
            print(f"epoch {epoch}: loss {np.mean(losses):.4f}, test accuracy {correct:.1%}")
    return accuracy(x_test, y_test, parameters)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the textbook's LSTM to recognize a speaker.")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.epochs, arguments.units)
