"""The reference paper's study (arXiv 2512.12677) at our scale: ways to classify with one small model, on public data."""
