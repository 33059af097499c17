"""The parts of `benchmarks.serve`: servers as processes, clients, faults, memory."""
