#!/bin/bash
# Becomes systemd, PID 1 of new namespaces, over a throw-away layer above this very root: no image, nothing to install.
# usage: unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child boot.sh FOLDER [SOURCE:TARGET]...
# What is written there goes into memory, and is gone with the last process. Each SOURCE shows, read-only, as TARGET.
set -euo pipefail
folder=$1; shift

mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"

mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do
  : > "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${stream%%:*}" "dev/${stream#*:}"; done

# Empty: nothing that this machine has enabled starts there.
for path in run tmp etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$path"; done
chmod 1777 tmp

for pair in "$@"; do
  mkdir -p "./${pair#*:}"
  mount --bind -o ro "${pair%%:*}" "./${pair#*:}"
done

python3 - <<'PYTHON'
import fcntl, socket, struct
with socket.socket() as made:  # the loopback interface, up
    fcntl.ioctl(made, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x8 | 0x40))
PYTHON

mkdir -p .old
pivot_root . .old
umount --lazy /.old
cd /
mount --make-rshared /  # else credentials and private folders of units are empty
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set -sys_module,-sys_rawio,-sys_time,-syslog --inh-caps -all \
  /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=0
