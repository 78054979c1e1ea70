"""MONAI Deploy: ``setup.sh`` makes its environment, ``app.py`` is an application, ``check_deploy.py`` compares."""
