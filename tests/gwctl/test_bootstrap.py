"""The bootstrap that an Envoy joins with: accepted by a real one, set by structure, and closed where it must be."""

import subprocess
from pathlib import Path

import yaml

from gwctl.bootstrap import SOURCE_TREE, Node, render, template, write
from gwctl.up.process import packaged

NODE = Node(id="envoy-7", admin=("127.0.0.1", 19901), xds=("127.0.0.1", 18000), max_heap=1 << 28, max_connections=1234)


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    envoy = packaged("envoy", "_bin/envoy")
    command = [str(envoy), "--mode", "validate", "-l", "warning", "--use-dynamic-base-id", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_envoy_accepts_it_without_a_warning(tmp_path: Path) -> None:
    done = validate(write(NODE, tmp_path / "envoy" / "bootstrap.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_envoy_accepts_the_shipped_file_as_it_is() -> None:
    assert validate(SOURCE_TREE).returncode == 0


def test_values_are_set_and_the_template_is_left_alone() -> None:
    base = template()
    made = render(NODE, base)
    assert base == template()
    assert made["node"] == {"id": "envoy-7", "cluster": "tollhouse"}
    assert made["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 19901}
    text = yaml.safe_dump(made)
    assert "max_heap_size_bytes: 268435456" in text
    assert "max_active_downstream_connections: 1234" in text
    assert text.count("18000") == 1


def test_a_node_id_cannot_break_out_of_its_value(tmp_path: Path) -> None:
    odd = Node(id='x"\n  cluster: evil #', admin=NODE.admin, xds=NODE.xds)
    written = yaml.safe_load(write(odd, tmp_path / "b.yaml").read_text())
    assert written["node"] == {"id": 'x"\n  cluster: evil #', "cluster": "tollhouse"}


def test_the_admin_interface_only_reads() -> None:
    allowed = [next(iter(path.values())) for path in template()["admin"]["allow_paths"]]
    for path in ("/quitquitquit", "/runtime_modify", "/drain_listeners", "/logging", "/reset_counters", "/cpuprofiler"):
        assert not any(path.startswith(prefix) for prefix in allowed)


def test_the_first_configuration_is_waited_for_and_asked_for_by_delta_ads() -> None:
    dynamic = template()["dynamic_resources"]
    assert dynamic["ads_config"]["api_type"] == "DELTA_GRPC"
    for name in ("cds_config", "lds_config"):
        assert dynamic[name]["initial_fetch_timeout"] == "0s"
