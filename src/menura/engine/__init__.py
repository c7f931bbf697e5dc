"""Voice conversion engines: samples in, samples out. Knows no HTTP and no database."""
