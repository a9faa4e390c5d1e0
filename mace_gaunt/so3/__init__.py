"""Rotation-group tools: layout, harmonics, quadrature and coupling coefficients."""
