"""Checks of the routes into a hospital: DICOM files, a PACS, MONAI Label and MONAI Deploy."""
