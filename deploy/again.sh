#!/bin/sh
# again.sh COMMAND...: the command, up to three times. pip asks again for a connection that was refused, not for a download
# that broke off in the middle; what arrived whole stays in its cache.
for pause_s in 5 20; do
  "$@" && exit 0
  echo "again.sh: exit code $?, trying once more in $pause_s s: $*" >&2
  sleep "$pause_s"
done
exec "$@"
