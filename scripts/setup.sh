#!/usr/bin/env bash
# Set up the project in .venv: system libraries, virtual environment, Python packages.
#
#   scripts/setup.sh run   what `make demo` needs
#   scripts/setup.sh dev   the same, and what `make test` and training need
#
# Safe to repeat: a finished set-up is recognised by its stamp and costs no time. The interpreter
# can be chosen with PYTHON=/path/to/python3.12; another folder than .venv with VENV=...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile="${1:-run}"
venv="${VENV:-.venv}"
case "$profile" in
run) extras="cpu" ;;
dev) extras="cpu,train,check,music2latent,dev" ;;
*)
    echo "setup: unknown profile '$profile'. Use run or dev." >&2
    exit 2
    ;;
esac
if [ -f gui/__main__.py ]; then extras="$extras,gui"; fi

say() { echo "setup: $*" >&2; }

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
        if is_supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

# Whether a Python can load one of some libraries: fluidsynth to render, portaudio to play.
has_library() {
    "$1" - "${@:2}" >/dev/null 2>&1 <<'PY'
import ctypes, ctypes.util, sys
for name in sys.argv[1:]:
    try:
        found = name if "." in name else ctypes.util.find_library(name)
        if found:
            ctypes.CDLL(found)
            sys.exit(0)
    except OSError:
        pass
sys.exit(1)
PY
}
has_fluidsynth() { has_library "$1" libfluidsynth.so.3 libfluidsynth.so.2 libfluidsynth.3.dylib fluidsynth; }
has_portaudio() {
    # The wheels of macOS bring their own.
    [ "$(uname)" = Darwin ] || has_library "$1" libportaudio.so.2 portaudio
}
# What only the tests need: JACK plays and records without a sound card, Qt needs these to show a window.
has_test_programs() {
    [ "$profile" != dev ] || { command -v jackd >/dev/null && { [ ! -f gui/__main__.py ] || has_qt_libraries "$1"; }; }
}
has_qt_libraries() { has_library "$1" libEGL.so.1 && has_library "$1" libxkbcommon.so.0 && has_library "$1" libdbus-1.so.3; }

install_packages() {
    local line="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        say "these are missing: $*. Install them with your package manager (macOS: brew install fluid-synth)"
        say "and run the same command again."
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        say "installing $*"
        apt-get update -q </dev/null >&2
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive $line -q </dev/null >&2
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        say "installing $* (sudo)"
        sudo -n apt-get update -q </dev/null >&2
        # shellcheck disable=SC2086
        sudo -n DEBIAN_FRONTEND=noninteractive $line -q </dev/null >&2
    else
        say "these system packages are missing: $*. Run this line, then the same command again:"
        say "    sudo apt-get update && sudo $line"
        exit 1
    fi
}

# A finished set-up: same recipe, interpreter still there, system library still there. The larger
# profile holds the smaller one.
recipe="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum | tr ' ' '-')-$([ -f gui/__main__.py ] && echo gui || echo cli)"
for done in "$venv/.setup-$profile" "$venv/.setup-dev"; do
    if [ -f "$done" ] && [ "$(cat "$done")" = "$recipe" ] && [ -x "$venv/bin/python" ] \
        && has_fluidsynth "$venv/bin/python" && has_portaudio "$venv/bin/python" \
        && has_test_programs "$venv/bin/python"; then
        exit 0
    fi
done

python="$(find_python)"
missing=()
if [ -z "$python" ]; then
    if command -v python3 >/dev/null && ! is_supported python3; then
        say "Python 3.11 or 3.12 is needed; python3 here is $(python3 -c 'import platform; print(platform.python_version())')."
        say "Install one of them (Debian 12 and Ubuntu 24.04 have it as python3) and set PYTHON=python3.12, say."
        exit 1
    fi
    missing+=(python3 python3-venv)
elif ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    case "$python" in
    /usr/bin/python3) missing+=(python3-venv) ;;
    *) missing+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv") ;;
    esac
fi
probe="${python:-python3}"
if ! command -v "$probe" >/dev/null || ! has_fluidsynth "$probe"; then missing+=(libfluidsynth3); fi
if ! command -v "$probe" >/dev/null || ! has_portaudio "$probe"; then missing+=(libportaudio2); fi
if [ "$profile" = dev ] && ! command -v jackd >/dev/null; then missing+=(jackd2); fi
if [ -f gui/__main__.py ] && { ! command -v "$probe" >/dev/null || ! has_qt_libraries "$probe"; }; then
    missing+=(libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-shape0 libdbus-1-3)
    missing+=(fonts-dejavu-core)
fi
if [ "${#missing[@]}" -gt 0 ]; then
    install_packages "${missing[@]}"
    python="$(find_python)"
    if [ -z "$python" ]; then
        say "Python 3.11 or 3.12 is needed, and this system's python3 is another version."
        say "Install one and name it: PYTHON=/path/to/python3.12 make demo"
        exit 1
    fi
fi

if ! is_supported "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
say "installing Python packages into $venv [$extras] (minutes the first time)"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input -q \
    -c constraints.txt -e ".[$extras]" </dev/null >&2
if [ "$profile" = dev ]; then
    # Its own list of requirements holds many that transcribing does not need, and no build of some for this torch.
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -q \
        -c constraints.txt --no-deps transkun==2.0.1 </dev/null >&2
fi
echo "$recipe" >"$venv/.setup-$profile"
say "ready"
