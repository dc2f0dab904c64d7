#!/usr/bin/env bash
# Trains on GKE as a JobSet, on TPU slices or on GPU hosts, through Kueue where it runs.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/common.sh
source "$root/launch/common.sh"

usage() {
  cat <<'EOF'
launch/gke.sh [--dry-run] COMMAND ... [--namespace=NAMESPACE]

  image   --image=IMAGE (--tpu | --gpu)       builds and pushes the container
  setup   --project=PROJECT --bucket=BUCKET   the pods' account, and the bucket for it
  submit  NAME --image=IMAGE MACHINES [--queue=QUEUE] [--restarts=50] -- FLAGS...
  render  as submit: only prints the manifest
  status  NAME
  logs    NAME                                follows the first host
  fetch   --from=gs://BUCKET/DIRECTORY --to=DIRECTORY
  delete  NAME                                what is in buckets stays

MACHINES is --tpu=v5e --topology=2x4 (v4, v5e, v5p, v6e or tpu7x), or --gpu=MODEL
[--hosts=1] [--gpus-per-host=8] with a model of the node label
cloud.google.com/gke-accelerator, such as nvidia-h100-80gb; and --spot.

FLAGS are those of main.py; every gs://BUCKET in them is mounted.
--dry-run prints the commands instead of running them.
main.py --mode=plan --topology=v5e:4x4 says before whether a run fits its devices.
EOF
}

json_string() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# A JSON list or object of members that are JSON already.
json_join() {
  local opening=$1 closing=$2 member line=''
  shift 2
  for member in "$@"; do line+="${line:+, }$member"; done
  printf '%s%s%s\n' "$opening" "$line" "$closing"
}

# Sets hosts, devices, resource and selector for a slice.
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus
choose_tpu() {
  local chips
  [[ $topology =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || fail "--topology is missing, such as 2x4"
  chips=$((${topology//x/*}))
  case $tpu in
    v4) accelerator=tpu-v4-podslice devices=4 ;;
    v5p) accelerator=tpu-v5p-slice devices=4 ;;
    tpu7x) accelerator=tpu7x devices=4 ;;
    v5e | v6e)
      accelerator='tpu-v5-lite-podslice'
      if [[ $tpu == v6e ]]; then accelerator='tpu-v6e-slice'; fi
      # Up to eight chips are one host; more are hosts of four.
      devices=$((chips <= 8 ? chips : 4))
      ;;
    *) fail "--tpu=$tpu: expected v4, v5e, v5p, v6e or tpu7x" ;;
  esac
  ((chips % devices == 0)) || fail "--topology=$topology: no whole hosts of $devices chips"
  hosts=$((chips / devices))
  resource=google.com/tpu
  selector=("\"cloud.google.com/gke-tpu-accelerator\": \"$accelerator\""
    "\"cloud.google.com/gke-tpu-topology\": \"$topology\"")
  tolerations=()
}

choose_gpu() {
  [[ $hosts =~ ^[1-9][0-9]*$ ]] || fail "--hosts=$hosts: expected a number"
  [[ $devices =~ ^[1-9][0-9]*$ ]] || fail "--gpus-per-host=$devices: expected a number"
  resource=nvidia.com/gpu
  selector=("\"cloud.google.com/gke-accelerator\": $(json_string "$gpu")")
  tolerations=('{"key": "nvidia.com/gpu", "operator": "Exists"}')
}

render() {
  local argument bucket key value text
  [[ -n $image ]] || fail "--image is missing"
  [[ $restarts =~ ^[0-9]+$ ]] || fail "--restarts=$restarts: expected a number"
  ((${#name} <= 40)) || fail "$name: at most 40 characters, since pods' names grow from it"
  [[ -z $tpu || -z $gpu ]] || fail "--tpu and --gpu exclude each other"
  if [[ -n $tpu ]]; then choose_tpu; elif [[ -n $gpu ]]; then choose_gpu; else
    fail "--tpu or --gpu is missing"
  fi
  if $spot; then
    selector+=('"cloud.google.com/gke-spot": "true"')
    tolerations+=('{"key": "cloud.google.com/gke-spot", "operator": "Exists"}')
  fi
  require_bucket_workdir "$@"

  # Several hosts must not take themselves for one each, and train into one workdir.
  local arguments=('"--distributed=auto"') volumes mounts
  if ((hosts > 1)); then arguments=('"--distributed=on"'); fi
  for argument in "$@"; do
    [[ $argument != *$'\n'* ]] || fail "a line break in $argument"
    arguments+=("$(json_string "$(mounted "$argument")")")
  done
  # Readers and NCCL share memory; a container's own is 64 MiB.
  volumes=('{"name": "shm", "emptyDir": {"medium": "Memory"}}')
  mounts=('{"name": "shm", "mountPath": "/dev/shm"}')
  local found number=0
  found=$(buckets "$@")
  for bucket in $found; do
    volumes+=("{\"name\": \"bucket-$number\", \"csi\": {\"driver\": \"gcsfuse.csi.storage.gke.io\", \"volumeAttributes\": {\"bucketName\": \"$bucket\", \"mountOptions\": \"implicit-dirs\"}}}")
    mounts+=("{\"name\": \"bucket-$number\", \"mountPath\": \"/gcs/$bucket\"}")
    number=$((number + 1))
  done

  text=$(grep -v '^#' "$root/launch/gke_jobset.yaml")
  while IFS='=' read -r key value; do
    text=${text//"\${$key}"/"$value"}
  done <<EOF
NAME=$name
NAMESPACE=$namespace
QUEUE=$queue
RESTARTS=$restarts
HOSTS=$hosts
IMAGE=$(json_string "$image")
NODE_SELECTOR=$(json_join '{' '}' "${selector[@]}")
TOLERATIONS=$(json_join '[' ']' ${tolerations[@]+"${tolerations[@]}"})
ARGS=$(json_join '[' ']' "${arguments[@]}")
LIMITS={"$resource": $devices}
VOLUME_MOUNTS=$(json_join '[' ']' "${mounts[@]}")
VOLUMES=$(json_join '[' ']' "${volumes[@]}")
EOF
  printf '%s\n' "$text"
}

submit() {
  local manifest
  manifest=$(render "$@")
  if $DRY_RUN; then
    printf "%s <<'EOF'\n%s\nEOF\n" \
      "$(quote kubectl apply --namespace="$namespace" --filename=-)" "$manifest"
  else
    kubectl apply --namespace="$namespace" --filename=- <<<"$manifest"
  fi
}

build_image() {
  local device
  [[ -n $image ]] || fail "--image is missing"
  case $tpu$gpu in tpu | gpu) device=$tpu$gpu ;; *) fail "--tpu or --gpu is missing" ;; esac
  run docker build --platform=linux/amd64 --file="$root/launch/$device.Dockerfile" \
    --tag="$image" "$root"
  run docker push "$image"
}

setup() {
  local number
  [[ -n $project ]] || fail "--project is missing"
  [[ -n $bucket ]] || fail "--bucket is missing"
  run kubectl apply --namespace="$namespace" --filename="$root/launch/gke_account.yaml"
  number=$(ask PROJECT_NUMBER gcloud projects describe "$project" \
    --format='value(projectNumber)')
  run gcloud storage buckets add-iam-policy-binding "gs://${bucket#gs://}" \
    --role=roles/storage.objectUser \
    --member="principal://iam.googleapis.com/projects/$number/locations/global/workloadIdentityPools/$project.svc.id.goog/subject/ns/$namespace/sa/clonalnet"
}

status() {
  run kubectl get jobset "$name" --namespace="$namespace"
  run kubectl get pods --namespace="$namespace" \
    --selector="jobset.sigs.k8s.io/jobset-name=$name" --output=wide
}

logs() {
  run kubectl logs --namespace="$namespace" --follow --container=main \
    --selector="jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
}

fetch() {
  [[ $from == gs://?*/?* ]] || fail "--from=gs://BUCKET/DIRECTORY is missing"
  [[ -n $to ]] || fail "--to=DIRECTORY is missing"
  run mkdir -p "$to"
  run gcloud storage rsync --recursive "$from" "$to"
}

delete() {
  run kubectl delete jobset "$name" --namespace="$namespace"
}

name='' namespace=default queue=default image='' tpu='' topology='' gpu='' hosts=1
devices=8 restarts=50 spot=false project='' bucket='' from='' to=''
words=()
while (($#)); do
  case $1 in
    --dry-run) DRY_RUN=true ;;
    --help | -h) usage && exit ;;
    --namespace=*) namespace=${1#*=} ;;
    --queue=*) queue=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --tpu) tpu=tpu ;;
    --gpu) gpu=gpu ;;
    --tpu=*) tpu=${1#*=} ;;
    --gpu=*) gpu=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --hosts=*) hosts=${1#*=} ;;
    --gpus-per-host=*) devices=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --spot) spot=true ;;
    --project=*) project=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --from=*) from=${1#*=} ;;
    --to=*) to=${1#*=} ;;
    --) shift && break ;;
    -*) fail "unknown option $1; flags of main.py stand after --" ;;
    *) words+=("$1") ;;
  esac
  shift
done
((${#words[@]})) || { usage >&2 && exit 2; }
command=${words[0]}
[[ $command == submit || $command == render || $# == 0 ]] ||
  fail "only submit and render take flags of main.py"
label='^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'
[[ $namespace =~ $label && $queue =~ $label ]] ||
  fail "--namespace, --queue: lower-case letters, digits and -"
case $command in
  image | setup | fetch) ((${#words[@]} == 1)) || fail "$command takes no name" ;;
  submit | render | status | logs | delete)
    ((${#words[@]} == 2)) || fail "$command takes one name"
    name=${words[1]}
    [[ $name =~ ^[a-z] && $name =~ $label ]] ||
      fail "$name: lower-case letters, digits and -"
    ;;
  *) fail "unknown command $command; --help lists them" ;;
esac
case $command in
  image) build_image ;;
  *) "$command" "$@" ;;
esac
