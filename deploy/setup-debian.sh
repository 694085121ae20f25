#!/bin/sh
# Install the Debian packages that a list in this folder names and that are missing:
#     deploy/setup-debian.sh [LIST]      debian-packages.txt unless another one is named
# As root or with sudo that asks nothing it installs them; otherwise it names them and stops with 1.
set -eu
list="$(dirname "$0")/${1:-debian-packages.txt}"
missing=""
for package in $(grep -v '^#' "$list"); do
    state="$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)"
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "setup: these Debian packages are missing; install them as root, then run make again:" >&2
    echo "    apt-get install$missing" >&2
    exit 1
fi
echo "setup: installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# Tests start engines and registries of their own: what is installed must not start the machine's.
policy=/usr/sbin/policy-rc.d
if ! [ -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get update -q
# shellcheck disable=SC2086 # one word a package is what is wanted
$as_root apt-get install -y -q --no-install-recommends $missing
