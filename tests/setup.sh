#!/bin/sh
# What the tests need beside Python packages: Node.js with the official JS SDK, the last official
# Python SDK with the old path, and Chromium. Installs each where it may, names it where it may not.
# Without a Python as its argument it leaves the Python SDK for a later call.
set -eu
python=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

may_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

apt_install() {
    if may_install; then
        echo "Installing $* with apt-get" >&2
        # A source that is out of reach must not keep the others from being used.
        apt-get update -qq >/dev/null 2>&1 || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null 2>&1 \
            || echo "apt-get could not install $*; tests that need it are skipped" >&2
    else
        echo "Not found: $*. Install it to run the tests that need it; they are skipped now." >&2
    fi
}

has_browser() {
    for name in chromium-headless-shell chromium chromium-browser google-chrome; do
        ! command -v "$name" >/dev/null || return 0
    done
    return 1
}

command -v node >/dev/null && command -v npm >/dev/null || apt_install nodejs npm
# Chromium without its windows, which Debian has apart, needs a third of the time.
if ! command -v chromium-headless-shell >/dev/null && { may_install || ! has_browser; }; then
    apt_install chromium-headless-shell
fi
has_browser || apt_install chromium

if command -v npm >/dev/null && [ -f "$here/sdk/js/package.json" ] \
    && [ ! -d "$here/sdk/js/node_modules/@elevenlabs/elevenlabs-js" ]; then
    (cd "$here/sdk/js" && npm install --silent --no-audit --no-fund) \
        || echo "npm could not install the JS SDK; its tests are skipped" >&2
fi

if [ -n "$python" ] && [ ! -d "$root/.venv-sdk-old/elevenlabs" ]; then
    "$python" -m pip install --quiet --disable-pip-version-check --target "$root/.venv-sdk-old" \
        'elevenlabs==2.74.1' || echo "pip could not install elevenlabs 2.74.1" >&2
fi
