"""Train the bundled model `vowels`, which recognizes the speaker of two Japanese vowels.

    python tools/train_vowels.py                    # train on all training data and write vowels.safetensors
    python tools/train_vowels.py --cross-validate   # measure the recipe on held-out fifths of that data

The settings below were chosen by cross-validation. The test data is used once, at the end, for the accuracy
on the model card. A seed gives the same weights on every instruction set; the bundled weights are from
version 0.1.0, whose losses were rounded differently.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

import onward
from onward import bundled, train
from onward.recipes.sequences import Noisy, fold, moments, standardized
from onward.tables import data

HIDDEN = 48
EPOCHS = 200
BATCH = 32
LEARNING_RATE = 1e-2
DROPOUT = 0.5  # applied to the last hidden state
LABEL_SMOOTHING = 0.02
FRAME_NOISE = 0.6  # in standard deviations, drawn for every frame
OFFSET_NOISE = 0.3  # the same for all frames of an utterance, as if from another day or microphone
AVERAGE = 0.99
CLASSES = 9
FOLDS = 5
REPEATS = 3


def trained(items: list[np.ndarray], labels: np.ndarray, seed: int) -> onward.Sequential:
    """Return a model trained on standardized data, with the standardization folded into its weights."""
    rng = np.random.default_rng(seed)
    mean, deviation = moments(items)
    lstm, last = onward.LSTM(items[0].shape[1], HIDDEN, rng=rng), onward.Last()
    linear = onward.Linear(HIDDEN, CLASSES, rng=rng)
    train.fit(
        onward.Sequential(lstm, last, onward.Dropout(DROPOUT), linear),
        Noisy(
            standardized(items, mean, deviation),
            labels,
            batch_size=BATCH,
            noise=FRAME_NOISE,
            offset=OFFSET_NOISE,
        ),
        loss=partial(train.cross_entropy, label_smoothing=LABEL_SMOOTHING),
        optimizer=train.AdamW(LEARNING_RATE),
        schedule=train.OneCycleLR(cycle_momentum=False),
        epochs=EPOCHS,
        max_norm=1.0,
        average=AVERAGE,
        rng=rng,
    )
    net = onward.Sequential(lstm, last, linear)  # dropout is for training only
    fold(net, mean, deviation)
    return net


def accuracy(net: onward.Sequential, items: list[np.ndarray], labels: np.ndarray) -> float:
    found = train.evaluate(net, (items, labels)).accuracy
    assert found is not None
    return found


def cross_validated(items: list[np.ndarray], labels: np.ndarray) -> float:
    """Return the mean accuracy on held-out folds, stratified by speaker, over several divisions."""
    found = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        fold = np.empty(len(labels), int)
        for speaker in range(CLASSES):
            rows = rng.permutation(np.flatnonzero(labels == speaker))
            fold[rows] = np.arange(len(rows)) % FOLDS
        for k in range(FOLDS):
            training, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            net = trained([items[n] for n in training], labels[training], seed=FOLDS * repeat + k)
            found.append(accuracy(net, [items[n] for n in held], labels[held]))
            print(f"division {repeat}, fold {k}: {found[-1]:.4f}", flush=True)
    return float(np.mean(found))


def read(name: str) -> tuple[list[np.ndarray], np.ndarray]:
    sequences = data.read(bundled.datasets()[name])
    assert sequences.labels is not None
    return sequences.items, sequences.labels


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model `vowels`.")
    parser.add_argument("--cross-validate", action="store_true", help="measure the recipe and write nothing")
    arguments = parser.parse_args()
    items, labels = read("japanese_vowels_train")
    if arguments.cross_validate:
        print(f"cross-validated accuracy: {cross_validated(items, labels):.4f}")
        return
    net = trained(items, labels, seed=0)
    path = Path(__file__).parents[1] / "src/onward/bundled/vowels.safetensors"
    net.save(path)
    print(f"{path}: test accuracy {accuracy(net, *read('japanese_vowels_test')):.4f}")


if __name__ == "__main__":
    main()
