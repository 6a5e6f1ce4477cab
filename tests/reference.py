"""The losses as their formulas, one sample at a time, in 60-digit arithmetic.

Written from the public definition of each loss and from nothing else. A sample is a list of Python floats, the exact bits of the input. Next to the
value, each function returns the scale of its rounding error: the sum of the magnitudes that are added up. Float arithmetic is exact relative to that.
"""

from mpmath import mp, mpf

DIGITS = 60
EPSILON = mpf(1e-7)


def _vectors(*samples):
    return [[entry if isinstance(entry, mpf) else mpf(float(entry)) for entry in sample] for sample in samples]


def _mean(terms):
    return sum(terms) / len(terms)


def _clip(x, low, high):
    return min(max(x, low), high)


def mean_squared_error(y, p):
    value = _mean([(b - a) ** 2 for a, b in zip(*_vectors(y, p), strict=True)])
    return value, value


def mean_absolute_error(y, p):
    value = _mean([abs(b - a) for a, b in zip(*_vectors(y, p), strict=True)])
    return value, value


def mean_absolute_percentage_error(y, p, epsilon=EPSILON):
    value = 100 * _mean([abs(b - a) / max(abs(a), mpf(epsilon)) for a, b in zip(*_vectors(y, p), strict=True)])
    return value, value


def mean_squared_logarithmic_error(y, p, epsilon=EPSILON):
    y, p = _vectors(y, p)
    pairs = [(mp.log1p(max(a, mpf(epsilon))), mp.log1p(max(b, mpf(epsilon)))) for a, b in zip(y, p, strict=True)]
    return _mean([(b - a) ** 2 for a, b in pairs]), _mean([abs(b - a) * (a + b) for a, b in pairs])


def _signed(label, labels):
    if labels == "auto":
        return mpf(-1) if label == 0 else label
    return 2 * label - 1 if labels == "binary" else label


def hinge(y, p, labels="auto"):
    products = [_signed(a, labels) * b for a, b in zip(*_vectors(y, p), strict=True)]
    return _mean([max(1 - x, mpf(0)) for x in products]), _mean([1 + abs(x) for x in products])


def squared_hinge(y, p, labels="auto"):
    products = [_signed(a, labels) * b for a, b in zip(*_vectors(y, p), strict=True)]
    return _mean([max(1 - x, mpf(0)) ** 2 for x in products]), _mean([(1 + abs(x)) ** 2 for x in products])


def categorical_hinge(y, p):
    y, p = _vectors(y, p)
    positive = [a * b for a, b in zip(y, p, strict=True)]
    negative = [(1 - a) * b for a, b in zip(y, p, strict=True)]
    return max(1 + max(negative) - sum(positive), mpf(0)), 1 + abs(max(negative)) + sum(map(abs, positive))


def log_cosh(y, p):
    # cosh e − 1 = 2 sinh²(e/2), which does not cancel.
    value = _mean([mp.log1p(2 * mp.sinh((b - a) / 2) ** 2) for a, b in zip(*_vectors(y, p), strict=True)])
    return value, value


def huber(y, p, delta=1.0):
    errors = [abs(b - a) for a, b in zip(*_vectors(y, p), strict=True)]
    delta = mpf(delta)
    value = _mean([e**2 / 2 if e <= delta else delta * e - delta**2 / 2 for e in errors])
    return value, value + _mean([delta * min(e, delta) for e in errors])


def _smoothed(y, smoothing, into):
    alpha = mpf(float(smoothing))
    return [label * (1 - alpha) + alpha / into for label in y]


def _log_softmax(z):
    top = max(z)
    normaliser = top + mp.log(sum(mp.exp(x - top) for x in z))
    return [x - normaliser for x in z], [abs(x) + abs(normaliser) + 1 for x in z]


def categorical_crossentropy(y, p, from_logits=False, label_smoothing=0.0, epsilon=EPSILON, class_weight=None):
    y, p = _vectors(y, p)
    y = _smoothed(y, label_smoothing, len(y))
    weights = [mpf(1)] * len(y) if class_weight is None else [mpf(float(weight)) for weight in class_weight]
    if from_logits:
        logs, magnitudes = _log_softmax(p)
    else:
        total = sum(p) or mpf(1)
        logs = [mp.log(_clip(x / total, mpf(epsilon), mpf(1))) for x in p]
        magnitudes = [abs(x) + 1 for x in logs]
    value = -sum(w * a * x for w, a, x in zip(weights, y, logs, strict=True))
    return value, sum(abs(w * a) * m for w, a, m in zip(weights, y, magnitudes, strict=True))


def sparse_categorical_crossentropy(label, p, ignore_class=None, **options):
    if label == ignore_class:
        return mpf(0), mpf(0)
    return categorical_crossentropy([float(index == label) for index in range(len(p))], p, **options)


def _softplus(x):
    return max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x)))


def binary_crossentropy(y, p, from_logits=False, label_smoothing=0.0, epsilon=EPSILON, pos_weight=1.0):
    y, p = _vectors(y, p)
    y = _smoothed(y, label_smoothing, 2)
    weights = [mpf(float(w)) for w in (pos_weight if isinstance(pos_weight, list | tuple) else [pos_weight] * len(y))]
    epsilon = mpf(epsilon)
    terms = []
    for label, x, weight in zip(y, p, weights, strict=True):
        if from_logits:
            positive, negative = _softplus(-x), _softplus(x)
        else:
            positive = -mp.log(_clip(x, epsilon, mpf(1)))
            negative = -mp.log(epsilon) if 1 - x < epsilon else mpf(0) if x < 0 else -mp.log1p(-x)
        # 1 − ỹ is rounded relative to 1 unless the label is 0 or 1.
        terms.append((weight * label * positive, (1 - label) * negative, negative * (label not in (0, 1))))
    return _mean([a + b for a, b, _ in terms]), _mean([abs(a) + abs(b) + abs(c) for a, b, c in terms])


def kl_divergence(y, p, epsilon=EPSILON, from_logits=False):
    y, p = _vectors(y, p)
    if from_logits:
        logs, magnitudes = _log_softmax(p)
    else:
        logs = [mp.log(max(x, mpf(epsilon))) for x in p]
        magnitudes = [abs(x) for x in logs]
    terms = [(a * (mp.log(a) - x), a * (abs(mp.log(a)) + m)) for a, x, m in zip(y, logs, magnitudes, strict=True) if a != 0]
    return sum((a for a, _ in terms), mpf(0)), sum((b for _, b in terms), mpf(0))


def poisson(y, p, epsilon=EPSILON, log_input=False):
    y, p = _vectors(y, p)
    if log_input:
        terms = [(mp.exp(x), a * x, mpf(0)) for a, x in zip(y, p, strict=True)]
    else:
        terms = [(x, a * mp.log(x + mpf(epsilon)), a) for a, x in zip(y, p, strict=True)]
    return _mean([a - b for a, b, _ in terms]), _mean([abs(a) + abs(b) + abs(c) for a, b, c in terms])


def cosine_similarity(y, p):
    y, p = _vectors(y, p)
    norm = mp.sqrt(sum(a * a for a in y)) * mp.sqrt(sum(b * b for b in p))
    if norm == 0:
        return mpf(0), mpf(0)
    products = [a * b / norm for a, b in zip(y, p, strict=True)]
    return -sum(products), sum(map(abs, products))


REFERENCE = {
    function.__name__: function
    for function in (
        mean_squared_error,
        mean_absolute_error,
        mean_absolute_percentage_error,
        mean_squared_logarithmic_error,
        hinge,
        squared_hinge,
        categorical_hinge,
        log_cosh,
        huber,
        categorical_crossentropy,
        sparse_categorical_crossentropy,
        binary_crossentropy,
        kl_divergence,
        poisson,
        cosine_similarity,
    )
}


def value(name, y, p, **options):
    """The exact loss of one sample, and the scale of its rounding error."""
    with mp.workdps(DIGITS):
        return REFERENCE[name](y, p, **options)


def gradient(name, y, p, **options):
    """The exact gradient of one sample by central differences, good to 30 digits away from a kink."""
    with mp.workdps(DIGITS):
        step = mpf(10) ** -20
        slopes = []
        for index, entry in enumerate(p):
            up, down = ([*p[:index], mpf(entry) + shift, *p[index + 1 :]] for shift in (step, -step))
            slopes.append((REFERENCE[name](y, up, **options)[0] - REFERENCE[name](y, down, **options)[0]) / (2 * step))
        return slopes
