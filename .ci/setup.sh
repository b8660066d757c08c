# SPDX-License-Identifier: Apache-2.0
# Sourced by quickstart and check: installs the packages that are missing, as root or through sudo.

# setup_packages KIND...: kinds as in .ci/packages. Quiet unless something has to be installed.
setup_packages() {
    local want=() missing=() kind name program root=()
    while read -r kind name program; do
        [ -n "$program" ] && command -v "$program" >/dev/null && continue
        case " $* " in *" $kind "*) want+=("$name") ;; esac
    done < <(grep -v '^#' "$here/.ci/packages")
    for name in "${want[@]}"; do
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || {
            echo "These packages are missing and neither root nor sudo is at hand: ${missing[*]}" >&2
            return 1
        }
        root=(sudo)
    fi
    echo "Installing ${#missing[@]} packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local log
    log=$(mktemp)
    if ! { "${root[@]}" apt-get -q update && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        echo "apt-get could not install the packages; its whole output is in $log" >&2
        return 1
    fi
    rm -f "$log"
}

# build_preset PRESET [TARGET...]: configures when needed and builds; prints its output only when it fails.
build_preset() {
    local preset=$1 log="$here/build/$1.log"
    shift
    mkdir -p "$here/build"
    if ! (cd "$here" && cmake --preset "$preset" >"$log" 2>&1 &&
        cmake --build --preset "$preset" ${1:+--target "$@"} >>"$log" 2>&1); then
        tail -n 40 "$log" >&2
        echo "The build failed; its whole output is in $log" >&2
        return 1
    fi
}
