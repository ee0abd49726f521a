#!/bin/sh
# Make the virtual environment $1, with the Python $2 or the newest that runs; keep it if it is there and works.
set -eu
venv=$1
python=${2:-}

if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    # A named Python is a wish about what the environment is, not only about how it is made.
    version='import sys; print(sys.version_info[:3])'
    if [ -z "$python" ] || [ "$("$python" -c "$version")" = "$("$venv/bin/python" -c "$version")" ]; then
        exit 0
    fi
fi
[ -n "$python" ] || python=$(sh "$(dirname "$0")/find_pythons.sh" --best)
echo "Making $venv with $python"
"$python" -m venv --clear "$venv"
