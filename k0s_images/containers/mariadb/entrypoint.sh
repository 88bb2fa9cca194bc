#!/bin/sh
# Makes a database and its user at the first start, then becomes the server.
#
#   MARIADB_USER, MARIADB_PASSWORD, MARIADB_DATABASE   all three are needed at the first start
#
# Words after the name `mariadbd` are arguments of the server.
set -eu

if [ "${1:-}" != mariadbd ]; then
  exec "$@"
fi
shift

# Inside quotes of SQL: a backslash and a quote are doubled (text), a backtick is (names).
text() { printf '%s' "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g"; }
name() { printf '%s' "$1" | sed 's/`/``/g'; }

if [ ! -d "$DATADIR/mysql" ]; then
  for each in MARIADB_USER MARIADB_PASSWORD MARIADB_DATABASE; do
    if [ -z "$(printenv "$each" || true)" ]; then
      echo "set $each" >&2
      exit 1
    fi
  done
  # A first start that was cut short leaves a folder without an end mark; it begins anew. The password goes by the
  # server's standard input, never by an argument that any process can see.
  umask 077
  new=$DATADIR.new
  rm -rf "$new"
  # `--force`: a pod's host name need not be known to any DNS. Its complaints go to standard output.
  if ! mariadb-install-db --no-defaults --force --datadir="$new" --auth-root-authentication-method=socket \
                          --skip-test-db --skip-name-resolve > /tmp/install.log; then
    cat /tmp/install.log >&2
    exit 1
  fi
  mariadbd --no-defaults --datadir="$new" --bootstrap --skip-networking <<SQL
FLUSH PRIVILEGES;
CREATE DATABASE \`$(name "$MARIADB_DATABASE")\`;
CREATE USER '$(text "$MARIADB_USER")'@'%' IDENTIFIED BY '$(text "$MARIADB_PASSWORD")';
GRANT ALL ON \`$(name "$MARIADB_DATABASE")\`.* TO '$(text "$MARIADB_USER")'@'%';
SQL
  rm -rf "$DATADIR"
  mv "$new" "$DATADIR"
fi
unset MARIADB_PASSWORD

# The usual folder of sockets and pid files is not writable when the root file system is read-only.
exec mariadbd --no-defaults --datadir="$DATADIR" --bind-address=0.0.0.0 --port=3306 --socket=/tmp/mariadb.sock \
              --pid-file=/tmp/mariadb.pid --tmpdir=/tmp --skip-name-resolve "$@"
