#!/bin/sh
# Make the environment of MONAI Label 0.8.5 (of 2024) with this project: sh scripts/hospital/monai_label/setup.sh <folder>
#
# It needs versions of its own: pydicom 2, numpy 1, and MONAI 1.5. From 1.6.0 on Spacingd stumbles over the key
# `image_path` that MONAI Label puts into every item. This project asks for MONAI 1.6 and numpy 2 and goes in without its
# requirements; check_label.py shows that it does the same there. sam2, which serves other models, ninja and MONAI's
# extras that nothing here uses are left out.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python3 -m venv "$1"
pip="$1/bin/python -m pip install --no-cache-dir"
$pip torch==2.14.1 torchvision==0.29.1 numpy==1.26.4
$pip -r "$root/scripts/hospital/monai_label/requirements.txt"
$pip --no-deps monailabel==0.8.5 "$root"
