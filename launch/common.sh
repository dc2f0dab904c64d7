# shellcheck shell=bash
# What cloud_tpu.sh and gke.sh share; sourced, never run.

DRY_RUN=false
# Where --dry-run prints, also from within $(...).
exec 3>&1

# Prints a message and stops, as main.py does for a user's mistake.
fail() {
  printf 'ERROR: %s\n' "$1" >&2
  exit 2
}

# One command line that a shell reads back as the same words.
quote() {
  local word line=''
  for word in "$@"; do
    if [[ ! $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      word="'${word//\'/\'\\\'\'}'"
    fi
    line+="${line:+ }$word"
  done
  printf '%s\n' "$line"
}

# Runs a command, or prints it with --dry-run.
run() {
  if $DRY_RUN; then quote "$@" >&3; else "$@"; fi
}

# The output of a command; with --dry-run the placeholder that is given first.
ask() {
  local placeholder=$1
  shift
  if $DRY_RUN; then
    quote "$@" >&3
    printf '%s\n' "$placeholder"
  else
    "$@"
  fi
}

# The buckets that arguments name as gs://BUCKET/..., each once, one a line.
buckets() {
  local argument rest bucket seen=' '
  for argument in "$@"; do
    [[ $argument == *gs://* ]] || continue
    rest=${argument#*gs://}
    bucket=${rest%%/*}
    [[ $bucket =~ ^[a-z0-9][a-z0-9._-]+$ ]] || fail "no bucket name in $argument"
    [[ $seen == *" $bucket "* ]] && continue
    seen+="$bucket "
    printf '%s\n' "$bucket"
  done
}

# An argument with gs://BUCKET/... replaced by the path where that bucket is mounted: the
# program reads and writes files.
mounted() {
  printf '%s\n' "${1/gs:\/\///gcs/}"
}

# Stops unless --workdir lies in a bucket: nothing else outlives the machines, and with
# several of them nothing else is seen by all.
require_bucket_workdir() {
  local argument
  for argument in "$@"; do
    [[ $argument == --workdir=gs://?*/?* ]] && return
  done
  fail "--workdir=gs://BUCKET/DIRECTORY is missing after --: only a bucket outlives the
machines and is seen by all of them"
}
