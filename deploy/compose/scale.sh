#!/bin/sh
# Keeps as many workers of docker-compose.yml as the API recommends, between MIN (1) and MAX (8), until it is stopped.
# Run it beside docker-compose.yml: PENSTOCK_URL=... PENSTOCK_KEY=... deploy/compose/scale.sh [MIN [MAX]]
# The key needs the scope `metrics`. Workers that are one too many drain: their stop grace is longer than the drain.
set -u
min=${1:-1} max=${2:-8} every_s=${EVERY_S:-10} now=

while :; do
  answer=$(curl -sf -H "authorization: Bearer $PENSTOCK_KEY" "$PENSTOCK_URL/v1/scaling") || answer=
  wanted=$(printf %s "$answer" | sed -n 's/.*"recommended": *\([0-9][0-9]*\).*/\1/p')
  # While the API does not answer, the workers stay.
  if [ -n "$wanted" ]; then
    [ "$wanted" -ge "$min" ] || wanted=$min
    [ "$wanted" -le "$max" ] || wanted=$max
    if [ "$wanted" != "$now" ]; then
      echo "workers: ${now:-?} -> $wanted"
      docker compose up --detach --no-deps --no-recreate --scale worker="$wanted" worker && now=$wanted
    fi
  fi
  sleep "$every_s"
done
