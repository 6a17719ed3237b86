#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config/docker and config/helm: what can be said of them without an engine and without a cluster.  Speaks TAP.

Templates are rendered by Go's text/template and sprig, which Helm is made of, and not by Helm itself.  With
CHATD_FULL=1 (./dev test --all) the chart is rendered and validated and the image is built; otherwise only what
needs no big packages runs."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CHART = os.path.join(ROOT, "config", "helm", "chatd")
DOCKER = os.path.join(ROOT, "config", "docker")
FULL = os.environ.get("CHATD_FULL") == "1"
WORK = tempfile.mkdtemp(prefix="chatd-deploy-")
RENDER = os.path.join(WORK, "helmrender")
CASES = []
SECRET = ("-set", "existingSecret=chatd")


class Skip(Exception):
    pass


def case(needs=(), full=False):
    def keep(fn):
        CASES.append((fn, needs, full))
        return fn
    return keep


def run(*command, rc=0, **how):
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, **how)
    if rc is not None:
        assert done.returncode == rc, "%s: exit code %d\n%s\n%s" % (" ".join(command)[:300], done.returncode,
                                                                    done.stdout[-3000:], done.stderr[-3000:])
    return done


# ---- docker-compose -----------------------------------------------------------------------------

@case(needs=["docker-compose"])
def the_compose_file_is_good():
    run("docker-compose", "--env-file", "env.example", "config", "-q", cwd=DOCKER)
    text = run("docker-compose", "--env-file", "env.example", "config", cwd=DOCKER).stdout
    for i in (1, 2, 3):
        assert "--set=server.server_id=node%d" % i in text
    assert "no-new-privileges" in text and "read_only: true" in text


@case(needs=["docker-compose"])
def the_compose_file_wants_passwords():
    empty = os.path.join(WORK, "empty")
    open(empty, "w").close()
    done = run("docker-compose", "--env-file", empty, "config", "-q", cwd=DOCKER, rc=None)
    assert done.returncode != 0 and "see env.example" in done.stdout + done.stderr, done


def secrets():
    return {"CHATD_POSTGRES_URL": "postgresql://chatd@db/chatd", "CHATD_RABBITMQ_PASSWORD": "x" * 12,
            "CHATD_REDIS_PASSWORD": "x" * 12, "CHATD_CLUSTER_KEY": "c" * 32, "CHATD_JWT_KEY": "k" * 48}


def check_config(*settings):
    """chatd itself reads what a container would be started with."""
    chatd = os.path.join(os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build")), "bin", "chatd")
    if "store-postgres" not in run(chatd, "--list-plugins").stdout:
        raise Skip("the plugin store-postgres is not built")
    run(chatd, "-c", os.path.join(ROOT, "config", "cluster.yaml"), "--check", *settings,
        env={**os.environ, **secrets()})


@case(needs=["docker-compose"])
def chatd_takes_the_command_lines_of_the_compose_file():
    text = run("docker-compose", "--env-file", "env.example", "config", cwd=DOCKER).stdout
    check_config(*sorted(set(re.findall(r"--set=[^'\n]+", text))))


# ---- the chart -------------------------------------------------------------------------------------

def render(*args, rc=0, chart=CHART):
    return run(RENDER, "-strict", *SECRET, *args, "demo", chart, rc=rc)


def validate(text, rc=0):
    path = os.path.join(WORK, "out.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return run("node", os.path.join(HERE, "kvalidate.mjs"), path, rc=rc, cwd=HERE)


def documents(text):
    """By kind and name, read by node: Python's library has no YAML."""
    js = "import Y from 'yaml'; import fs from 'node:fs'; console.log(JSON.stringify(Y.parseAllDocuments(" \
         "fs.readFileSync(0,'utf8')).map(d => d.toJS()).filter(Boolean)))"
    done = run("node", "--input-type=module", "-e", js, input=text, cwd=HERE)
    return {"%s/%s" % (d["kind"], d["metadata"]["name"]): d for d in json.loads(done.stdout)}


@case(needs=["go", "npm", "node"], full=True)
def the_tools_can_be_built():
    run("go", "build", "-o", RENDER, "./helmrender", cwd=HERE, env={**os.environ, "GO111MODULE": "off",
                                                                    "GOPATH": "/usr/share/gocode"})
    if not os.path.exists(os.path.join(HERE, "node_modules", ".package-lock.json")):
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=HERE)


VARIANTS = {
    "as it comes": [],
    "with everything": ["-set", "ingress.enabled=true", "-set", "ingress.tlsSecret=chat-tls", "-set",
                        "autoscaling.enabled=true", "-api", "monitoring.coreos.com/v1", "-set",
                        "ingress.annotations={a.b/c: d}", "-set", "podAnnotations={a: b}", "-set", "tolerations=[{operator: Exists}]",
                        "-set", "networkPolicy.ingressFrom=[{namespaceSelector: {matchLabels: {a: b}}}]",
                        "-set", "imagePullSecrets=[{name: regcred}]", "-set", "priorityClassName=high",
                        "-set", "extraEnv=[{name: TZ, value: UTC}]"],
    "stickiness by hash": ["-set", "ingress.enabled=true", "-set", "ingress.stickiness=hash"],
    "another ingress controller": ["-set", "ingress.enabled=true", "-set", "ingress.stickiness=none", "-set",
                                   "ingress.className=traefik"],
    "as little as possible": ["-set", "metrics.enabled=false", "-set", "networkPolicy.enabled=false", "-set",
                              "podDisruptionBudget.enabled=false", "-set", "serviceAccount.create=false"],
    "settings of one's own": ["-set", "settings={server.log_level: debug, limit-rate.enabled: false}"],
}


@case(needs=["node"], full=True)
def each_variant_is_rendered_and_strictly_valid():
    for name, args in VARIANTS.items():
        done = validate(render(*args).stdout)
        print("# %s: %s" % (name, done.stdout.strip()))
        run("node", os.path.join(HERE, "schema.mjs"), os.path.join(CHART, "values.schema.json"), cwd=HERE,
            input=run(RENDER, "-values", *SECRET, *args, "demo", CHART).stdout)
        assert "demo-chatd" in run(RENDER, "-strict", "-notes", *SECRET, *args, "demo", CHART).stdout


@case(needs=["node"], full=True)
def what_the_chart_promises_is_there():
    all_ = documents(render(*VARIANTS["with everything"]).stdout)
    pod = all_["StatefulSet/demo-chatd"]["spec"]["template"]
    spec, box = pod["spec"], pod["spec"]["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"]["readOnlyRootFilesystem"] and box["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["terminationGracePeriodSeconds"] == 40, spec["terminationGracePeriodSeconds"]
    assert box["lifecycle"]["preStop"]["exec"]["command"][-1] == "drain"
    assert "--set=server.server_id=$(POD_NAME)" in box["args"] and "checksum/config" in pod["metadata"]["annotations"]
    assert all_["StatefulSet/demo-chatd"]["spec"]["serviceName"] == "demo-chatd-nodes"
    assert all_["Service/demo-chatd-nodes"]["spec"]["clusterIP"] == "None"
    assert "replicas" not in all_["StatefulSet/demo-chatd"]["spec"], "the autoscaler decides"
    assert {k.split("/")[0] for k in all_} == {"StatefulSet", "Service", "ConfigMap", "ServiceAccount", "Ingress", "NetworkPolicy",
                                               "PodDisruptionBudget", "HorizontalPodAutoscaler", "ServiceMonitor"}
    out = [p["port"] for to in all_["NetworkPolicy/demo-chatd"]["spec"]["egress"] for p in to["ports"]]
    assert {443, 5432, 5672, 6379} <= set(out), "push, webhooks and the back ends that cluster.yaml has: %s" % out
    assert not any(k.startswith("ServiceMonitor") for k in documents(render().stdout))
    sticky = all_["Ingress/demo-chatd-sockjs"]["metadata"]["annotations"]
    assert sticky["nginx.ingress.kubernetes.io/affinity"] == "cookie"
    hashed = documents(render(*VARIANTS["stickiness by hash"]).stdout)["Ingress/demo-chatd-sockjs"]["metadata"]["annotations"]
    assert hashed["nginx.ingress.kubernetes.io/upstream-hash-by"] == "$chatd_session"
    with open(os.path.join(ROOT, "config", "cluster.yaml"), encoding="utf-8") as f:
        assert all_["ConfigMap/demo-chatd"]["data"]["cluster.yaml"].strip() == f.read().strip()
    debug = documents(render(*VARIANTS["settings of one's own"]).stdout)["StatefulSet/demo-chatd"]
    assert "--set=server.log_level=debug" in debug["spec"]["template"]["spec"]["containers"][0]["args"]
    one = documents(render("-set", "rabbitmq.vhost=/a").stdout)["StatefulSet/demo-chatd"]["spec"]["template"]["metadata"]
    other = documents(render("-set", 'config="server: {}"').stdout)["StatefulSet/demo-chatd"]["spec"]["template"]["metadata"]
    assert one["annotations"]["checksum/config"] != other["annotations"]["checksum/config"]


@case(needs=["node"], full=True)
def chatd_takes_the_arguments_of_the_chart():
    pod = documents(render().stdout)["StatefulSet/demo-chatd"]["spec"]["template"]["spec"]["containers"][0]
    check_config(*[a.replace("$(POD_NAME)", "demo-chatd-0") for a in pod["args"] if a.startswith("--set=")])


@case(needs=["node"], full=True)
def broken_manifests_are_refused():
    good = render().stdout
    broken = {
        "an unknown field": good.replace("      terminationGracePeriodSeconds:", "      terminationGracePeriod:"),
        "a wrong type": good.replace("  maxUnavailable: 1", "  maxUnavailable: {}"),
        "a removed API": good.replace("policy/v1\n", "policy/v1beta1\n"),
        "a missing field": good.replace("  serviceName: demo-chatd-nodes\n", "").replace("  selector:\n    matchLabels:", "  selektor:\n    matchLabels:"),
        "a bad enum": good.replace("type: ClusterIP", "type: ClusterIp"),
        "two of a name": good + "\n---\n" + good,
        "a key twice": good.replace("podManagementPolicy: Parallel", "podManagementPolicy: Parallel\n  podManagementPolicy: Parallel"),
    }
    for what, text in broken.items():
        assert text != good, what
        validate(text, rc=1)


@case(needs=["node"], full=True)
def broken_charts_and_values_are_refused():
    copy = os.path.join(WORK, "chart")
    for name, old, new in (("templates/service.yaml", "{{ .Values.service.port }}", "{{ .Values.service.prot }}"),
                           ("templates/service.yaml", "{{ .Values.service.type }}", "{{ .Values.service.type "),
                           ("templates/pdb.yaml", "include \"chatd.labels\"", "include \"chatd.lables\""),
                           ("values.yaml", "replicaCount: 3", "replicaCount: 3\nreplicaCount: 4")):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(CHART, copy)
        path = os.path.join(copy, name)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        assert old in text, (name, old)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new, 1))
        render(chart=copy, rc=1)
    run(RENDER, "-strict", "demo", CHART, rc=1)  # without a secret
    for wrong in ("replicaCount=0", "replicas=3", "existingSecret=", "service.type=Cluster", "rabbitmq.addresses=[]",
                  "redis.addresses=[redis]", "ingress.stickiness=ip", "settings={nonsense: 1}", "drain.slackSeconds=1"):
        values = run(RENDER, "-values", *SECRET, "-set", wrong, "demo", CHART).stdout
        done = run("node", os.path.join(HERE, "schema.mjs"), os.path.join(CHART, "values.schema.json"), input=values,
                   cwd=HERE, rc=None)
        assert done.returncode == 1, wrong


@case(needs=["yamllint"], full=True)
def the_yaml_files_are_tidy():
    rules = "{extends: relaxed, rules: {line-length: disable, indentation: disable, commas: disable}}"
    run("yamllint", "-d", rules, os.path.join(CHART, "values.yaml"), os.path.join(CHART, "Chart.yaml"),
        os.path.join(DOCKER, "docker-compose.yml"), *(os.path.join(ROOT, "config", n) for n in ("chat.yaml", "cluster.yaml")))


# ---- the image ----------------------------------------------------------------------------------------

@case(needs=["buildah", "mmdebstrap"], full=True)
def the_image_can_be_built_and_runs():
    if os.getuid() != 0:
        raise Skip("building an image needs root here")
    base = ["buildah", "--root", os.path.join(WORK, "st"), "--runroot", os.path.join(WORK, "rr"), "--storage-driver", "vfs"]
    tar = os.path.join(WORK, "rootfs.tar")
    run("mmdebstrap", "--mode=root", "--variant=minbase", "--include=ca-certificates", "bookworm", tar)
    c = run(*base, "from", "scratch").stdout.strip()
    run(*base, "add", "-q", c, tar, "/")
    run(*base, "config", "--cmd", "/bin/bash", c)
    run(*base, "commit", "-q", "--rm", c, "docker.io/library/debian:bookworm-slim")
    run(*base, "bud", "--pull-never", "--isolation=chroot", "--network=host", "--format", "docker", "--ignorefile",
        os.path.join(DOCKER, "Dockerfile.dockerignore"), "-f", os.path.join(DOCKER, "Dockerfile"), "-t", "chatd:test", ROOT)
    c = run(*base, "from", "--pull-never", "chatd:test").stdout.strip()
    inside = [*base, "run", "--isolation=chroot", c, "--"]
    assert run(*inside, "/usr/bin/id", "-u").stdout.strip() == "10001"
    assert "chatd 0." in run(*inside, "/usr/bin/chatd", "--version").stdout
    assert "good" in run(*inside, "/usr/bin/chatd", "--check", "-c", "/etc/chatd/chat.yaml").stdout
    out = run(*inside, "/usr/bin/chatd", "--list-plugins").stdout
    assert "cannot" not in out and "admin" in out, out
    size = run(*base, "images", "--format", "{{.Size}}", "chatd:test").stdout.strip()
    print("# %d plugins; the image has %s" % (len(out.splitlines()), size))


# ---- running ---------------------------------------------------------------------------------------------

def main():
    failed = 0
    print("1..%d" % len(CASES))
    for i, (fn, needs, full) in enumerate(CASES, 1):
        name = fn.__name__.replace("_", " ")
        missing = [n for n in needs if not shutil.which(n)]
        try:
            if full and not FULL:
                raise Skip("with CHATD_FULL=1")
            if missing:
                if os.environ.get("CI") == "true":
                    raise AssertionError("%s is missing; ./dev deps all installs it" % ", ".join(missing))
                raise Skip("no " + ", ".join(missing))
            fn()
            print("ok %d - %s" % (i, name), flush=True)
        except Skip as why:
            print("ok %d - %s # skip %s" % (i, name, why), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, name))
            print("".join("# " + x + "\n" for x in traceback.format_exc().splitlines()), flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    return 1 if failed else 0


sys.exit(main())
