"""Kernels: ways to compute a family. They hold non-persistent buffers only."""
