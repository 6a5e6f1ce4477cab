"""Every loss, with its options, inside the compilers and transforms of each framework, against the exact formula."""

import subprocess
import sys
from types import SimpleNamespace

import conftest
import numpy as np
import pytest
import reference

import lossbackend as lb

rng = np.random.default_rng(7)
REAL = rng.normal(size=(4, 3)).astype("float32")
SHARES = rng.dirichlet(np.ones(3), size=4).astype("float32")
OTHER = rng.dirichlet(np.ones(3), size=4).astype("float32")
LOGITS = (3 * rng.normal(size=(4, 3))).astype("float32")
IDS = np.array([0, 2, 1, 2])
BITS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 1, 0]], "float32")

# (loss, y_true, y_pred, options)
CASES = [
    ("mean_squared_error", REAL, LOGITS, {}),
    ("mean_absolute_error", REAL, LOGITS, {}),
    ("mean_absolute_percentage_error", REAL, LOGITS, {}),
    ("mean_absolute_percentage_error", REAL, LOGITS, {"epsilon": 0.5}),
    ("mean_squared_logarithmic_error", SHARES, OTHER, {}),
    ("log_cosh", REAL, LOGITS, {}),
    ("huber", REAL, LOGITS, {}),
    ("huber", REAL, LOGITS, {"delta": 0.25}),
    ("cosine_similarity", REAL, LOGITS, {}),
    ("cosine_similarity", REAL, LOGITS, {"axis": 0}),
    ("hinge", BITS, LOGITS, {}),
    ("hinge", BITS, LOGITS, {"labels": "binary"}),
    ("squared_hinge", BITS, LOGITS, {"labels": "pm1"}),
    ("categorical_hinge", np.eye(3, dtype="float32")[IDS], LOGITS, {}),
    ("categorical_crossentropy", SHARES, OTHER, {}),
    ("categorical_crossentropy", SHARES, LOGITS, {"from_logits": True, "label_smoothing": 0.1, "class_weight": (1.0, 2.0, 0.5)}),
    ("sparse_categorical_crossentropy", IDS, OTHER, {}),
    ("sparse_categorical_crossentropy", IDS, LOGITS, {"from_logits": True}),
    ("sparse_categorical_crossentropy", IDS, LOGITS, {"from_logits": True, "label_smoothing": 0.1, "ignore_class": 1, "class_weight": {2: 3.0}}),
    ("binary_crossentropy", BITS, OTHER, {}),
    ("binary_crossentropy", BITS, LOGITS, {"from_logits": True, "label_smoothing": 0.2, "pos_weight": (1.0, 2.0, 3.0)}),
    ("kl_divergence", SHARES, OTHER, {}),
    ("kl_divergence", SHARES, LOGITS, {"from_logits": True}),
    ("poisson", SHARES, OTHER, {}),
    ("poisson", SHARES, LOGITS, {"log_input": True}),
]
IDENTITIES = [f"{name}-{'-'.join(options) or 'plain'}" for name, _, _, options in CASES]
parametrised = pytest.mark.parametrize(("name", "y_true", "y_pred", "options"), CASES, ids=IDENTITIES)


def exact(name, y_true, y_pred, options):
    """The loss of every sample in 60 digits."""
    options = dict(options)
    if options.pop("axis", -1) == 0:
        y_true, y_pred = y_true.T, y_pred.T
    if isinstance(options.get("class_weight"), dict):
        options["class_weight"] = [options["class_weight"].get(c, 1.0) for c in range(3)]
    return np.array([float(reference.value(name, y, p, **options)[0]) for y, p in zip(y_true.tolist(), y_pred.tolist(), strict=True)])


def assert_close(got, expected):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=5e-6, atol=5e-7)


def framework(name):
    if name not in conftest.chosen_backends():
        pytest.skip(f"{name} was not chosen")
    return conftest.load(name).module


@pytest.fixture
def torch():
    return framework("torch")


@pytest.fixture
def jax():
    return framework("jax")


@pytest.fixture
def tf():
    return framework("tensorflow")


@parametrised
def test_torch_compile_and_transforms(torch, name, y_true, y_pred, options):
    loss, expected = getattr(lb, name), exact(name, y_true, y_pred, options)
    y, p = torch.tensor(y_true), torch.tensor(y_pred, requires_grad=True)
    values = torch.compile(loss, fullgraph=True, backend="aot_eager")(y, p, **options)
    assert_close(values.detach(), expected)
    (gradient,) = torch.autograd.grad(values.sum(), p)
    eager = torch.autograd.grad(loss(y, p, **options).sum(), p)[0]
    assert_close(gradient, eager)
    if options.get("axis") != 0:
        assert_close(torch.func.vmap(lambda y, p: loss(y, p, **options))(y, p.detach()), expected)
        per_sample = torch.func.vmap(torch.func.grad(lambda p, y: loss(y, p, **options)))(p.detach(), y)
        assert_close(per_sample, eager)


@parametrised
def test_torch_export_with_a_dynamic_batch(torch, name, y_true, y_pred, options):
    if options.get("axis") == 0:
        pytest.skip("the loss axis is the batch")

    class Model(torch.nn.Module):
        def forward(self, y, p):
            return getattr(lb, name)(y, p, **options)

    batch = torch.export.Dim("batch")
    arguments = torch.tensor(y_true), torch.tensor(y_pred)
    program = torch.export.export(Model(), arguments, dynamic_shapes={"y": {0: batch}, "p": {0: batch}}, strict=True)
    twice = np.concatenate([y_true, y_true]), np.concatenate([y_pred, y_pred])
    assert_close(program.module()(*map(torch.tensor, twice)), exact(name, *twice, options))


@parametrised
def test_jax_transforms(jax, name, y_true, y_pred, options):
    jnp = jax.numpy
    loss, expected = getattr(lb, name), exact(name, y_true, y_pred, options)
    y, p = jnp.asarray(y_true), jnp.asarray(y_pred)
    assert_close(jax.jit(lambda y, p: loss(y, p, **options))(y, p), expected)
    if options.get("axis") == 0:
        return
    assert_close(jax.vmap(lambda y, p: loss(y, p, **options))(y, p), expected)
    gradient = jax.vmap(jax.grad(lambda p, y: loss(y, p, **options)))(p, y)
    hessian = jax.vmap(jax.hessian(lambda p, y: loss(y, p, **options)))(p, y)
    wanted = [
        [float(slope) for slope in reference.gradient(name, a, b, **{**options, **full_weights(options)})]
        for a, b in zip(y_true.tolist(), y_pred.tolist(), strict=True)
    ]
    np.testing.assert_allclose(gradient, wanted, rtol=2e-5, atol=2e-6)
    assert np.isfinite(hessian).all()
    np.testing.assert_allclose(hessian, np.swapaxes(hessian, 1, 2), rtol=1e-5, atol=2e-6 * np.abs(hessian).max())


def full_weights(options):
    weights = options.get("class_weight")
    return {"class_weight": [weights.get(c, 1.0) for c in range(3)]} if isinstance(weights, dict) else {}


@parametrised
def test_jax_export_with_a_symbolic_batch(jax, name, y_true, y_pred, options):
    if options.get("axis") == 0:
        pytest.skip("the loss axis is the batch")
    from jax import export

    y, p = jax.numpy.asarray(y_true), jax.numpy.asarray(y_pred)
    shapes = export.symbolic_args_specs((y, p), ("n" if y.ndim == 1 else "n, 3", "n, 3"))
    exported = export.export(jax.jit(lambda y, p: getattr(lb, name)(y, p, **options)))(*shapes)
    assert_close(exported.call(y, p), exact(name, y_true, y_pred, options))


@parametrised
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_tensorflow_functions(tf, name, y_true, y_pred, options, xla):
    loss, expected = getattr(lb, name), exact(name, y_true, y_pred, options)
    y, p = tf.constant(y_true), tf.constant(y_pred)
    assert_close(tf.function(loss, jit_compile=xla)(y, p, **options), expected)
    signature = [tf.TensorSpec((None, *y.shape[1:]), y.dtype), tf.TensorSpec((None, 3), p.dtype)]
    unknown_batch = tf.function(lambda y, p: loss(y, p, **options), jit_compile=xla, input_signature=signature)
    with tf.GradientTape() as tape:
        tape.watch(p)
        values = unknown_batch(y, p)
    assert_close(values, expected)
    with tf.GradientTape() as eager:
        eager.watch(p)
        total = tf.reduce_sum(loss(y, p, **options))
    assert_close(tape.gradient(values, p), eager.gradient(total, p))


@parametrised
def test_tensorflow_with_no_dimension_known(tf, name, y_true, y_pred, options):
    if isinstance(options.get("class_weight"), dict):
        pytest.skip("a dict of weights needs the number of classes")
    y, p = tf.constant(y_true), tf.constant(y_pred)
    signature = [tf.TensorSpec([None] * y.shape.rank, y.dtype), tf.TensorSpec((None, None), p.dtype)]
    function = tf.function(lambda y, p: getattr(lb, name)(y, p, **options), input_signature=signature)
    assert_close(function(y, p), exact(name, y_true, y_pred, options))


def test_tensors_without_an_entry_in_every_place_are_a_clear_error(tf):
    ragged, sparse = tf.ragged.constant([[1.0, 2.0], [3.0]]), tf.sparse.from_dense(tf.eye(2))
    for values, kind in ((ragged, "RaggedTensor"), (sparse, "SparseTensor")):
        for y_true, y_pred, argument in ((values, values, "y_pred"), (values, tf.eye(2), "y_true"), (tf.eye(2), values, "y_pred")):
            with pytest.raises(TypeError, match=f"mean_squared_error: {argument} is a {kind}, .*to_tensor.*mask="):
                lb.mse(y_true, y_pred)
            with pytest.raises(TypeError, match=f"mean_squared_error: {argument} is a {kind}, .*to_tensor.*mask="):
                tf.function(lb.mse, autograph=False)(y_true, y_pred)


def test_tensorflow_of_unknown_rank_is_a_clear_error(tf):
    function = tf.function(lb.mse, input_signature=[tf.TensorSpec(None), tf.TensorSpec(None)])
    with pytest.raises(ValueError, match="unknown rank"):
        function(tf.zeros((2, 2)), tf.zeros((2, 2)))


# A label that cannot be looked at


def traced(backend):
    """Ways to call a loss where values cannot be looked at."""
    if backend.name == "torch":
        compiled = backend.module.compile(lambda y, p: lb.scce(y, p), fullgraph=True, backend="aot_eager", dynamic=False)
        return [compiled, backend.module.func.vmap(lb.scce)]
    if backend.name == "jax":
        return [backend.module.jit(lb.scce), backend.module.vmap(lb.scce)]
    return [backend.module.function(lb.scce), backend.module.function(lb.scce, jit_compile=True)]


@pytest.mark.parametrize("labels", [np.array([0, 3, 1, -1]), np.array([0, -100, 1, 2**30]), np.array([0.0, 0.5, 1.0, np.nan], "float32")])
def test_a_bad_label_is_nan_under_tracing(differentiable, labels):
    for call in traced(differentiable):
        values = differentiable.numpy(call(differentiable.tensor(labels), differentiable.tensor(OTHER)))
        assert_close(values[[0, 2]], exact("sparse_categorical_crossentropy", np.array([0, 1]), OTHER[[0, 2]], {}))
        assert np.isnan(values[[1, 3]]).all()


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_a_label_does_not_wrap_into_the_class_to_ignore(differentiable, dtype):
    """The largest number has the bits of −1."""
    if (differentiable.name, dtype) == ("jax", "uint64"):
        return  # there are none outside x64
    labels = differentiable.tensor(np.array([0, np.iinfo(dtype).max, 1], dtype))
    compilers = {
        "torch": lambda f: differentiable.module.compile(f, fullgraph=True, backend="aot_eager"),
        "jax": lambda f: differentiable.module.jit(f),
        "tensorflow": lambda f: differentiable.module.function(f),
    }
    compiled = compilers[differentiable.name](lambda y, p: lb.scce(y, p, ignore_class=-1))
    np.testing.assert_array_equal(np.isnan(differentiable.numpy(compiled(labels, differentiable.tensor(OTHER[:3])))), [False, True, False])


def test_a_bad_label_has_no_plausible_gradient(jax):
    gradient = jax.jit(jax.grad(lambda p, y: lb.scce(y, p).sum()))(jax.numpy.asarray(OTHER), jax.numpy.array([0, 3, 1, 2]))
    assert np.isnan(gradient[1]).all()
    assert np.isfinite(np.delete(gradient, 1, axis=0)).all()


def test_to_categorical_under_tracing(jax):
    rows = jax.jit(lambda y: lb.to_categorical(y, 3))(np.array([0, 3, 2]))
    np.testing.assert_array_equal(rows, [[1, 0, 0], [np.nan] * 3, [0, 0, 1]])
    np.testing.assert_array_equal(jax.jit(lambda y: lb.to_categorical(y, 3, dtype="int32"))(np.array([0, -1])), [[1, 0, 0], [-1, -1, -1]])
    with pytest.raises(ValueError, match="num_classes cannot be counted"):
        jax.jit(lb.to_categorical)(np.array([0, 1]))


# Objects, and options that are traced


def test_objects_inside_compilers(differentiable):
    framework = differentiable.module
    loss = lb.SparseCategoricalCrossentropy(from_logits=True, ignore_class=1)
    kept = IDS != 1
    expected = exact("sparse_categorical_crossentropy", IDS[kept], LOGITS[kept], {"from_logits": True}).mean()
    compilers = {
        "torch": lambda f: framework.compile(f, fullgraph=True, backend="aot_eager"),
        "jax": lambda f: framework.jit(f),
        "tensorflow": lambda f: framework.function(f),
    }
    compiled = compilers[differentiable.name](lambda y, p: loss(y, p))
    assert_close(differentiable.numpy(compiled(differentiable.tensor(IDS), differentiable.tensor(LOGITS))), expected)


def test_all_losses_compile_in_one_process(torch):
    """Dynamo counts recompilations by code object: functions, and classes, each need their own.

    (Handed an object instead of a function, torch puts it into a wrapper of its own, which all objects share: see known_limits.py.)
    """
    torch.compiler.reset()
    y, p = torch.tensor(SHARES), torch.tensor(OTHER)
    for name, function in lb.registry.functions().items():
        y_true = torch.tensor(IDS) if function.definition.sparse else y
        torch.compile(function, fullgraph=True, backend="eager")(y_true, p)
        torch.compile(lb.get(class_of(name)).__call__, fullgraph=True, backend="eager")(y_true, p)


def class_of(name):
    return next(key for key, cls in lb.registry.classes().items() if cls.function.definition.name == name)


def test_a_loss_object_is_a_static_argument_of_jit(jax):
    traces = []

    def total(loss, y, p):
        traces.append(loss)
        return loss(y, p)

    function = jax.jit(total, static_argnums=0)
    for _ in range(3):
        function(lb.Huber(delta=2.0), REAL, LOGITS)
    assert len(traces) == 1


@pytest.mark.parametrize("delta", [0.25, 4.0])
def test_an_option_may_be_traced(jax, delta):
    values = jax.jit(lambda y, p, delta: lb.huber(y, p, delta=delta))(REAL, LOGITS, delta)
    assert_close(values, exact("huber", REAL, LOGITS, {"delta": delta}))
    slope = jax.grad(lambda delta: lb.huber(jax.numpy.zeros(1), jax.numpy.array([5.0]), delta=delta))(delta)
    # d/dδ (½δ² + δ(|e| − δ)) = |e| − δ.
    np.testing.assert_allclose(slope, 5.0 - delta, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own, from inside inductor
def test_a_second_value_of_an_option_in_cpp(torch):
    """Left symbolic, a number that changed would be an old one in a part of the compiled code, from its third value on."""
    compiled = torch.compile(lambda y, p, delta: lb.huber(y, p, delta), fullgraph=True)
    for delta in (0.1, 0.2, 0.4, 0.8):
        assert_close(compiled(torch.tensor(REAL), torch.tensor(LOGITS), delta), exact("huber", REAL, LOGITS, {"delta": delta}))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own, from inside inductor
def test_inductor_on_cpu(torch):
    """The compiler that users get: C++ of three losses that use most of the primitives."""
    for name, y_true, y_pred, options in (CASES[5], CASES[15], CASES[18]):
        compiled = torch.compile(getattr(lb, name), fullgraph=True)
        assert_close(compiled(torch.tensor(y_true), torch.tensor(y_pred), **options), exact(name, y_true, y_pred, options))


# What only a fresh process, a second value or a subclass shows


FIRST_USE = {
    "compile": "print(torch.compile(lambda y, p: lb.mse(y, p) + lb.mae(y, p), fullgraph=True, backend='eager')(y, y).shape)",
    "export": """
class Model(torch.nn.Module):
    def forward(self, y, p):
        return lb.huber(y, p)
batch = torch.export.Dim('batch')
print(torch.export.export(Model(), (y, y), dynamic_shapes={'y': {0: batch}, 'p': {0: batch}}, strict=True).module()(y, y).shape)
""",
}


@pytest.mark.parametrize("way", FIRST_USE)
def test_the_first_call_of_a_process_may_be_a_traced_one(torch, way):
    """The adapter is then loaded while a compiler watches."""
    code = f"import torch, lossbackend as lb\ny = torch.rand(4, 3)\n{FIRST_USE[way]}"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "torch.Size([4])"), done.stderr


def test_a_second_value_of_an_option(torch):
    """Dynamo makes a number that changed symbolic."""
    y, p = torch.tensor(REAL), torch.tensor(LOGITS)
    compiled = torch.compile(lambda y, p, delta: lb.huber(y, p, delta=delta), fullgraph=True, backend="eager")
    for delta in (1.0, 0.5, 0.25):
        assert_close(compiled(y, p, delta), exact("huber", REAL, LOGITS, {"delta": delta}))


def test_an_object_made_inside_a_compiled_function(torch, monkeypatch):
    # As if it were the first of its class. JAX, if it is imported too, is told of it later: Dynamo cannot follow that.
    monkeypatch.setattr("lossbackend.losses.objects._STATIC", set())
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(tree_util=SimpleNamespace(register_static=None)))
    compiled = torch.compile(lambda y, p: lb.Huber(0.25)(y, p), fullgraph=True, backend="eager")
    assert_close(compiled(torch.tensor(REAL), torch.tensor(LOGITS)), exact("huber", REAL, LOGITS, {"delta": 0.25}).mean())


def test_labels_and_masks_that_a_transform_does_not_hold(torch):
    """They are plain tensors, and still cannot be looked at inside grad."""
    labels, mask = torch.tensor(IDS), torch.tensor([True, False, True, True])
    slope = torch.func.grad(lambda p: lb.SparseCategoricalCrossentropy()(labels, p, mask=mask))(torch.tensor(OTHER))
    assert (slope[1] == 0).all()
    assert slope[[0, 2, 3]].isfinite().all()


def test_arrays_and_lists_beside_a_traced_tensor(torch):
    """A compiler follows neither NumPy's conversions nor its looks at values."""
    p, weights, mask = torch.tensor(OTHER), [1.0, 2.0, 0.5, 3.0], [True, False, True, True]
    squares = exact("mean_squared_error", REAL, OTHER, {})
    entropies = exact("sparse_categorical_crossentropy", IDS, OTHER, {})
    counted = np.array(weights) * np.array(mask)
    for convert in (np.asarray, np.ndarray.tolist):
        y_true, ids = convert(REAL), convert(IDS)
        calls = {
            "dense": (lambda p, y=y_true: lb.mse(y, p), squares),
            "predictions": (lambda p, y=y_true: lb.mse(p, y), squares),
            "ids": (lambda p, y=ids: lb.scce(y, p), entropies),
            "weights": (lambda p, y=ids: lb.SparseCategoricalCrossentropy()(y, p, weights, mask), (counted * entropies).sum() / 3),
            "arrays": (lambda p, y=ids: lb.SparseCategoricalCrossentropy()(y, p, np.array(weights), np.array(mask)), (counted * entropies).sum() / 3),
        }
        for call, expected in calls.values():
            assert_close(torch.compile(call, fullgraph=True, backend="eager")(p), expected)


def test_options_that_are_equal_but_not_the_same(jax):
    @lb.loss
    def shifted(ops, y_true, y_pred, by):
        return ops.mean(y_pred - y_true, axis=-1) + (2.0 if by is True else 1.0)

    y = jax.numpy.zeros((1, 2))
    assert [float(shifted(y, y, by)[0]) for by in (1, True, 1.0)] == [1.0, 2.0, 1.0]
