#!/bin/sh
# Puts Moxie in place on a host that has no package for it, and takes it away again. As root: install.sh [install|remove|purge]
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
UNIT=moxie.service
BIN=/usr/local/bin/moxie
LIB=/usr/local/lib
SHARE=/usr/local/share

has_systemd() {
    [ -d /run/systemd/system ]
}

main_pid() {
    systemctl show --value --property MainPID "$UNIT"
}

put() {
    install -D -m "$1" "$2" "$3"
}

# The running agent starts the new version beside itself, and ends once that one has taken over.
hand_over() {
    before=$(main_pid)
    systemctl reload "$UNIT" || return 0
    for _ in $(seq 100); do
        if [ "$(main_pid)" != "$before" ]; then
            return 0
        fi
        sleep 0.2
    done
    echo "the version that ran before goes on; why: journalctl -u $UNIT; at once, with a gap: systemctl restart $UNIT" >&2
}

put_in_place() {
    if [ -e /usr/bin/moxie ]; then
        echo "a package of Moxie is installed here; upgrade that one, or remove it first" >&2
        exit 1
    fi
    # Beside it and then over it: the program may be running.
    put 755 "$HERE/moxie" "$BIN.new"
    mv -f "$BIN.new" "$BIN"
    mkdir -p "$LIB/systemd/system"
    sed "s#/usr/bin/moxie#$BIN#" "$HERE/systemd/$UNIT" >"$LIB/systemd/system/$UNIT"
    put 644 "$HERE/systemd/moxie.sysusers.conf" "$LIB/sysusers.d/moxie.conf"
    put 644 "$HERE/systemd/moxie.tmpfiles.conf" "$LIB/tmpfiles.d/moxie.conf"
    put 644 "$HERE/moxie.1.gz" "$SHARE/man/man1/moxie.1.gz"
    put 644 "$HERE/completions/moxie.bash" "$SHARE/bash-completion/completions/moxie"
    put 644 "$HERE/completions/_moxie" "$SHARE/zsh/site-functions/_moxie"
    put 644 "$HERE/completions/moxie.fish" "$SHARE/fish/vendor_completions.d/moxie.fish"
    if [ ! -e /etc/moxie/moxie.toml ]; then
        put 644 "$HERE/moxie.toml" /etc/moxie/moxie.toml
    fi
    if ! has_systemd; then
        echo "systemd does not run here: start it by hand: MOXIE_ENVIRONMENT=dev moxie agent"
        return
    fi
    systemd-sysusers moxie.conf
    systemd-tmpfiles --create moxie.conf
    systemctl daemon-reload
    systemctl --quiet enable "$UNIT"
    if systemctl --quiet is-active "$UNIT"; then
        hand_over
        return
    fi
    systemctl start "$UNIT" || true
    if ! systemctl --quiet is-active "$UNIT"; then
        echo "installed, not started. Name the environment of this host, then start it:"
        echo "  echo MOXIE_ENVIRONMENT=dev >> /etc/moxie/moxie.env && systemctl start $UNIT"
    fi
}

take_away() {
    if [ -x "$BIN" ]; then
        # Nobody is left to answer for the authority, and what points at its files would fail without them.
        "$BIN" ca uninstall --all >/dev/null || true
    fi
    if has_systemd && [ -e "$LIB/systemd/system/$UNIT" ]; then
        systemctl --quiet disable --now "$UNIT" || true
    fi
    rm -f "$BIN" "$LIB/systemd/system/$UNIT" "$LIB/sysusers.d/moxie.conf" "$LIB/tmpfiles.d/moxie.conf" \
        "$SHARE/man/man1/moxie.1.gz" "$SHARE/bash-completion/completions/moxie" \
        "$SHARE/zsh/site-functions/_moxie" "$SHARE/fish/vendor_completions.d/moxie.fish"
    # Directories that were made for these files alone.
    (cd "$LIB" && rmdir -p systemd/system sysusers.d tmpfiles.d 2>/dev/null) || true
    (cd "$SHARE" && rmdir -p bash-completion/completions zsh/site-functions fish/vendor_completions.d 2>/dev/null) || true
    rmdir "$SHARE/man/man1" 2>/dev/null || true
    rm -rf /run/moxie
    if has_systemd; then
        systemctl daemon-reload
    fi
}

case "${1:-install}" in
    install) put_in_place ;;
    remove) take_away ;;
    purge)
        take_away
        rm -rf /etc/moxie /var/lib/moxie
        if getent group moxie | grep -q ':$'; then
            groupdel moxie
        fi
        ;;
    *)
        echo "usage: $0 [install|remove|purge]" >&2
        exit 2
        ;;
esac
