#!/usr/bin/env bash
# The tests in surroundings that are not this machine's: one after another, each on a fresh clone.
#
#     .ci/surroundings.sh [SURROUNDING ...] [-- PYTEST_ARGUMENT ...]
#     make test-surroundings ONLY="nohup narrow" TESTS=tests/client
#
# Without names all of them, which takes as many times as long as the tests do. A clone has what is
# committed, and nothing else; it shares this folder's .venv, but imports its own sources.
# Logs are kept in a temporary folder, which is named at the end.
set -uo pipefail

ALL=(plain one-core busy nohup no-terminal narrow c-locale ascii far-east umask no-home tmpdir
     random-1 random-2 random-3 together)
root=$(cd "$(dirname "$0")/.." && pwd)
asked=()
while (($#)) && [[ $1 != -- ]]; do asked+=("$1"); shift; done
(($#)) && shift
((${#asked[@]})) || asked=("${ALL[@]}")
for name in "${asked[@]}"; do
    [[ " ${ALL[*]} " == *" $name "* ]] || { echo "expected one of ${ALL[*]}, got $name" >&2; exit 2; }
done
python=$(cd "$root" && readlink -f .venv/bin)/python
[[ -x $python ]] || { echo "expected $root/.venv, got none; make test makes it" >&2; exit 2; }

place=$(mktemp -d "${TMPDIR:-/tmp}/surroundings-XXXXXX")
odd="$place/mit Leerzeichen ü"
mkdir "$odd"
first_core=$(taskset -pc $$ | sed 's/.*: *//; s/[-,].*//')
busy=()
trap 'kill "${busy[@]}" 2>/dev/null' EXIT


# Each runs the tests as `"$@"` in the surrounding of its name.
plain() { "$@"; }
one-core() { taskset -c "$first_core" "$@"; }
busy() {
    local ended core
    for core in $(seq "$(nproc)"); do (while :; do :; done) & busy+=($!); done
    "$@"; ended=$?
    kill "${busy[@]}"; wait "${busy[@]}" 2>/dev/null; busy=()
    return $ended
}
nohup() { command nohup "$@" </dev/null; }
no-terminal() { setsid --wait "$@" </dev/null; }
narrow() { COLUMNS=40 LINES=10 "$@"; }
c-locale() { env -u LANG LC_ALL=C "$@"; }
ascii() { PYTHONIOENCODING=ascii "$@"; }
far-east() { TZ=Pacific/Kiritimati "$@"; }
umask() { (builtin umask 077; "$@"); }
no-home() { env -u XDG_CONFIG_HOME -u XDG_STATE_HOME -u XDG_CACHE_HOME HOME=/proc/nobody/home "$@"; }
tmpdir() { TMPDIR=$odd "$@"; }
random-1() { "$@" -p randomly --randomly-seed=1; }
random-2() { "$@" -p randomly --randomly-seed=22; }
random-3() { "$@" -p randomly --randomly-seed=333; }
together() {
    (builtin umask 077
     env -u LANG LC_ALL=C COLUMNS=40 TZ=Pacific/Kiritimati HOME=/proc/nobody/home "TMPDIR=$odd" \
         nohup setsid --wait taskset -c "$first_core" "$@" </dev/null)
}

failed=()
for name in "${asked[@]}"; do
    clone=$place/$name
    git clone --quiet --no-hardlinks "$root" "$clone" || exit 1
    ln -s "$root/.venv" "$clone/.venv"
    began=$SECONDS
    (cd "$clone" || exit 1
     export PYTHONPATH=$clone/protocol/src:$clone/client/src:$clone/server/src:$clone/trainers/src
     "$name" "$python" -m pytest -q --durations=40 "$@") >"$place/$name.log" 2>&1
    ended=$?
    printf '%-12s %-6s %5d s  %s\n' "$name" "$([[ $ended == 0 ]] && echo green || echo red)" \
        $((SECONDS - began)) "$(tail -n 1 "$place/$name.log")"
    if [[ $ended == 0 ]]; then rm -rf "$clone"; else
        failed+=("$name")
        grep -aE '^(FAILED|ERROR)' "$place/$name.log"
    fi
done
echo "logs: $place"
((${#failed[@]} == 0))
