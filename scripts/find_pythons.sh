#!/bin/sh
# Find the Pythons >= 3.11 on this machine that really run, and can make a virtual environment.
#
#   scripts/find_pythons.sh          one line per minor version, newest first: "3.13.0 /path/to/python"
#   scripts/find_pythons.sh --best   only the path of the newest
#
# Every candidate is run before it is believed: a version manager's shim may be on PATH and still fail, so the managers'
# own folders are looked into as well. Of each minor version the newest patch is kept, final releases before previews.
# Written for plain sh, because this runs before any Python is known to work.
set -u

minors="15 14 13 12 11"
home=${HOME:-/nonexistent}

probe='
import sys, sysconfig
wanted = sys.version_info >= (3, 11) and sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
if wanted:
    missing = []
    for name in ("venv", "ensurepip", "sqlite3"):
        try:
            module = __import__(name)
            if name == "ensurepip":
                module.version()  # Debian may leave the module and take away the wheels it installs
        except Exception:
            missing.append(name)
    v = sys.version_info
    # The interpreter itself, not the shim or the virtual environment through which it was reached.
    path = getattr(sys, "_base_executable", "") or sys.executable
    print(v.major, v.minor, v.micro, int(v.releaselevel == "final"), ",".join(missing) or "-", path)
'

candidates() {
    for minor in $minors; do command -v "python3.$minor"; done
    command -v python3
    command -v python
    for minor in $minors; do
        for python in \
            /usr/bin/python3."$minor" /usr/local/bin/python3."$minor" /opt/homebrew/bin/python3."$minor" \
            "${PYENV_ROOT:-$home/.pyenv}"/versions/3."$minor".*/bin/python \
            "${UV_PYTHON_INSTALL_DIR:-$home/.local/share/uv/python}"/cpython-3."$minor".*/bin/python3 \
            "${ASDF_DATA_DIR:-$home/.asdf}"/installs/python/3."$minor".*/bin/python \
            "${MISE_DATA_DIR:-$home/.local/share/mise}"/installs/python/3."$minor".*/bin/python
        do
            [ -x "$python" ] && echo "$python"
        done
    done
}

# One line per interpreter that runs: major minor micro final missing path
found=$(candidates | awk '!seen[$0]++' | while IFS= read -r python; do "$python" -c "$probe" </dev/null 2>/dev/null; done |
    awk '!seen[$0]++' | sort -s -k2,2nr -k4,4nr -k3,3nr)
usable=$(printf '%s\n' "$found" | awk '$5 == "-" && !seen[$2]++')

if [ -z "$usable" ]; then
    if [ -z "$found" ]; then
        {
            echo "Beamish needs Python 3.11 or newer, and none was found that runs."
            echo "Looked on PATH (python3.11 to python3.15, python3, python) and in the folders of pyenv, uv, asdf and mise."
            echo "Debian, Ubuntu:  apt-get install python3 python3-venv     (where that is 3.11 or newer)"
            echo "pyenv:           pyenv install 3.13        uv: uv python install 3.13        macOS: brew install python"
            echo "Or name one:     make PYTHON=/path/to/python3.13 setup"
        } >&2
        exit 1
    fi
    echo "Beamish found Python, but not one that can make a virtual environment:" >&2
    printf '%s\n' "$found" | while read -r major minor micro _final missing path; do
        echo "  $path ($major.$minor.$micro) has no $missing" >&2
        case $missing in
            *venv*|*ensurepip*) echo "    Debian keeps it in a package of its own:  apt-get install python$major.$minor-venv" >&2 ;;
            *) echo "    It was built without SQLite: install libsqlite3-dev and build it again, or use another Python." >&2 ;;
        esac
    done
    exit 1
fi

case ${1:-} in
    --best) # the newest final release; a preview only if there is nothing else
        printf '%s\n' "$usable" | sort -s -k4,4nr -k2,2nr | head -n 1 | cut -d ' ' -f 6- ;;
    "") printf '%s\n' "$usable" | while read -r major minor micro _final _missing path; do echo "$major.$minor.$micro $path"; done ;;
    *) echo "usage: find_pythons.sh [--best]" >&2; exit 2 ;;
esac
