"""What is measured: for each loss and each of its options a batch of hard cases and of seeded random ones.

All batches have one shape, so that the cases of one loss, option set and dtype are one call, and a compiler sees one shape.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from lossbackend import dispatch, registry
from lossbackend.definition import Definition

Array: TypeAlias = np.ndarray[Any, Any]
Rows: TypeAlias = list[tuple[Any, list[float]]]

INF, NAN = float("inf"), float("nan")
WIDTH, ROWS = 3, 64
# Samples in a call of a loss whose samples interact.
SAMPLES = 3

DTYPES = ("float64", "float32", "bfloat16", "float16")


class Range(NamedTuple):
    """Of a dtype: a number far up and one far down whose products with small numbers stay in range, and the machine epsilon."""

    huge: float
    tiny: float
    epsilon: float
    smallest_normal: float
    computed: str


RANGES = {
    "float64": Range(1e300, 1e-300, 2.0**-52, 2.0**-1022, "float64"),
    "float32": Range(1e38, 1e-37, 2.0**-23, 2.0**-126, "float32"),
    "bfloat16": Range(1e38, 1e-37, 2.0**-7, 2.0**-126, "float32"),
    "float16": Range(3e4, 1e-4, 2.0**-10, 2.0**-14, "float32"),
}


# Hard cases, by kind of input: (row of labels, row of predictions).


def _reals(limits: Range) -> Rows:
    huge, tiny = limits.huge, limits.tiny
    return [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([1.0, -2.0, 3.0], [1.0, -2.0, 3.0]),
        ([0.0, 0.0, 0.0], [1e-4, -1e-4, 1e-5]),
        ([0.0, 0.0, 0.0], [0.01, -0.01, 0.001]),
        ([0.0, 0.0, 0.0], [0.25, -0.25, 0.1]),
        ([0.0, 0.0, 0.0], [1.0, -1.0, 0.999]),
        ([0.0, 0.0, 0.0], [2.0, -2.0, 1.5]),
        ([0.5, 0.5, 0.5], [10.0, -10.0, 3.0]),
        ([0.0, 0.0, 0.0], [20.0, -20.0, 19.0]),
        ([0.0, 0.0, 0.0], [89.0, -89.0, 90.0]),
        ([0.0, 0.0, 0.0], [711.0, -711.0, 800.0]),
        ([0.0, 0.0, 0.0], [1e4, -1e4, 3e4]),
        ([1000.0, 1000.0, 1000.0], [1000.5, 999.5, 1001.0]),
        ([1.0, 1.0, 1.0], [1.001, 0.999, 1.0078125]),
        ([1e-7, -1e-7, 1e-8], [1.0, 1.0, 1.0]),
        ([0.0, 0.0, 0.0], [1e-7, 1e-6, -1e-7]),
        ([3.0, 0.0, -5.0], [0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0], [huge, 0.0, 0.0]),
        ([0.0, 0.0, 0.0], [-huge, 1.0, 0.0]),
        ([huge, 1.0, 1.0], [1.0, 1.0, 1.0]),
        ([0.0, 0.0, 0.0], [tiny, -tiny, 0.0]),
        ([0.0, 0.0, 0.0], [INF, 0.0, 1.0]),
        ([0.0, 0.0, 0.0], [-INF, 0.0, 1.0]),
        ([0.0, 0.0, 0.0], [NAN, 0.0, 1.0]),
        ([NAN, 0.0, 0.0], [1.0, 0.0, 1.0]),
    ]


def _positives(limits: Range) -> Rows:
    huge, tiny = limits.huge, limits.tiny
    return [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.01, 2.02, 2.95]),
        ([1e-3, 1e-4, 1e-5], [2e-3, 1e-4, 2e-5]),
        ([1e-7, 1e-8, 0.0], [1e-6, 1e-7, 1e-8]),
        ([0.0, 0.0, 0.0], [1.0, 1e-7, 100.0]),
        ([1000.0, 2000.0, 1e4], [1001.0, 2008.0, 9e3]),
        ([1.0, 1.0, 1.0], [1e4, 3e4, 100.0]),
        ([1.0, 1.0, 1.0], [huge, 1.0, 1.0]),
        ([huge, 1.0, 1.0], [1.0, 1.0, 1.0]),
        ([1.0, 1.0, 1.0], [tiny, 0.0, 1.0]),
        ([1.0, 1.0, 1.0], [-1.0, -0.5, 0.0]),
        ([-1.0, -0.5, 0.0], [1.0, 0.5, 0.0]),
        ([1.0, 1.0, 1.0], [INF, 1.0, 1.0]),
        ([1.0, 1.0, 1.0], [-INF, 1.0, 1.0]),
        ([1.0, 1.0, 1.0], [NAN, 1.0, 1.0]),
        ([NAN, 1.0, 1.0], [1.0, 1.0, 1.0]),
    ]


def _binary_probabilities(limits: Range) -> Rows:
    labels = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.25, 0.5, 0.9]]
    predictions = [
        [0.5, 0.5, 0.5],
        [0.0, 0.5, 1.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0],
        [1e-7, 1e-6, 1e-8],
        [limits.tiny, 0.5, 0.9],
        [1e-3, 1e-4, 0.01],
        [1 - limits.epsilon, 0.999, 0.99],
        [0.1, 0.25, 0.75],
        [-0.5, 1.5, 0.5],
        [NAN, 0.5, 0.5],
    ]
    return [(y, p) for p in predictions for y in labels]


def _binary_logits(limits: Range) -> Rows:
    labels = [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.25, 0.5, 0.9]]
    logits = [
        [0.0, 0.0, 0.0],
        [1.0, -1.0, 0.5],
        [1e-4, -1e-4, 1e-3],
        [8.0, -8.0, 14.0],
        [20.0, -20.0, 21.0],
        [40.0, -40.0, -37.0],
        [89.0, -89.0, 104.0],
        [710.0, -710.0, 750.0],
        [1e4, -1e4, 3e4],
        [limits.huge, 0.0, 0.0],
        [0.0, -limits.huge, 0.0],
        [limits.tiny, -limits.tiny, 0.0],
        [INF, INF, INF],
        [-INF, -INF, -INF],
        [NAN, 0.0, 1.0],
    ]
    return [(y, z) for z in logits for y in labels]


def _signs(limits: Range) -> Rows:
    labels = [[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 0.0, 0.0]]
    scores = [
        [0.0, 0.0, 0.0],
        [1.0, -1.0, 1.0],
        [-1.0, 1.0, -1.0],
        [0.5, 0.25, -0.75],
        [0.999, -0.999, 1.001],
        [2.0, -3.0, 10.0],
        [1e-4, -1e-3, 1e-7],
        [100.0, -100.0, 1e4],
        [limits.huge, 1.0, 1.0],
        [-limits.huge, 1.0, 1.0],
        [limits.tiny, -limits.tiny, 0.0],
        [INF, 0.0, 0.0],
        [-INF, 0.0, 0.0],
        [NAN, 0.0, 0.0],
    ]
    return [(y, p) for p in scores for y in labels]


_ONE_HOT = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
_SOFT = [[0.2, 0.3, 0.5], [0.0, 0.0, 0.0]]


def _distributions_of(limits: Range) -> list[list[float]]:
    return [
        [1 / 3, 1 / 3, 1 / 3],
        [0.7, 0.2, 0.1],
        [1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [0.999, 0.001, 0.0],
        [1 - limits.epsilon, limits.epsilon, 0.0],
        [1e-6, 1.0, 1e-7],
        [1e-8, 0.5, 0.5],
        [limits.tiny, 1.0, limits.tiny],
        [2.0, 3.0, 5.0],
        [0.01, 0.02, 0.03],
        [NAN, 0.5, 0.5],
    ]


def _distributions(limits: Range) -> Rows:
    return [(y, p) for p in _distributions_of(limits) for y in _ONE_HOT + _SOFT]


def _logits_of(limits: Range) -> list[list[float]]:
    return [
        [0.0, 0.0, 0.0],
        [2.0, -1.0, 0.5],
        [5.0, 5.0, 5.0],
        [1000.0, 1000.0, 999.0],
        [20.0, 0.0, 0.0],
        [40.0, -40.0, 0.0],
        [100.0, 0.0, -100.0],
        [1e4, -1e4, 0.0],
        [limits.huge, 0.0, 0.0],
        [limits.tiny, 0.0, -limits.tiny],
        [-INF, 0.0, 1.0],
        [0.0, -INF, -INF],
        [INF, 0.0, 0.0],
        [NAN, 0.0, 0.0],
    ]


def _logits(limits: Range) -> Rows:
    return [(y, z) for z in _logits_of(limits) for y in _ONE_HOT + _SOFT]


def _ids(predictions: list[list[float]]) -> Rows:
    return [(label, row) for row in predictions for label in range(WIDTH)]


def _counts(limits: Range) -> Rows:
    counts = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [100.0, 0.0, 7.0]]
    rates = [
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0],
        [1e-7, 1e-8, 1e-3],
        [1.0, 2.0, 3.0],
        [2.0, 0.5, 10.0],
        [100.0, 1e4, 0.1],
        [limits.huge, 1.0, 1.0],
        [limits.tiny, 1.0, 1.0],
        [INF, 1.0, 1.0],
        [-1.0, 1.0, 1.0],
        [NAN, 1.0, 1.0],
    ]
    return [(y, p) for p in rates for y in counts]


def _log_rates(limits: Range) -> Rows:
    counts = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [100.0, 0.0, 7.0]]
    rates = [
        [0.0, 0.0, 0.0],
        [1.0, -1.0, 0.5],
        [1e-4, -1e-4, limits.tiny],
        [5.0, 10.0, -10.0],
        [80.0, -80.0, 0.0],
        [100.0, 0.0, 0.0],
        [720.0, 0.0, 0.0],
        [-1e4, 0.0, 0.0],
        [INF, 0.0, 0.0],
        [-INF, 0.0, 0.0],
        [NAN, 0.0, 0.0],
    ]
    return [(y, z) for z in rates for y in counts]


def _vectors(limits: Range) -> Rows:
    huge, tiny = limits.huge, limits.tiny
    return [
        ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        ([1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]),
        ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]),
        ([1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]),
        ([1.0, 2.0, 3.0], [3.0, -3.0, 1.0]),
        ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([huge, huge, huge], [huge, huge, 1.0]),
        ([tiny, tiny, tiny], [tiny, -tiny, 0.0]),
        ([huge, 1.0, 0.0], [tiny, tiny, tiny]),
        ([tiny, 0.0, tiny], [huge, huge, 0.0]),
        ([1.0, 1.0, 1.0], [1e-4, 1e4, 1.0]),
        ([1.0, 1e-4, 0.0], [1.0, -1e-4, 0.0]),
        ([1.0, 1.0, 0.0], [INF, 1.0, 0.0]),
        ([1.0, 1.0, 0.0], [-INF, INF, 0.0]),
        ([1.0, 1.0, 0.0], [NAN, 1.0, 0.0]),
        ([NAN, 1.0, 0.0], [1.0, 1.0, 0.0]),
    ]


# Random rows, by kind: the first array is the labels.


def _random_distribution(random: np.random.Generator, rows: int) -> Array:
    weights = random.exponential(size=(rows, WIDTH)) + 1e-3
    shares: Array = weights / weights.sum(axis=-1, keepdims=True)
    return shares


def _one_hot(random: np.random.Generator, rows: int) -> Array:
    return np.eye(WIDTH)[random.integers(0, WIDTH, rows)]


def _magnitudes(random: np.random.Generator, rows: int) -> Array:
    """Both signs, four decades."""
    return random.normal(size=(rows, WIDTH)) * 10.0 ** random.uniform(-3, 1, (rows, 1))


def _bits(random: np.random.Generator, rows: int) -> Array:
    return random.integers(0, 2, (rows, WIDTH)).astype(np.float64)


class Kind(NamedTuple):
    """A kind of input: its hard cases, and a source of random ones."""

    description: str
    hard: Callable[[Range], Rows]
    random: Callable[[np.random.Generator, int], tuple[Array, Array]]
    ids: bool = False


KINDS = {
    "reals": Kind("real numbers", _reals, lambda r, n: (_magnitudes(r, n), _magnitudes(r, n))),
    "positives": Kind("positive numbers", _positives, lambda r, n: (abs(_magnitudes(r, n)), abs(_magnitudes(r, n)))),
    "binary": Kind("labels 0 and 1 or between, probabilities", _binary_probabilities, lambda r, n: (_bits(r, n), r.uniform(size=(n, WIDTH)))),
    "binary-logits": Kind("labels 0 and 1 or between, logits", _binary_logits, lambda r, n: (_bits(r, n), _magnitudes(r, n))),
    "signs": Kind("labels ±1 or 0 and 1, scores", _signs, lambda r, n: (2 * _bits(r, n) - 1, _magnitudes(r, n))),
    "classes": Kind("one-hot or soft labels, distributions", _distributions, lambda r, n: (_one_hot(r, n), _random_distribution(r, n))),
    "class-logits": Kind("one-hot or soft labels, logits", _logits, lambda r, n: (_one_hot(r, n), _magnitudes(r, n))),
    "distributions": Kind(
        "distributions of labels and of predictions", _distributions, lambda r, n: (_random_distribution(r, n), _random_distribution(r, n))
    ),
    "ids": Kind(
        "class ids, distributions",
        lambda limits: _ids(_distributions_of(limits)),
        lambda r, n: (r.integers(0, WIDTH, n), _random_distribution(r, n)),
        True,
    ),
    "id-logits": Kind("class ids, logits", lambda limits: _ids(_logits_of(limits)), lambda r, n: (r.integers(0, WIDTH, n), _magnitudes(r, n)), True),
    "counts": Kind("counts, rates", _counts, lambda r, n: (r.poisson(3.0, (n, WIDTH)) * 1.0, r.gamma(2.0, 2.0, (n, WIDTH)))),
    "log-rates": Kind("counts, logarithms of rates", _log_rates, lambda r, n: (r.poisson(3.0, (n, WIDTH)) * 1.0, _magnitudes(r, n))),
    "vectors": Kind("directions", _vectors, lambda r, n: (_magnitudes(r, n), _magnitudes(r, n))),
}


class Batch(NamedTuple):
    """Inputs as float64 (labels that are ids: int32), each of which the dtype holds exactly."""

    y_true: Array
    y_pred: Array


def batch(kind: str, dtype: str, seed: int) -> Batch:
    """The hard cases of a kind and random ones, ``ROWS`` in all."""
    source = KINDS[kind]
    hard = source.hard(RANGES[dtype])
    random_true, random_pred = source.random(np.random.default_rng(seed), ROWS - len(hard))
    y_true = np.concatenate([np.array([y for y, _ in hard]), random_true])
    y_pred = np.concatenate([np.array([p for _, p in hard]), random_pred])
    return Batch(y_true.astype(np.int32) if source.ids else rounded(y_true, dtype), rounded(y_pred, dtype))


def rounded(values: Array, dtype: str) -> Array:
    """The nearest numbers that a dtype holds, as float64. NumPy has no bfloat16: it is the upper half of a float32."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return values.astype(dtype).astype(np.float64)
        bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isnan(values), NAN, upper.astype(np.uint32).view(np.float32)).astype(np.float64)


class Suite(NamedTuple):
    """A loss with a set of options, and the kind of its input."""

    function: Any
    options: Mapping[str, Any]
    kind: str
    source: str
    """What a person calls the loss: a name, or module:function."""
    interacting: bool = False
    """Whether its samples depend on each other: then a case is a sample beside others of a call of its own, one after the other in a row."""

    @property
    def definition(self) -> Definition:
        definition: Definition = self.function.definition
        return definition

    @property
    def label(self) -> str:
        options = ",".join(f"{name}={_written(value)}" for name, value in self.options.items())
        return f"{self.source}[{options}]" if options else self.source

    @property
    def transposed(self) -> bool:
        """Whether the loss axis is the first of the two."""
        return self.options.get("axis", self.definition.defaults.get("axis", -1)) in (0, -2)

    @property
    def normalised(self) -> bool:
        """Whether predictions are divided by their sum."""
        return self.kind in ("classes", "ids")


def cases(suite: Suite, dtype: str, seed: int) -> Batch:
    """What a suite is measured on, a case in each row."""
    return company(suite, batch(suite.kind, dtype, seed), dtype)


def company(suite: Suite, inputs: Batch, dtype: str) -> Batch:
    """Each row beside ordinary ones, the same for all, where the samples of a call depend on each other: a NaN among them would hide everything."""
    if not suite.interacting:
        return inputs
    source = KINDS[suite.kind]
    y_true, y_pred = source.random(np.random.default_rng(0), SAMPLES - 1)
    others = y_true.astype(np.int32) if source.ids else rounded(y_true, dtype), rounded(y_pred, dtype)
    rows = (array.reshape(len(inputs.y_pred), -1) for array in inputs)
    return Batch(*(np.concatenate([own, np.tile(other.ravel(), (len(own), 1))], axis=1) for own, other in zip(rows, others, strict=True)))


def _written(value: Any) -> str:
    return f"({' '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


_CLASS_WEIGHT = (1.0, 2.0, 0.5)

# Every built-in loss, and every option of each: (kind, options).
_BUILT_IN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "mean_squared_error": [("reals", {})],
    "mean_absolute_error": [("reals", {})],
    "mean_absolute_percentage_error": [("reals", {}), ("reals", {"epsilon": 0.01})],
    "mean_squared_logarithmic_error": [("positives", {}), ("positives", {"epsilon": 0.01})],
    "log_cosh": [("reals", {})],
    "huber": [("reals", {}), ("reals", {"delta": 0.25}), ("reals", {"delta": 2.0})],
    "cosine_similarity": [("vectors", {}), ("vectors", {"axis": 0})],
    "hinge": [("signs", {}), ("signs", {"labels": "pm1"}), ("signs", {"labels": "binary"})],
    "squared_hinge": [("signs", {}), ("signs", {"labels": "pm1"}), ("signs", {"labels": "binary"})],
    "categorical_hinge": [("class-logits", {})],
    "categorical_crossentropy": [
        ("classes", {}),
        ("classes", {"label_smoothing": 0.1}),
        ("classes", {"epsilon": 0.01}),
        ("classes", {"class_weight": _CLASS_WEIGHT}),
        ("classes", {"axis": 0}),
        ("class-logits", {"from_logits": True}),
        ("class-logits", {"from_logits": True, "label_smoothing": 0.1}),
        ("class-logits", {"from_logits": True, "class_weight": _CLASS_WEIGHT}),
    ],
    "sparse_categorical_crossentropy": [
        ("ids", {}),
        ("ids", {"label_smoothing": 0.1}),
        ("ids", {"epsilon": 0.01}),
        ("ids", {"class_weight": _CLASS_WEIGHT}),
        ("ids", {"axis": 0}),
        ("ids", {"ignore_class": 1}),
        ("id-logits", {"from_logits": True}),
        ("id-logits", {"from_logits": True, "label_smoothing": 0.1}),
        ("id-logits", {"from_logits": True, "class_weight": _CLASS_WEIGHT}),
        ("id-logits", {"from_logits": True, "ignore_class": 1}),
    ],
    "binary_crossentropy": [
        ("binary", {}),
        ("binary", {"label_smoothing": 0.1}),
        ("binary", {"epsilon": 0.01}),
        ("binary", {"pos_weight": 3.0}),
        ("binary", {"axis": 0}),
        ("binary-logits", {"from_logits": True}),
        ("binary-logits", {"from_logits": True, "label_smoothing": 0.1}),
        ("binary-logits", {"from_logits": True, "pos_weight": 3.0}),
    ],
    "kl_divergence": [("distributions", {}), ("distributions", {"epsilon": 0.01}), ("class-logits", {"from_logits": True})],
    "poisson": [("counts", {}), ("counts", {"epsilon": 0.01}), ("log-rates", {"log_input": True})],
}


def suites(names: Iterable[str] | None = None) -> list[Suite]:
    """The suites of the built-in losses of these canonical names, of all of them by default."""
    functions = registry.functions()
    wanted = functions if names is None else names
    return [Suite(functions[name], options, kind, name) for name in wanted for kind, options in _BUILT_IN[name]]


def suite_of(function: Any, options: Mapping[str, Any], kind: str | None, source: str) -> Suite:
    """The suite of a user's own loss; ValueError where the kind of input is not one for it."""
    definition = function.definition
    sparse = definition.sparse
    axis = options.get("axis", definition.defaults.get("axis", -1))
    if axis not in (-2, -1, 0, 1):
        raise ValueError(f"{source}: axis is {axis!r}, and the input has two axes: use 0 or -1")
    if kind is None:
        kind = _kind_of(definition, {**definition.defaults, **options})
    if KINDS[kind].ids != sparse:
        fitting = ", ".join(name for name, other in KINDS.items() if other.ids == sparse)
        takes = "class ids" if sparse else "one label per prediction"
        raise ValueError(f"{source} takes {takes}, and --inputs {kind} are {KINDS[kind].description}; use one of: {fitting}")
    suite = Suite(function, options, kind, source)
    return suite._replace(interacting=definition.interacting or _interacts(suite))


def _kind_of(definition: Definition, options: Mapping[str, Any]) -> str:
    """The kind of input that the annotations of a definition ask for; real numbers where there are none, logits beside class ids."""
    in_logs = bool(options.get("from_logits") or options.get("log_input"))
    y_true, y_pred = (definition.kinds[argument].name for argument in ("y_true", "y_pred"))
    if definition.sparse:
        return "id-logits" if y_pred == "real" or in_logs else "ids"
    by_predictions = {"count": "counts", "rate or log": "log-rates" if in_logs else "counts", "amount": "positives", "sign": "signs"}
    by_predictions |= {"probability": "binary", "probability or logit": "binary-logits" if in_logs else "binary"}
    by_predictions |= dict.fromkeys(("one-hot", "distribution"), "distributions")
    by_predictions |= {"distribution or logits": "class-logits" if in_logs else "distributions"}
    by_labels = {"count": "log-rates", "amount": "positives", "sign": "signs", "probability": "binary-logits"}
    by_labels |= dict.fromkeys(("one-hot", "distribution"), "class-logits")
    return by_predictions.get(y_pred) or by_labels.get(y_true, "reals")


def _interacts(suite: Suite) -> bool:
    """Whether a sample's exact loss changes with the other samples, of a definition that may have forgotten to say."""
    inputs = batch(suite.kind, "float64", 0)
    half = (ROWS - len(KINDS[suite.kind].hard(RANGES["float64"]))) // 2
    y_true, y_pred = (np.array(array[-2 * half :]) for array in inputs)

    def exact(true: Array, pred: Array) -> Array:
        if suite.transposed:
            true, pred = true if true.ndim == 1 else true.T, pred.T
        values: Array = suite.function(true, pred, **suite.options)
        return values

    spoilt = y_pred.copy()
    spoilt[half:] = NAN
    with dispatch.use_backend(dispatch.REFERENCE), np.errstate(all="ignore"):
        try:
            parts = [exact(y_true, y_pred)[:half], exact(y_true[:half], y_pred[:half]), exact(y_true, spoilt)[:half]]
        except Exception:  # what a run reports
            return False
    return any(bool(np.any((part != parts[0]) & ~((part != part) & (parts[0] != parts[0])))) for part in parts[1:])
