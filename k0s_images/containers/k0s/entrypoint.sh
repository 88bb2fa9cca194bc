#!/bin/sh
# Nothing is prepared here: a hosted controller needs no cgroups, mounts or DNS of its own.
exec "$@"
