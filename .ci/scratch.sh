#!/bin/sh
# Prints the folder under which the tests keep their files: one in memory where there is one with
# room from which programs can be started, since a store syncs with every write and a disk takes
# milliseconds for that. Whoever sets TMPDIR has chosen.
memory=/dev/shm
needed_kib=2097152
if [ -n "${TMPDIR:-}" ]; then echo "$TMPDIR"; exit; fi
probe=$memory/hyperoracle-probe-$$
if [ -w "$memory" ] && [ "$(df -Pk "$memory" | awk 'NR == 2 {print $4}')" -ge "$needed_kib" ] &&
    printf '#!/bin/sh\n' >"$probe" && chmod +x "$probe" && "$probe" 2>/dev/null; then
    echo "$memory"
else
    echo /tmp
fi
rm -f "$probe"
