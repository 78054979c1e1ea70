"""The paper's tables and figures, benchmarks and studies: what makes the files in ``docs/results``."""
