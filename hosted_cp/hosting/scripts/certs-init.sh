# Lays the tenant's authorities into k0s' own, writable pki directory, because k0s changes owners and modes there and
# cannot work with mounted files. Refuses to replace a CA by another one: that would cut off every worker and client.
# Constant: nothing is ever interpolated into this text.
set -eu
umask 077
from=/pki
to=/var/lib/k0s/pki

mkdir -p "$to"
chmod 0751 "$to"

for ca in ca.crt front-proxy-ca.crt; do
    if [ -s "$to/$ca" ] && ! cmp -s "$from/$ca" "$to/$ca"; then
        echo "the data volume holds another $ca than the Secret: it belongs to a former life of this tenant, or the" \
            "Secret was exchanged. Bring back the Secret that fits the volume, or delete the volume claim of this pod." >&2
        exit 1
    fi
done

for file in ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key sa.pub sa.key; do
    cmp -s "$from/$file" "$to/$file" && continue
    cp "$from/$file" "$to/.$file.new"
    case "$file" in
        *.key) chmod 0640 "$to/.$file.new" ;;
        *) chmod 0644 "$to/.$file.new" ;;
    esac
    mv "$to/.$file.new" "$to/$file"
done

# k0s makes its leaves anew at each start, but not this one where the CA that the user has brought is not called as its
# own are: on a volume that is kept it would end after a year. One that is missing is made in any case.
rm -f "$to/front-proxy-client.crt" "$to/front-proxy-client.key"

# An add-on whose folder is empty when k0s' applier looks is deleted from the tenant; k0s writes the real file over this.
for manifest in $PENDING_MANIFESTS; do
    file="/var/lib/k0s/manifests/$manifest"
    [ -e "$file" ] && continue
    mkdir -p "${file%/*}"
    printf '%s' "$PENDING" >"$file"
done
