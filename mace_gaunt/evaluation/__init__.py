"""Errors of a potential on data splits: metrics, tables, plots, report."""
