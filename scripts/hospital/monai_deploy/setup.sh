#!/bin/sh
# Make the environment of the MONAI Deploy App SDK 4.0 with this project: sh scripts/hospital/monai_deploy/setup.sh <folder>
#
# Version 4.0 of the SDK says that it goes with Holoscan up to 4.2. Without a GPU it runs on the CPU; PyPI's torch is a
# CUDA build, give PIP_INDEX_URL or PIP_FIND_LINKS for another.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python3 -m venv "$1"
pip="$1/bin/python -m pip install --no-cache-dir"
$pip torch==2.13.0
$pip monai==1.6.1 monai-deploy-app-sdk==4.0.0 holoscan-cu13==4.2.0 holoscan-cli==4.2.0 "$root[dicom]"
