#!/usr/bin/busybox sh
# The first program inside: makes the machine one that tests can run on, runs them, says how they went, and powers off.
# Every line for the host begins with `moxie-vm:`.
export PATH=/usr/sbin:/usr/bin:/usr/local/bin HOME=/root TMPDIR=/tmp LANG=C.UTF-8 MOXIE_BIN=/moxie/moxie
# What is skipped inside has failed; and what is emulated takes its time.
export CI=true MOXIE_TEST_PATIENCE=10

fail() { # what was refused; the machine ends here
    echo "moxie-vm: broken $1"
    busybox poweroff -f
}

mount -t devtmpfs none /dev || fail "no /dev"
exec </dev/null >/dev/console 2>&1
# The file system is in memory already, so /tmp and /run need nothing.
mount -t proc none /proc || fail "no /proc"
mount -t sysfs none /sys || fail "no /sys"
mount -t cgroup2 none /sys/fs/cgroup || fail "no cgroup2"
mount -t bpf none /sys/fs/bpf || fail "no bpffs"
ip link set lo up || fail "no loopback"
echo "moxie-vm: booted $(busybox uname -r)"

while read -r name bound command; do
    echo "moxie-vm: begin $name"
    begun=$(busybox date +%s)
    # Nobody is in the root cgroup on a host with systemd.
    mkdir -p "/sys/fs/cgroup/tests-$name"
    # shellcheck disable=SC2086
    (echo 0 >"/sys/fs/cgroup/tests-$name/cgroup.procs"; exec timeout -k 10 "$bound" $command </dev/null)
    code=$?
    echo "moxie-vm: end $name $code $(($(busybox date +%s) - begun))"
done </moxie/steps

# What the kernel itself complained of is a finding, whatever the tests say.
dmesg | busybox grep -E -A 30 'WARNING:|BUG:|Oops|general protection' && echo "moxie-vm: kernel complained"
echo "moxie-vm: done"
busybox poweroff -f
