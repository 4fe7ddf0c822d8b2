"""Recognize speakers with scikit-learn: cross-validation, a grid search, and the trained model on its own.

    python examples/sklearn_classifier.py

Nine men each say two vowels; a recording has 7 to 29 frames of 12 features. Needs the extra `sklearn`.
"""

import numpy as np
from sklearn.model_selection import GridSearchCV, cross_val_score

from onward import bundled
from onward.recipes import SequenceClassifier


def read(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the recordings, a list of arrays (T, 12), and their speakers."""
    with np.load(bundled.datasets()[f"japanese_vowels_{part}"]) as data:
        return np.split(data["x"], np.cumsum(data["lengths"])[:-1]), data["y"]


def main(epochs: int | None = None) -> float:
    """Print each result and return the accuracy on the test recordings."""
    X, y = read("train")
    classifier = SequenceClassifier(epochs=epochs, random_state=0)
    print(f"accuracy in 3-fold cross-validation: {cross_val_score(classifier, X, y, cv=3).mean():.1%}")

    search = GridSearchCV(classifier, {"cell": ["lstm", "gru"]}, cv=3).fit(X, y)
    print(f"best parameters: {search.best_params_}")
    accuracy = search.score(*read("test"))
    print(f"test accuracy: {accuracy:.1%}")

    model = search.best_estimator_.model_  # an ordinary Onward model, which needs no scikit-learn
    print(f"speaker after each frame: {[int(model(X[0][:t]).argmax()) for t in range(1, 6)]} ...")
    return float(accuracy)


if __name__ == "__main__":
    main()
