# Decides whether an etcd member may start with the volume it was given, before etcd sees the volume.
#
# etcd itself accepts an empty volume under an old identity whenever none of its peers answers at that moment, and then
# acknowledged writes can be lost. So the right to begin with an empty volume is not derived from what can be reached
# now: the operator grants it in a Secret, once, and takes it back for ever when the cluster has been formed. Whether a
# volume is empty is judged as etcd judges it: by the write-ahead log.
#
# Environment, all of it made by the operator or the kubelet: POD_NAME, DATA_DIR, TENANT_UID, PERMIT_BOOTSTRAPPED
# (true, false) and for each ordinal PERMIT_MEMBER_<i> ("new", "existing", either with the UID of a former tenant whose
# volume is adopted, or absent). Constant: nothing is ever interpolated into this text.
#
# A refusal is one line, "Reason: message", on standard error, from where the kubelet puts it into the pod's status.
set -eu
umask 077

marker=$DATA_DIR/.hosted-cp-tenant
claim="volume claim etcd-data-$POD_NAME"

refuse() {
    echo "$1: $2" >&2
    exit 1
}

# True if etcd would go on from what is on the volume, false if it would begin anew.
has_data() {
    for file in "$DATA_DIR"/member/wal/*.wal; do
        if [ -e "$file" ]; then return 0; fi
    done
    return 1
}

names_the_member() {
    tr -c ' -~' '\n' | grep -q -F "https://$POD_NAME."
}

# True if etcd was killed between making its log and writing the first entries to it: it would wait for ever for a leader
# of a cluster without members. The first entries of every log name the members, and logs that have moved on have other
# files or a snapshot, so a log that is unformed has never held anything, whatever the permit says. Only a clear answer
# counts: the log can be read, the search is shown to work, and it finds nothing.
is_unformed() {
    first=$DATA_DIR/member/wal/0000000000000000-0000000000000000.wal
    for file in "$DATA_DIR"/member/wal/*.wal "$DATA_DIR"/member/snap/*.snap; do
        if [ -e "$file" ] && [ "$file" != "$first" ]; then return 1; fi
    done
    head -c 65536 "$first" >/dev/null || return 1
    printf '\0\001{"https://%s.x"\0' "$POD_NAME" | names_the_member || return 1
    found=0
    head -c 65536 "$first" | names_the_member || found=$?
    [ "$found" -eq 1 ]
}

case ${POD_NAME##*-} in
    0) permit=${PERMIT_MEMBER_0-} ;;
    1) permit=${PERMIT_MEMBER_1-} ;;
    2) permit=${PERMIT_MEMBER_2-} ;;
    3) permit=${PERMIT_MEMBER_3-} ;;
    4) permit=${PERMIT_MEMBER_4-} ;;
    *) permit= ;;
esac
grant=${permit%% *}
former=${permit#"$grant"}
former=${former# }

case $grant in
    new | existing) ;;
    *) refuse EtcdNoPermit "the operator has granted this tenant's etcd no member $POD_NAME; $claim is left as it is. If\
 the volume is of a member that was removed, delete the claim" ;;
esac

if ! [ -w "$DATA_DIR" ] || ! [ -x "$DATA_DIR" ]; then
    refuse EtcdVolumeUnusable "$claim cannot be written by the user that etcd runs as. Use a StorageClass whose volumes\
 honour fsGroup"
fi
for path in "$marker" "$DATA_DIR/member" "$DATA_DIR/member/wal"; do
    if [ -e "$path" ] && { ! [ -r "$path" ] || { [ -d "$path" ] && ! [ -x "$path" ]; }; }; then
        refuse EtcdVolumeUnusable "$claim holds $path, which the user that etcd runs as cannot read. Give the files to\
 group 1001, or use a StorageClass whose volumes honour fsGroup"
    fi
done

# Whose volume is it? The marker is written before the first start and never missing beside data of ours. Below the
# present tenant it names those before it: a claim keeps the label of the first one, however often it is adopted.
recorded=
if [ -e "$marker" ]; then
    IFS= read -r recorded <"$marker" || true
fi
if [ -n "$recorded" ]; then
    if [ "$recorded" != "$TENANT_UID" ] && ! { [ -n "$former" ] && grep -q -x -F -e "$former" "$marker"; }; then
        refuse EtcdFormerLife "$claim holds the data of another tenant (UID $recorded), perhaps a former one of the same\
 name. Delete the claim to begin anew; or bring back that tenant's Secrets and adopt the volume"
    fi
elif [ -e "$DATA_DIR/member" ] && [ "$former" != unmarked ]; then
    refuse EtcdFormerLife "$claim holds etcd data that no tenant of this operator wrote. Delete the claim to begin anew;\
 or adopt the volume if the data is this tenant's"
fi

# May it be empty? Anything but a clear "not formed yet" means no.
if [ "$PERMIT_BOOTSTRAPPED" = false ] && [ "$grant" = new ]; then
    if has_data && is_unformed; then
        echo "$claim holds a log without entries, left by a start that was interrupted; it is removed" >&2
        rm -rf "$DATA_DIR/member"
    fi
elif ! has_data; then
    refuse EtcdMemberLostVolume "$claim is empty, but $POD_NAME is a member of an etcd that has served: starting it with\
 an empty volume could lose acknowledged writes. Bring the old volume back; or, if the data is lost, restore a backup or\
 create the tenant anew"
fi

if [ "$recorded" != "$TENANT_UID" ]; then
    rm -f "$marker.new"
    printf '%s\n' "$TENANT_UID" >"$marker.new"
    if [ -n "$recorded" ]; then
        cat "$marker" >>"$marker.new"
    elif [ "$former" = unmarked ]; then
        printf '%s\n' "$former" >>"$marker.new"
    fi
    sync "$marker.new"
    mv "$marker.new" "$marker"
    sync "$DATA_DIR"
fi
