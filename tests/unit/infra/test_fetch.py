import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from infra.stacks import REPOSITORY
from tests.kit.aws import Account

BUCKET = "clickstream-assets"


@pytest.fixture
def fetch(aws: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program of the host, with the folders of another place."""
    spec = importlib.util.spec_from_file_location("fetch", REPOSITORY / "infra" / "stacks" / "boot" / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / "etc" / "host.env")
    monkeypatch.setattr(module, "SOURCE", tmp_path / "opt")
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    tell(aws, "/clickstream/host-environment", "HOST_ADDRESS=10.20.0.10\n")
    return module


def tell(aws: Account, name: str, value: str) -> None:
    aws.client("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


def release(aws: Account, tmp_path: Path, name: str, files: dict[str, int]) -> None:
    """Deploy a source with files of such modes."""
    folder = tmp_path / name
    for path, mode in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, encoding="utf-8")
        file.chmod(mode)
    archive = shutil.make_archive(str(folder), "zip", folder)
    aws.client("s3").upload_file(archive, BUCKET, f"{name}.zip")
    tell(aws, "/clickstream/source", f"s3://{BUCKET}/{name}.zip")


def test_a_host_gets_the_environment_and_the_source_with_its_modes(
    fetch: ModuleType, aws: Account, tmp_path: Path
) -> None:
    release(aws, tmp_path, "first", {"docker/host/start": 0o755, "requirements.txt": 0o644})
    fetch.main()
    assert (tmp_path / "etc" / "host.env").read_text(encoding="utf-8") == "HOST_ADDRESS=10.20.0.10\n"
    assert (tmp_path / "opt" / "docker" / "host" / "start").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "opt" / "requirements.txt").stat().st_mode & 0o777 == 0o644


def test_another_release_replaces_the_source_whole(fetch: ModuleType, aws: Account, tmp_path: Path) -> None:
    release(aws, tmp_path, "first", {"gone.txt": 0o644, "stays.txt": 0o644})
    fetch.main()
    release(aws, tmp_path, "second", {"stays.txt": 0o644})
    fetch.main()
    assert not (tmp_path / "opt" / "gone.txt").exists()
    assert (tmp_path / "opt" / "stays.txt").read_text(encoding="utf-8") == "second"
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")} == set()


def test_the_same_release_is_left_alone(fetch: ModuleType, aws: Account, tmp_path: Path) -> None:
    release(aws, tmp_path, "first", {"file.txt": 0o644})
    fetch.main()
    aws.client("s3").delete_object(Bucket=BUCKET, Key="first.zip")
    fetch.main()
    assert (tmp_path / "opt" / "file.txt").read_text(encoding="utf-8") == "first"
