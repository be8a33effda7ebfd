# Sourced by .ci/postgres and .ci/redis: a server from Debian's packages that is there for one command, and gone after.
set -euo pipefail

die() {
    echo ".ci/${0##*/}: $*" >&2
    exit 1
}

install_server() { # PRODUCT PACKAGE
    local product=$1 package=$2
    command -v apt-get >/dev/null || die "there is neither $product nor apt-get here. Install $product's server."
    [[ $EUID -eq 0 ]] || die "$product is not installed, and only root may. Do: sudo apt-get install $package"
    echo "Installing $product …" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -qq --yes "$package" >&2 || die "apt-get could not install $package"
}

make_directory() { # `directory`, until the end; before it is removed, `stop` is called, which the caller defines
    # Not in TMPDIR: the path of a socket has at most 107 bytes.
    directory=$(mktemp --directory "/tmp/airflow-chat-${0##*/}-XXXXXX")
    # Bash runs a trap when the command in the foreground has ended, so the server outlives what uses it.
    trap 'stop || true; rm -rf "$directory"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}
