"""Whole iterations of a solver: forward, backward, update, and what the loop adds."""

from __future__ import annotations

from .common import BACKENDS, THREADS, Backend, random
from .net import perceptron, select


class Step:
    """The perceptron under a cheap and an expensive rule."""

    params = [["SGD", "Adam"], THREADS, BACKENDS]
    param_names = ["type", "threads", "backend"]

    def setup(self, kind, threads, backend):
        self.backend = Backend(backend, threads)
        import caffebn
        from caffebn.proto import text

        select(backend)
        p = text.parse(
            f'type: "{kind}" base_lr: 1e-3 lr_policy: "fixed" momentum: 0.9 weight_decay: 5e-4',
            "SolverParameter",
        )
        p.net_param = text.parse(perceptron(60, train=True))
        self.solver = caffebn.get_solver(p)
        data = self.solver.net.blobs["data"]
        data.data[...] = random(data.data.shape)
        self.solver.step(1)

    def time_step(self, *_):
        self.solver.step(10)
        self.backend.wait()
