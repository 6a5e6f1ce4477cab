"""Makes the digits files beside this script: what a real classifier says about handwritten digits, and the digits themselves.

labels.npy         int64    (1797,)     the digit
probabilities.npy  float32  (1797, 10)  the probability of each digit
logits.npy         float32  (1797, 10)  its logit: probabilities = softmax(logits)
images.npy         uint8    (1797, 64)  8 x 8 pixels, 0 to 16

The classifier is a logistic regression. Each fifth of the images is predicted by a model fitted on the other four, so the probabilities are honest.

Run: pip install scikit-learn && python make_digits.py
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict


def make() -> dict[str, NDArray[np.generic]]:
    """The arrays by file name, the same at every call."""
    images, labels = load_digits(return_X_y=True)
    # The optimum is unique, and Newton steps reach it to the last digits: the files do not depend on where a solver happens to stop.
    classifier = LogisticRegression(solver="newton-cholesky", tol=1e-8)
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    logits = cross_val_predict(classifier, images / 16, labels, cv=folds, method="decision_function")
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return {
        "labels": labels.astype(np.int64),
        "probabilities": probabilities.astype(np.float32),
        "logits": logits.astype(np.float32),
        "images": images.astype(np.uint8),
    }


if __name__ == "__main__":
    for name, array in make().items():
        path = Path(__file__).with_name(f"{name}.npy")
        np.save(path, array)
        print(f"{path.name:18} {array.dtype!s:8} {array.shape}")
