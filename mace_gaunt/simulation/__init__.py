"""Running a potential through ASE: calculator, molecular dynamics, reading structures."""
