"""How much memory two steps of training ResNet-50 add to a fresh process.

    python asv_bench/peak_memory.py caffebn 16 2     # program (caffebn, caffebn-recompute, torch), batch, threads

The number is the highest resident size of the process, minus that after the imports.  PyTorch gets its weights from
a net of caffebn, which is thrown away before the training begins.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
from benchmarks.net import resnet50

import caffebn
from caffebn.proto import text


def peak() -> float:
    """Megabytes that were resident at most."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not on Linux, where the number below would be that of the parent when it is higher
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6


def main(program: str, batch: int, threads: int) -> None:
    caffebn.set_num_threads(threads)
    rng = np.random.default_rng(1701)
    data = rng.standard_normal((batch, 3, 224, 224), dtype=np.float32)
    label = rng.integers(10, size=batch)
    definition = text.parse(resnet50(batch, train=True), "NetParameter")
    if program != "torch":
        baseline = peak()
        p = text.parse('base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 1e-4', "SolverParameter")
        p.net_param = definition
        solver = caffebn.get_solver(p, keep=[], recompute=program == "caffebn-recompute")
        solver.net.blobs["data"].data[...] = data
        solver.net.blobs["label"].data[...] = label
        solver.step(2)
    else:
        import torch
        import twins

        torch.set_num_threads(threads)
        baseline = peak()
        small = caffebn.Net(text.parse(resnet50(1, train=True), "NetParameter"), caffebn.TRAIN)
        step = twins.torch_trainer(small, data, label, rate=0.01, momentum=0.9, decay=1e-4)
        del small
        step()
        step()
    print(json.dumps({"megabytes": peak() - baseline}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
