"""The commands of ``python -m sizeloss_monai``, one module each.

A module has ``add(commands)``, which adds its sub-parser with ``set_defaults(run=...)``, and the function that does the
work: it takes the parsed arguments, may give an exit code (``None`` is 0), and imports what it needs itself, so that
``--help`` answers at once.
"""
