"""Benchmarks of caffebn: one file per kernel family, and nets, loading and imports."""
