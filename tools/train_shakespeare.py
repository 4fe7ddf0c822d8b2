"""Train the bundled model `shakespeare`, which predicts the next character of a play.

    python tools/train_shakespeare.py plays.txt            # train and write shakespeare.safetensors
    python tools/train_shakespeare.py plays.txt --torch    # train in PyTorch, from the same weights

Both print the bits per character on the last 5% of the text, which is used neither for training nor for any
choice. Onward evaluates both models, and its own also as bundled, in float16 and rounded.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import onward
from onward import train
from onward.recipes import text
from onward.recipes.characters import LEARNING_RATE, MAX_NORM, character_model, chunks, fit_text, split
from onward.train.batches import Chunks

HIDDEN = 256
LAYERS = 2
DROPOUT = 0.0  # four epochs of a long text do not overfit
BATCH = 32
EPOCHS = 4


def train_in_torch(model: onward.Sequential, training: Chunks, validation: Chunks) -> None:
    """Train the same architecture on the same batches with the same recipe; keep the best epoch's weights."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    vocabulary, width = model.state_dict()["0.weight"].shape
    embedding, lstm = nn.Embedding(vocabulary, width), nn.LSTM(width, HIDDEN, LAYERS, dropout=DROPOUT)
    dropout, linear = nn.Dropout(DROPOUT), nn.Linear(HIDDEN, vocabulary)
    layers = nn.ModuleList([embedding, lstm, dropout, linear])
    layers.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.state_dict().items()})
    optimizer = torch.optim.Adam(layers.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * training.size, cycle_momentum=False
    )
    best: tuple[float, dict[str, np.ndarray]] = (np.inf, {})
    for number in range(1, EPOCHS + 1):
        total, state = 0.0, None
        for x, y, _, _ in training.epoch(None):
            h, state = lstm(embedding(torch.from_numpy(x)), state)
            state = tuple(part.detach() for part in state)
            loss = nn.functional.cross_entropy(
                linear(dropout(h)).reshape(-1, vocabulary), torch.from_numpy(y.reshape(-1))
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(layers.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
            total += loss.item() * y.size
        weights = {name: weight.numpy().copy() for name, weight in layers.state_dict().items()}
        model.load_state_dict(weights)
        found = train.evaluate(model, validation).loss
        print(f"epoch {number}: training {total / training.x.size:.4f}, validation {found:.4f}", flush=True)
        best = min(best, (found, weights), key=lambda result: result[0])
    model.load_state_dict(best[1])


def rounded(model: onward.Sequential) -> onward.Sequential:
    """Round matrices to multiples of powers of two, so that the wheel compresses them."""
    for layer in model.sublayers().values():
        weights = layer.state_dict()
        for name, weight in weights.items():
            if weight.ndim > 1:
                steps = (8 if name == "weight_ih_l1" else 16) if weight.dtype == np.float16 else 64
                multiples = np.round(weight.astype(np.float64) * steps) + 0.0  # without negative zeros
                weights[name] = (multiples / steps).astype(weight.dtype)
        layer.load_state_dict(weights)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model `shakespeare`.")
    parser.add_argument("plays", type=Path, help="the text")
    parser.add_argument("--torch", action="store_true", help="train in PyTorch and write nothing")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights")
    parser.add_argument("--checkpoint", type=Path, default=Path("shakespeare.checkpoint"))
    arguments = parser.parse_args()
    plays = arguments.plays.read_text(encoding="utf-8")
    vocabulary, parts = text.Vocabulary(plays), split(plays)
    model = character_model(vocabulary, HIDDEN, LAYERS, DROPOUT, rng=arguments.seed)
    training, validation = (chunks(vocabulary, part, BATCH) for part in parts[:2])
    start = time.process_time()
    if arguments.torch:
        train_in_torch(model, training, validation)
    else:
        history = fit_text(
            model, vocabulary, parts, epochs=EPOCHS, rng=0, checkpoint=arguments.checkpoint, resume=True
        )
        for number, epoch in enumerate(history.epochs, 1):
            print(f"epoch {number}: training {epoch.loss:.4f}, validation {epoch.validation_loss:.4f}")
    print(f"{time.process_time() - start:.0f} s of processor time")
    print(f"as trained: {text.bits_per_character(model, vocabulary, parts.test):.4f} bits per character")
    if not arguments.torch:
        small = rounded(model.quantize("float16"))
        path = Path(__file__).parents[1] / "src/onward/bundled/shakespeare.safetensors"
        text.save(path, small, vocabulary)
        bits = text.bits_per_character(*text.load(path), parts.test)
        print(f"{path}: {path.stat().st_size} bytes, {bits:.4f} bits per character")


if __name__ == "__main__":
    main()
