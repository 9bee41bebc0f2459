"""How well maps localize anomalies.

``metric`` and ``images`` hold the ``Metric`` classes. Below them ``curves``, ``region_overlap`` and
``bootstrap`` turn counts into numbers; ``counts``, ``anomalous`` and ``units`` count; ``inputs``
says what is counted.
"""
