"""launch/cloud_tpu.sh: what it would run, and what it runs."""

import pytest
from launching import split_commands

SCRIPT = "launch/cloud_tpu.sh"
WHERE = ("--zone=us-west4-a", "--project=mine")
# The last but two has everything that one of three shells on the way could take amiss.
FLAGS = (
    "--config=configs/imagenet.py",
    "--config.data.path=gs://photos/tfds",
    "--config.methods=('cross_entropy', 'clone')",
    r'--config.data.name=a"b$HOME`id`\n',
    "--workdir=gs://results/runs/imagenet",
)
MOUNTED = [flag.replace("gs://", "/gcs/") for flag in FLAGS]
COMMANDS = {
    "create": ("--type=v5p-256", "--spot"),
    "status": (),
    "install": (),
    "run": ("--", *FLAGS),
    "logs": (),
    "stop": (),
    "fetch": ("--from=gs://results/runs",),
    "delete": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_dry_run_prints_what_is_run(scripts, command):
    to = (f"--to={scripts.home / 'runs'}",) if command == "fetch" else ()
    arguments = (command, "pod", *WHERE, *to, *COMMANDS[command])
    printed = scripts.run(SCRIPT, "--dry-run", *arguments)
    assert printed.returncode == 0, printed.stderr
    assert scripts.calls() == []
    active = {"queued-resources describe": ("ACTIVE", 0)}
    done = scripts.run(SCRIPT, *arguments, answers=active)
    assert done.returncode == 0, done.stderr
    expected = [c for c in split_commands(printed.stdout) if c[0] == "gcloud"]
    assert expected
    assert [words for words, _ in scripts.calls()] == expected


def test_help_names_every_command(scripts):
    result = scripts.run(SCRIPT, "--help")
    assert result.returncode == 0
    listed = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in listed] == [*COMMANDS]


@pytest.mark.parametrize(
    ("type", "runtime"),
    [
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-256", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v4-8", "tpu-ubuntu2204-base"),
    ],
)
def test_spot_machines_of_every_kind_are_requested_through_the_queue(
    dry_run, type, runtime
):
    request, _ = dry_run(SCRIPT, "create", "pod", *WHERE, f"--type={type}", "--spot")
    assert " ".join(request[:6]) == "gcloud compute tpus queued-resources create pod"
    assert {
        *WHERE,
        "--node-id=pod",
        f"--accelerator-type={type}",
        f"--runtime-version={runtime}",
        "--spot",
    } == set(request[6:])
    request, _ = dry_run(SCRIPT, "create", "pod", *WHERE, f"--type={type}")
    assert "--spot" not in request


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_request_that_came_to_nothing_ends_the_wait(scripts, state):
    answers = {"queued-resources describe": (state, 0)}
    arguments = ("create", "pod", *WHERE, "--type=v5litepod-8")
    result = scripts.run(SCRIPT, *arguments, answers=answers)
    assert result.returncode == 2
    assert state in result.stderr


def test_workers_get_the_flags_unchanged_but_for_mounted_buckets(scripts, dry_run):
    [ssh] = dry_run(SCRIPT, "run", "pod", *WHERE, "--", *FLAGS)
    assert "--worker=all" in ssh
    [remote] = [w.removeprefix("--command=") for w in ssh if w.startswith("--command=")]
    path = scripts.home / "remote.sh"
    path.write_text(remote)
    result = scripts.run(path, answers={"mountpoint": ("", 1)})
    assert result.returncode == 0, result.stderr
    calls = [words for words, _ in scripts.calls()]
    assert [call[2:] for call in calls if call[0] == "gcsfuse"] == [
        ["photos", "/gcs/photos"],
        ["results", "/gcs/results"],
    ]
    service = calls[-1]
    assert service[:2] == ["sudo", "systemd-run"]
    start = service.index("main.py")
    assert service[start - 1] == f"{scripts.home}/venv/bin/python"
    assert service[start + 1 :] == ["--distributed=on", *MOUNTED]
    assert "--property=Restart=on-failure" in service
    assert "--property=RestartPreventExitStatus=2 3" in service


def test_what_workers_are_told_is_sound_shell(dry_run, shellcheck):
    for command in ("install", "run"):
        ssh = dry_run(SCRIPT, command, "pod", *WHERE, *COMMANDS[command])[-1]
        [remote] = [w.removeprefix("--command=") for w in ssh if "--command=" in w]
        shellcheck("-", text=remote, options=["--shell=bash"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "pod", *WHERE, "--", "--workdir=runs/x"), "--workdir=gs://"),
        (("run", "pod", *WHERE, "--", "--workdir=gs://results"), "--workdir=gs://"),
        (("run", "pod", *WHERE, "--", *FLAGS, "--x=gs://A!/b"), "bucket"),
        (("create", "pod", *WHERE, "--type=v9-8"), "--runtime"),
        (("create", "pod", *WHERE), "--type"),
        (("create", "pod", "--type=v5p-8"), "--zone"),
        (("create", "Pod", *WHERE, "--type=v5p-8"), "Pod"),
        (("stop", "pod", *WHERE, "--config=x"), "after --"),
        (("stop", "pod", *WHERE, "--", "--config=x"), "only run"),
        (("fetch", "pod", "--to=x"), "--from"),
        (("launch", "pod", *WHERE), "unknown command launch"),
        ((), "COMMAND"),
    ],
)
def test_mistakes_are_named_before_anything_is_called(scripts, arguments, message):
    result = scripts.run(SCRIPT, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert scripts.calls() == []
