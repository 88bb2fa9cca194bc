#!/bin/sh
# Makes the database at the first start, then becomes the server.
#
#   POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE   of the superuser; one of them is needed at the first start
#   POSTGRES_USER (postgres), POSTGRES_DB (the user's name)
#   POSTGRES_TLS_CERT_FILE, POSTGRES_TLS_KEY_FILE  TLS is offered when both are given (their names may not hold a quote)
#
# Words after the name `postgres` are arguments of the server.
set -eu

if [ "${1:-}" != postgres ]; then
  exec "$@"
fi
shift

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    password=$(cat "$POSTGRES_PASSWORD_FILE")
  else
    password=${POSTGRES_PASSWORD:-}
  fi
  if [ -z "$password" ]; then
    echo "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE" >&2
    exit 1
  fi
  # A first start that was cut short leaves a folder without an end mark; it begins anew. The password goes by a file
  # that only we can read, never by an argument that any process can see.
  umask 077
  new=$PGDATA.new
  rm -rf "$new"
  printf '%s\n' "$password" > /tmp/.initial-password
  initdb --pgdata="$new" --username="$user" --pwfile=/tmp/.initial-password --auth=scram-sha-256 --encoding=UTF8 \
         --locale=C.UTF-8 --no-sync > /dev/null
  rm -f /tmp/.initial-password
  echo 'host all all all scram-sha-256' >> "$new/pg_hba.conf"
  if [ "$database" != postgres ]; then
    quoted=$(printf '%s' "$database" | sed 's/"/""/g')
    printf 'CREATE DATABASE "%s";\n' "$quoted" | postgres --single -D "$new" postgres > /dev/null
  fi
  rm -rf "$PGDATA"
  mv "$new" "$PGDATA"
fi
unset POSTGRES_PASSWORD password

# The usual socket folder, /var/run/postgresql, is not writable when the root file system is read-only.
set -- -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off "$@"
if [ -n "${POSTGRES_TLS_CERT_FILE:-}" ] && [ -n "${POSTGRES_TLS_KEY_FILE:-}" ]; then
  # The server refuses a key that others can read, and a mounted Secret may be such: it gets a copy of its own.
  (umask 077 && cat "$POSTGRES_TLS_KEY_FILE" > "$PGDATA/server.key")
  set -- -c ssl=on -c ssl_cert_file="$POSTGRES_TLS_CERT_FILE" -c ssl_key_file="$PGDATA/server.key" "$@"
fi
exec postgres -D "$PGDATA" "$@"
