"""Trains the bundled model `vowels`: which of nine speakers says a Japanese vowel.

    python tools/train_vowels.py                    # train on all training data, write vowels.safetensors
    python tools/train_vowels.py --cross-validate   # accuracy of the recipe on held-out fifths of that data

The test data is read once, at the end, for the figure of the model card: the settings below were chosen by
cross-validation. Needs PyTorch; the same version of it on the same kind of processor gives the same weights.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import onward
from onward import bundled

HIDDEN = 32
EPOCHS = 200
BATCH = 32
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-2
DROPOUT = 0.5  # of the last hidden state
LABEL_SMOOTHING = 0.02
FRAME_NOISE = 0.6  # standard deviations, fresh in every frame
OFFSET_NOISE = 0.3  # the same over a whole utterance: another day, another microphone
CLASSES = 9
FOLDS = 5
REPEATS = 3


class Speaker(nn.Module):
    """LSTM, its last valid step, a linear layer: the parameters `lstm.*` and `linear.*`."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, HIDDEN)
        self.linear = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h, _ = self.lstm(x)
        last = h[lengths - 1, torch.arange(len(lengths))]
        return self.linear(F.dropout(last, DROPOUT, self.training))


class Data:
    """Utterances padded to (T, B, I), their lengths and speakers."""

    def __init__(self, x: Tensor, lengths: Tensor, y: Tensor) -> None:
        self.x, self.lengths, self.y = x, lengths, y

    @classmethod
    def bundled(cls, name: str) -> "Data":
        with np.load(bundled.datasets()[name]) as file:
            utterances = np.split(file["x"], np.cumsum(file["lengths"])[:-1])
            lengths, y = torch.from_numpy(file["lengths"]), torch.from_numpy(file["y"])
        return cls(nn.utils.rnn.pad_sequence([torch.from_numpy(u) for u in utterances]), lengths, y)

    def __getitem__(self, rows: Tensor) -> "Data":
        return Data(self.x[:, rows], self.lengths[rows], self.y[rows])

    def __len__(self) -> int:
        return len(self.y)

    def frames(self) -> Tensor:
        """All valid frames (N, I)."""
        return self.x[torch.arange(len(self.x))[:, None] < self.lengths]


def train(data: Data, seed: int) -> Speaker:
    """A trained model that takes the data as it is: standardisation is folded into its weights."""
    torch.manual_seed(seed)
    mean, std = data.frames().mean(0), data.frames().std(0)
    x = (data.x - mean) / std
    model = Speaker(x.shape[-1])
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(data) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data)).split(BATCH):
            clean = x[:, rows]
            noise = FRAME_NOISE * torch.randn_like(clean) + OFFSET_NOISE * torch.randn_like(clean[:1])
            scores = model(clean + noise, data.lengths[rows])
            loss = F.cross_entropy(scores, data.y[rows], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
    trained: Speaker = average.module.eval()
    fold_standardisation(trained.lstm, mean, std)
    return trained


@torch.no_grad()
def fold_standardisation(lstm: nn.LSTM, mean: Tensor, std: Tensor) -> None:
    """W ((x - mean) / std) + b = (W / std) x + (b - (W / std) mean)."""
    lstm.weight_ih_l0 /= std
    lstm.bias_ih_l0 -= lstm.weight_ih_l0 @ mean


@torch.no_grad()
def correct(model: Speaker, data: Data) -> Tensor:
    return model(data.x, data.lengths).argmax(1) == data.y


def cross_validate(data: Data) -> float:
    """Accuracy on held-out folds, every speaker equally frequent in each; the mean of several divisions."""
    right = []
    for repeat in range(REPEATS):
        generator = torch.Generator().manual_seed(repeat)
        fold = torch.empty(len(data), dtype=torch.long)
        for speaker in range(CLASSES):
            rows = torch.nonzero(data.y == speaker)[:, 0]
            fold[rows[torch.randperm(len(rows), generator=generator)]] = torch.arange(len(rows)) % FOLDS
        for k in range(FOLDS):
            model = train(data[torch.nonzero(fold != k)[:, 0]], seed=FOLDS * repeat + k)
            right.append(correct(model, data[torch.nonzero(fold == k)[:, 0]]))
    return torch.cat(right).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the bundled model `vowels`.")
    parser.add_argument("--cross-validate", action="store_true", help="measure the recipe, write nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums, and so the weights, would depend on the number of threads
    data = Data.bundled("japanese_vowels_train")
    if arguments.cross_validate:
        print(f"cross-validated accuracy: {cross_validate(data):.4f}")
        return

    model = train(data, seed=0)
    net = onward.Sequential(
        onward.LSTM(model.lstm.input_size, HIDDEN), onward.Last(), onward.Linear(HIDDEN, CLASSES)
    )
    parts = {"0": model.lstm, "2": model.linear}
    net.load_state_dict(
        {f"{i}.{key}": value.numpy() for i, part in parts.items() for key, value in part.state_dict().items()}
    )
    path = Path(__file__).parents[1] / "src/onward/bundled/vowels.safetensors"
    net.save(path)
    print(f"{path}: test accuracy {correct(model, Data.bundled('japanese_vowels_test')).float().mean():.4f}")


if __name__ == "__main__":
    main()
