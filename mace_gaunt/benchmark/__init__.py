"""Benchmarks of the operations: what a tensor product costs, and what it can express. Behind `mace-gaunt benchmark`."""
