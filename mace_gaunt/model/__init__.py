"""The potential: from edge vectors to energies, forces and stress."""
