"""Tools for bundles and data: generate and package bundles, write phantoms, score masks, the demo."""
