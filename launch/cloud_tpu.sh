#!/usr/bin/env bash
# Trains on Cloud TPU VMs: one host or a whole slice of a pod.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/common.sh
source "$root/launch/common.sh"

usage() {
  cat <<'EOF'
launch/cloud_tpu.sh [--dry-run] COMMAND NAME --zone=ZONE [--project=PROJECT] ...

  create  NAME --type=TYPE [--spot] [--runtime=VERSION]   v5litepod-8, v5p-256, v6e-16, ...
  status  NAME                     of the request, then of the program on every worker
  install NAME                     the last commit of this checkout, with [tpu]
  run     NAME -- FLAGS...         main.py on all workers; mounts every gs://BUCKET
  logs    NAME [--worker=0]        follows what one worker prints
  stop    NAME                     saves and stops; run goes on from there
  fetch   NAME --from=gs://BUCKET/DIRECTORY --to=DIRECTORY
  delete  NAME                     the machines; what is in buckets stays

--dry-run prints the commands instead of running them.
main.py --mode=plan --topology=v5e:4x4 says before whether a run fits its devices.
EOF
}

# Of https://cloud.google.com/tpu/docs/runtimes.
runtime_of() {
  case $1 in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) fail "no runtime version is known for --type=$1: give it with --runtime" ;;
  esac
}

# Runs a script on workers, all of them unless --worker says which.
on_workers() {
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="${worker:-all}" \
    --command="$1"
}

create() {
  [[ -n $type ]] || fail "--type is missing, such as --type=v5litepod-8"
  [[ -n $runtime ]] || runtime=$(runtime_of "$type")
  local tier=()
  if $spot; then tier=(--spot); fi
  # A request that waits in the queue until there are machines, spot or not.
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    --node-id="$name" --accelerator-type="$type" --runtime-version="$runtime" \
    ${tier[@]+"${tier[@]}"}
  local state=
  until [[ $state == ACTIVE ]]; do
    state=$(ask ACTIVE gcloud compute tpus queued-resources describe "$name" \
      "${where[@]}" --format='value(state.state)')
    case $state in
      FAILED | SUSPENDING | SUSPENDED) fail "the request is $state: delete it" ;;
      ACTIVE) ;;
      *) echo "$state" && sleep 30 ;;
    esac
  done
}

status() {
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" \
    --format='value(state.state)'
  on_workers 'systemctl show clonalnet --property=ActiveState,Result,ExecMainStatus,NRestarts'
}

install() {
  local archive=clonalnet-jax.tar.gz
  if [[ -n $(git -C "$root" status --porcelain) ]]; then
    echo "WARNING: what is not committed is not sent" >&2
  fi
  run git -C "$root" archive --format=tar.gz --output="${TMPDIR:-/tmp}/$archive" HEAD
  run gcloud compute tpus tpu-vm scp "${TMPDIR:-/tmp}/$archive" "$name:$archive" \
    "${where[@]}" --worker=all
  # The images' Python is older than ours, so uv brings one.
  on_workers 'set -eu
rm -rf clonalnet-jax && mkdir clonalnet-jax
tar -xzf clonalnet-jax.tar.gz -C clonalnet-jax
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --clear --python=3.12 venv
~/.local/bin/uv pip install --quiet --python=venv/bin/python --editable="clonalnet-jax[tpu]"
command -v gcsfuse >/dev/null || {
  curl -fsSLo gcsfuse.deb https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v3.8.0/gcsfuse_3.8.0_amd64.deb
  sudo apt-get install -y -qq ./gcsfuse.deb
}'
}

train() {
  local argument bucket mounts='' arguments=()
  require_bucket_workdir "$@"
  for argument in "$@"; do arguments+=("$(mounted "$argument")"); done
  # In two steps, since a failure inside "for ... in $(...)" would be passed over.
  bucket=$(buckets "$@")
  for bucket in $bucket; do
    mounts+="mountpoint -q /gcs/$bucket || {
  sudo mkdir -p /gcs/$bucket && sudo chown \"\$(id -u)\" /gcs/$bucket
  gcsfuse --implicit-dirs $bucket /gcs/$bucket
}
"
  done
  # A service outlives this connection, is sent SIGTERM when a spot machine is taken away,
  # and starts again after everything but success and a user's mistake. Only the program
  # itself gets the signal (mixed), not its readers. libtpu locks memory, and JAX asks for
  # transparent huge pages.
  on_workers "set -eu
${mounts}echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null
sudo systemctl reset-failed clonalnet 2>/dev/null || true
sudo systemd-run --unit=clonalnet --uid=\"\$(id -u)\" --gid=\"\$(id -g)\" \\
  --setenv=HOME=\"\$HOME\" --working-directory=\"\$HOME/clonalnet-jax\" \\
  --property=LimitMEMLOCK=infinity --property=LimitNOFILE=65536 \\
  --property=KillMode=mixed --property=TimeoutStopSec=120 \\
  --property=Restart=on-failure --property=RestartSec=15 \\
  --property='RestartPreventExitStatus=2 3' \\
  \"\$HOME/venv/bin/python\" main.py --distributed=on $(quote "${arguments[@]}")"
}

logs() {
  worker=${worker:-0}
  on_workers 'journalctl --unit=clonalnet --output=cat --lines=200 --follow'
}

stop() {
  on_workers 'sudo systemctl stop clonalnet'
}

fetch() {
  [[ $from == gs://?*/?* ]] || fail "--from=gs://BUCKET/DIRECTORY is missing"
  [[ -n $to ]] || fail "--to=DIRECTORY is missing"
  run mkdir -p "$to"
  run gcloud storage rsync --recursive "$from" "$to"
}

delete() {
  # --force: the machines too, not only the request.
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

type='' runtime='' spot=false zone='' project='' worker='' from='' to=''
words=()
while (($#)); do
  case $1 in
    --dry-run) DRY_RUN=true ;;
    --help | -h) usage && exit ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --runtime=*) runtime=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --from=*) from=${1#*=} ;;
    --to=*) to=${1#*=} ;;
    --spot) spot=true ;;
    --) shift && break ;;
    -*) fail "unknown option $1; flags of main.py stand after --" ;;
    *) words+=("$1") ;;
  esac
  shift
done
((${#words[@]} == 2)) || { usage >&2 && exit 2; }
command=${words[0]} name=${words[1]}
[[ $command == run || $# == 0 ]] || fail "only run takes flags of main.py"
[[ $name =~ ^[a-z]([a-z0-9-]*[a-z0-9])?$ ]] || fail "$name: lower-case letters, digits and -"
[[ -n $zone || $command == fetch ]] || fail "--zone is missing, such as --zone=us-west4-a"
where=(--zone="$zone" ${project:+--project="$project"})
case $command in
  run) train "$@" ;;
  create | status | install | logs | stop | fetch | delete) "$command" ;;
  *) fail "unknown command $command; --help lists them" ;;
esac
