"""Kernels for x86-64-v3: AVX2 and FMA, 256-bit vectors."""
