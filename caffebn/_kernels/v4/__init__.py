"""Kernels for x86-64-v4: AVX-512 F, BW, CD, DQ and VL, 512-bit vectors."""
