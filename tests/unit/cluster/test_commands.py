"""The check of the manuals' commands takes right ones and finds wrong ones."""

import shlex

import pytest

from tests.support.commands import takes

RIGHT = """
kubectl get raycluster,pods
kubectl apply -k cluster/kuberay/overlays/gpu
kubectl apply -k cluster/kuberay/my-site/cluster
kubectl patch cronjob fsf-night --patch '{"spec": {"suspend": true}}'
kubectl create job fsf-first --from cronjob/fsf-night
kubectl get secret fsf --output jsonpath='{.data.auth_token}' | base64 --decode
export TOKEN="$(kubectl get secret fsf | base64 --decode)" RAY_AUTH_MODE=token
ray job list --address http://localhost:8265
ray job submit --address http://HEAD:8265 --working-dir . -- python -m jobs.score --bundle b --manifest m --out o
ray start --head --port 6379
fsf submit --address http://HEAD:8265 -- score --bundle b --manifest m --out o
fsf score --bundle b --manifest m --out o --log-format json
fsf submit --log-format json --address http://HEAD:8265 -- score --bundle b --manifest m --out o --log-format json
promtool test rules cluster/monitoring/rules-test.yaml
prometheus --config.file=cluster/monitoring/prometheus.yaml
docker build -f cluster/image/Dockerfile -t fsf:0.1.0-gpu --build-arg VARIANT=gpu .
helm install kuberay-operator kuberay/kuberay-operator --version 1.7.0 --namespace kuberay --create-namespace
cp -r cluster/kuberay/site cluster/kuberay/my-site
""".strip().splitlines()

WRONG = """
kubectl get pods --everything
kubectl gett pods
kubectl get raycluster,pods --watch
kubectl apply -k cluster/kuberay/overlays/tpu
kubectl create job fsf-first --of cronjob/fsf-night
kubectl get secret fsf | base46 --decode
export TOKEN="$(kubectl gett secret fsf)"
export RAY-AUTH-MODE=token
ray jobs list
ray job list --adress http://localhost:8265
ray job submit --address http://HEAD:8265 -- python -m jobs.score --bundel b --manifest m --out o
ray job submit --address http://HEAD:8265 -- python -m jobs.scores
ray up cluster/ray-up/moon.yaml
fsf submit --address http://HEAD:8265 -- score --bundel b --manifest m --out o
fsf score --bundle b --manifest m --out o --log-format yaml
promtool test rules cluster/monitoring/rule-test.yaml
promtool tests rules cluster/monitoring/rules-test.yaml
prometheus --config=cluster/monitoring/prometheus.yaml
fsf submit --adress http://HEAD:8265 -- score --bundle b --manifest m --out o
docker build -f cluster/image/Dockerfile --build-arg VARIANTS=gpu .
docker build -f cluster/image/Dockerfil .
helm install kuberay-operator
cp -r cluster/kuberay/sites cluster/kuberay/my-site
terraform apply
promtool check config cluster/monitoring/moon.yaml
prometheus --config.files=cluster/monitoring/prometheus.yaml
prometheus --config.file=cluster/monitoring/moon.yaml
""".strip().splitlines()


@pytest.mark.parametrize("command", RIGHT)
def test_a_command_that_its_program_understands_is_taken(command: str) -> None:
    assert takes(shlex.split(command))


@pytest.mark.parametrize("command", WRONG)
def test_a_command_that_its_program_would_refuse_is_found(command: str) -> None:
    try:
        taken = takes(shlex.split(command))
    except BaseException:  # noqa: BLE001 - of any parser
        taken = False

    assert not taken
