#!/bin/sh
# Installs mmpose 1.3.2 without chumpy, which it requires, which no longer installs, and which nothing here uses.
# Usage: sh tools/install_mmpose.sh [PYTHON]
set -e
python=${1:-python3}

"$python" -m pip install json-tricks munkres cython setuptools wheel
"$python" -m pip install --no-deps mmpose==1.3.2
# The wheels of xtcocotools were built for numpy 1 and end at Python 3.11, so it is built here, from sources that newer
# Pythons can build. Without a compiler there is numpy 1 and the wheel, where both are ready-made.
source=$("$python" "$(dirname "$0")/mended_xtcocotools.py")
if ! "$python" -m pip install --no-deps --no-build-isolation "$source"; then
    echo "no C compiler for xtcocotools: taking its wheel, and numpy 1 with it"
    "$python" -m pip install --only-binary :all: --no-deps xtcocotools || {
        echo "error: there is no wheel of xtcocotools for this Python: install a C compiler and Python's headers" \
            "(Debian: gcc and python3-dev), or use Python 3.10 or 3.11" >&2
        exit 1
    }
    "$python" -m pip install --only-binary numpy,opencv-python "numpy<2" "opencv-python<4.12"
fi
rm -rf "$(dirname "$source")"
"$python" -c "import mmpose.evaluation"
