"""What Menura costs: time, cores and memory. `make bench`."""

# Before numpy: it sets how many threads BLAS takes, and what is measured is one.
import menura  # noqa: F401
