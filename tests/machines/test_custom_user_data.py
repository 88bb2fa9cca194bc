"""User data of the user's own that cannot be carried out are told in a condition, and mended by an edit."""

from __future__ import annotations

from tests.hosting.pretend_server import encoded
from tests.machines.worker_world import WorkerWorld, waiting

REFERENCE = {"customUserDataRef": {"secretRef": {"name": "custom", "key": "data"}}}


def asking(text: bytes) -> WorkerWorld:
    world = waiting(provisioner=REFERENCE).owned().cluster()
    world.base.secret("custom", {"data": text})
    return world


def test_k0smotrons_variables_are_refused_by_name_and_nothing_is_handed_over() -> None:
    world = asking(b"## template: jinja\n#cloud-config\nruncmd: {{ k0smotron_k0sStartCommand }}\n")
    assert "k0smotron_k0sStartCommand" in world.work()
    assert world.why().startswith("False Minting: ")
    assert "CloudInitVars" in world.why()
    assert "take the k0smotron_ variables out" in world.why()
    assert "dataSecretName" not in world.status
    [custom] = [ref for ref in world.base.server.objects if ref.name == "custom"]
    world.edit(custom, lambda body: body.update(data=encoded({"data": b"#cloud-config\npackages: [jq]\n"})))
    assert world.work() == ""
    assert b"packages: [jq]" in world.value
    assert world.why() == "True Ready: "


def test_a_template_of_the_users_own_is_his() -> None:
    text = b"## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n"
    world = asking(text)
    assert world.work() == ""
    assert text in world.value
    assert b"Content-Type: text/jinja2" in world.value
