"""MONAI Label: ``setup.sh`` makes its environment, ``check_label.py`` serves a bundle by it and compares."""
