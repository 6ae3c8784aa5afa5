#!/bin/sh
# Installs mmpose 1.3.2 without chumpy, which it requires, which no longer installs, and which nothing here uses.
# Usage: sh tools/install_mmpose.sh [PYTHON]
set -e
python=${1:-python3}

"$python" -m pip install json-tricks munkres cython setuptools wheel
"$python" -m pip install --no-deps mmpose==1.3.2
# The wheels of xtcocotools were built for numpy 1, so it is built here; without a compiler, numpy 1 and the wheel.
if ! "$python" -m pip install --no-deps --no-build-isolation --no-binary xtcocotools xtcocotools; then
    echo "no C compiler for xtcocotools: taking its wheel, and numpy 1 with it"
    "$python" -m pip install "numpy<2" "opencv-python<4.12"
    "$python" -m pip install --no-deps xtcocotools
fi
"$python" -c "import mmpose.evaluation"
