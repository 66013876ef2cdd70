"""One module per kind of measurement; each has a function that runs it and returns a `bench.results.Table`."""
