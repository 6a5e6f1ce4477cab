"""``lossbackend parity``: every loss on every backend, against its exact value and against the other backends.

cases.py says what is computed, measure.py computes and compares, stability.py looks for the inputs at which a formula itself goes wrong, and
report.py shows what was found.
"""
