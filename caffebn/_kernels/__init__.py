"""Compiled kernels: one package per instruction-set level, chosen by `caffebn.ops.level`.

``base``, ``v3`` and ``v4`` hold the same modules, one for each ``pyx/<family>.pyx``, compiled for
x86-64-v2, x86-64-v3 and x86-64-v4; on other architectures only ``base`` is filled.
``cpuid`` tells what the processor can do, ``wire`` reads the binary form of messages, ``shared`` holds what
all compiled modules have in common.
"""
