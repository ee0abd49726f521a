"""Many servers under load while they are made to crash at random: what is lost, what hangs, what grows. `python -m benchmarks.soak`."""
