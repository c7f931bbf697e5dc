"""What Menura costs: time, cores and memory. `make bench`."""
