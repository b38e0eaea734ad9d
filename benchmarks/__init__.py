"""Side-by-side measurements of minigrad and its peers: ``python -m benchmarks``."""
