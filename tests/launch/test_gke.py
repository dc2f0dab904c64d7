"""launch/gke.sh: the manifests that it makes, and what it does with them."""

import copy
import json
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from launching import ROOT, split_commands

SCRIPT = "launch/gke.sh"
SCHEMA = json.loads((Path(__file__).parent / "jobset.schema.json").read_text())
KUBERNETES = kubernetes_validate.latest_version()
# The last but one has everything that YAML, JSON and a shell could take amiss.
FLAGS = (
    "--config=configs/imagenet.py",
    "--config.data.path=gs://photos/tfds",
    "--config.methods=('cross_entropy', 'clone')",
    r"--config.data.name=a: 'b' \"c\" & $HOME # {d}\n",
    "--workdir=gs://results/runs/imagenet",
)
MOUNTED = [flag.replace("gs://", "/gcs/") for flag in FLAGS]
TPU = ("--tpu=v5e", "--topology=4x4", "--spot")
GPU = ("--gpu=nvidia-h100-80gb", "--hosts=2")


@pytest.fixture
def render(scripts):
    """`(*options) -> manifest` of a job with FLAGS."""

    def run(*options):
        result = scripts.run(
            SCRIPT, "render", "job", "--image=images/it:1", *options, "--", *FLAGS
        )
        assert result.returncode == 0, result.stderr
        assert scripts.calls() == []
        return yaml.safe_load(result.stdout)

    return run


def validate(manifest):
    """Raises unless JobSet's schema and, for the Job in it, Kubernetes' accept it."""
    jsonschema.validate(manifest, SCHEMA)
    for replicated in manifest["spec"]["replicatedJobs"]:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": replicated["name"]},
            "spec": replicated["template"]["spec"],
        }
        kubernetes_validate.validate(job, KUBERNETES, strict=True)


def pod_of(manifest):
    [job] = manifest["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("machines", [TPU, GPU], ids=["tpu", "gpu"])
def test_manifests_obey_their_schemas(render, machines):
    validate(render(*machines))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "failurePolicy", "maxRestart"), 3),
        (("spec", "failurePolicy", "maxRestarts"), "3"),
        (("spec", "replicatedJobs", 0, "replicas"), -1),
        (("spec", "replicatedJobs", 0, "template", "spec", "parallelism"), "2"),
        (("spec", "replicatedJobs", 0, "template", "spec", "retries"), 1),
    ],
)
def test_the_schemas_refuse_what_a_cluster_would_refuse(render, path, value):
    manifest = copy.deepcopy(render(*GPU))
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(manifest)


def test_the_account_may_be_created_and_read_what_jax_asks_for():
    objects = list(yaml.safe_load_all((ROOT / "launch/gke_account.yaml").read_text()))
    for manifest in objects:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    account, role, binding = objects
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    allowed = {
        name: rule["verbs"] for rule in role["rules"] for name in rule["resources"]
    }
    assert "list" in allowed["pods"]
    assert "get" in allowed["jobs"]


@pytest.mark.parametrize(
    ("options", "hosts", "limits", "selector"),
    [
        (("--tpu=v5e", "--topology=2x4"), 1, 8, ("tpu-v5-lite-podslice", "2x4")),
        (("--tpu=v5e", "--topology=4x4"), 4, 4, ("tpu-v5-lite-podslice", "4x4")),
        (("--tpu=v6e", "--topology=1x1"), 1, 1, ("tpu-v6e-slice", "1x1")),
        (("--tpu=v5p", "--topology=4x4x8"), 32, 4, ("tpu-v5p-slice", "4x4x8")),
        (("--tpu=v4", "--topology=2x2x1"), 1, 4, ("tpu-v4-podslice", "2x2x1")),
    ],
)
def test_a_slice_has_one_pod_for_each_of_its_hosts(
    render, options, hosts, limits, selector
):
    manifest = render(*options)
    [job] = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert job["replicas"] == 1
    assert spec["parallelism"] == spec["completions"] == hosts
    pod = pod_of(manifest)
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": limits}
    assert tuple(pod["nodeSelector"].values()) == selector


def test_gpu_hosts_give_all_their_devices_to_one_process(render):
    manifest = render(*GPU, "--gpus-per-host=4")
    [job] = manifest["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["parallelism"] == 2
    # JAX finds the other hosts of a job only where its pods are numbered.
    assert job["template"]["spec"]["completionMode"] == "Indexed"
    pod = pod_of(manifest)
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-h100-80gb"
    }


@pytest.mark.parametrize("machines", [TPU, GPU], ids=["tpu", "gpu"])
def test_flags_arrive_unchanged_but_for_mounted_buckets(render, machines):
    pod = pod_of(render(*machines))
    [container] = pod["containers"]
    assert container["args"] == ["--distributed=on", *MOUNTED]
    paths = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert paths.keys() == volumes.keys()
    assert {
        paths[name]: volume["csi"]["volumeAttributes"]["bucketName"]
        for name, volume in volumes.items()
        if "csi" in volume
    } == {"/gcs/photos": "photos", "/gcs/results": "results"}


def test_all_hosts_wait_for_the_first_under_its_name_in_the_job(render):
    manifest = render(*GPU)
    [job] = manifest["spec"]["replicatedJobs"]
    name = manifest["metadata"]["name"]
    [wait] = pod_of(manifest)["initContainers"]
    # JobSet's names: <jobset>-<replicated job>-<its index>-<pod index>.<jobset>
    assert f"getent hosts {name}-{job['name']}-0-0.{name};" in wait["command"][-1]
    assert wait["image"] == pod_of(manifest)["containers"][0]["image"]


def test_one_host_does_not_insist_on_a_cluster(render):
    [container] = pod_of(render("--tpu=v5e", "--topology=2x4"))["containers"]
    assert container["args"][0] == "--distributed=auto"


def test_only_a_users_mistake_is_not_started_again(render):
    manifest = render(*TPU, "--restarts=7")
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    [rule] = policy["rules"]
    assert rule["action"] == "FailJobSet"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    [rule] = job["podFailurePolicy"]["rules"]
    assert (
        rule["onExitCodes"]["containerName"]
        == pod_of(manifest)["containers"][0]["name"]
    )
    assert rule["onExitCodes"]["values"] == [2, 3]


def test_kueue_queue_and_spot_machines_are_asked_for_by_label(render):
    manifest = render(*TPU, "--queue=research", "--namespace=vision")
    metadata = manifest["metadata"]
    assert metadata["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    assert (metadata["name"], metadata["namespace"]) == ("job", "vision")
    assert pod_of(manifest)["nodeSelector"]["cloud.google.com/gke-spot"] == "true"


def test_submit_applies_the_manifest_that_render_and_the_dry_run_print(scripts, render):
    manifest = render(*GPU)
    arguments = ("submit", "job", "--image=images/it:1", *GPU, "--", *FLAGS)
    printed = scripts.run(SCRIPT, "--dry-run", *arguments)
    assert scripts.calls() == []
    assert scripts.run(SCRIPT, *arguments).returncode == 0
    [(words, piped)] = scripts.calls()
    assert yaml.safe_load(piped) == manifest
    command, text = printed.stdout.split("\n", 1)
    assert command == " ".join(words) + " <<'EOF'"
    assert yaml.safe_load(text.removesuffix("EOF\n")) == manifest


@pytest.mark.parametrize(
    ("arguments", "tool"),
    [
        (("image", "--image=images/it:1", "--gpu"), "docker"),
        (("image", "--image=images/it:1", "--tpu"), "docker"),
        (("setup", "--project=mine", "--bucket=results"), "kubectl"),
        (("status", "job"), "kubectl"),
        (("logs", "job"), "kubectl"),
        (("fetch", "--from=gs://results/runs"), "gcloud"),
        (("delete", "job", "--namespace=vision"), "kubectl"),
    ],
)
def test_the_dry_run_prints_what_is_run(scripts, arguments, tool):
    if arguments[0] == "fetch":
        arguments = (*arguments, f"--to={scripts.home / 'runs'}")
    printed = scripts.run(SCRIPT, "--dry-run", *arguments)
    assert printed.returncode == 0, printed.stderr
    assert scripts.calls() == []
    number = {"projects describe": ("PROJECT_NUMBER", 0)}
    done = scripts.run(SCRIPT, *arguments, answers=number)
    assert done.returncode == 0, done.stderr
    expected = [c for c in split_commands(printed.stdout) if c[0] != "mkdir"]
    assert [words for words, _ in scripts.calls()] == expected
    assert expected[0][0] == tool
    for word in [w for command in expected for w in command]:
        if word.startswith("--file"):
            assert Path(word.split("=")[1]).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("submit", "job", *TPU, "--", *FLAGS), "--image"),
        (("submit", "job", "--image=i", "--", *FLAGS), "--tpu or --gpu"),
        (("submit", "job", "--image=i", *TPU, *GPU, "--", *FLAGS), "exclude"),
        (("submit", "job", "--image=i", "--tpu=v5e", "--", *FLAGS), "--topology"),
        (
            ("submit", "job", "--image=i", "--tpu=v9", "--topology=2x2", "--", *FLAGS),
            "--tpu=v9",
        ),
        (
            ("submit", "job", "--image=i", "--tpu=v4", "--topology=1x1", "--", *FLAGS),
            "whole hosts",
        ),
        (("submit", "job", "--image=i", "--gpu=x", "--hosts=0", "--", *FLAGS), "hosts"),
        (("submit", "job", "--image=i", *TPU, "--", "--workdir=x"), "--workdir=gs://"),
        (("submit", "job", "--image=i", *TPU, "--", *FLAGS, "a\nb"), "line break"),
        (("submit", "j" * 41, "--image=i", *TPU, "--", *FLAGS), "40"),
        (("submit", "Job", "--image=i", *TPU, "--", *FLAGS), "Job"),
        (("submit", "job", "--image=i", "--queue=A", *TPU, "--", *FLAGS), "--queue"),
        (("delete", "job", "--", *FLAGS), "only submit"),
        (("image", "--image=i"), "--tpu or --gpu"),
        (("setup", "--project=mine"), "--bucket"),
        (("run", "job"), "unknown command run"),
        ((), "COMMAND"),
    ],
)
def test_mistakes_are_named_before_anything_is_called(scripts, arguments, message):
    result = scripts.run(SCRIPT, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert scripts.calls() == []
