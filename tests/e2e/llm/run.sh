#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh FOLDER PROGRAM: starts the mock server from the npm registry and runs PROGRAM against it. What is downloaded
# stays in FOLDER. Exit status 77, a skip, where npm or the registry cannot be reached.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
program=$2

skip() {
    echo "SKIPPED: $*"
    [ -z "${KS_REQUIRE_MOCK:-}" ] || exit 1
    exit 77
}
field() { sed -n 's|.*"'"$1"'": "\([^"]*\)".*|\1|p' "$here/package.json"; }
major() { "$1" --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/'; }
# install WHERE PACKAGE@VERSION: npm asks the registry that the machine is set up for.
install() {
    mkdir -p "$1"
    timeout 240 npm install --prefix "$1" --no-audit --no-fund --no-package-lock --no-save --loglevel=error \
        --fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 "$2" >"$1/npm.log" \
        2>&1 </dev/null || {
        tail -n 5 "$1/npm.log"
        rm -rf "$1/node_modules"
        return 1
    }
}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
exec 9>"$folder/lock"
flock 9
command -v npm >/dev/null || skip "npm is not installed, so the mock server cannot be fetched"

node=$(command -v node || true)
least=$(field node_at_least)
if [ -z "$node" ] || [ "$(major "$node")" -lt "$least" ]; then
    version=$(field node)
    node=$folder/node-$version/node_modules/node/bin/node
    [ "$(major "$node" || true)" ] || install "$folder/node-$version" "node@$version" ||
        skip "node $least or later is not installed, and npm could not fetch node $version"
fi

version=$(field @copilotkit/aimock)
mock=$folder/aimock-$version
[ -e "$mock/node_modules/@copilotkit/aimock/package.json" ] || install "$mock" "@copilotkit/aimock@$version" ||
    skip "npm could not fetch @copilotkit/aimock $version"
flock -u 9

# The script stands beside what it imports. It ends with its stdin, so also when this shell is killed.
cp "$here/mock.mjs" "$mock/mock.mjs"
coproc server { exec "$node" "$mock/mock.mjs" 2>&1; }
read -r -t 60 url <&"${server[0]}" || { echo "the mock server did not start"; exit 1; }
case $url in
http://*) ;;
*) echo "the mock server did not start: $url"; cat <&"${server[0]}"; exit 1 ;;
esac
status=0
KS_MOCK_URL=$url "$program" || status=$?
kill "$server_PID" 2>/dev/null || true
exit "$status"
