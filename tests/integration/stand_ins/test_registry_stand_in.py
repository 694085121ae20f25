"""The registry that tests mirror is a real one: what it stores, wants, and wrote down."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.fakes.images import Recipe, busybox_image, large_image, two_platforms, write_layout
from tests.fakes.registries import (
    PASSWORD,
    USER,
    debian_registry,
    push,
    registry_with_password,
    registry_with_tokens,
    token_server,
)

EVERYTHING = {
    "Accept": "application/vnd.oci.image.manifest.v1+json,application/vnd.oci.image.index.v1+json,"
    "application/vnd.docker.distribution.manifest.v2+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json"
}


@pytest.mark.parametrize("style", ["oci", "docker"])
def test_registry_takes_and_gives_an_image_of_two_platforms(tmp_path: Path, style: str) -> None:
    image = two_platforms(Recipe(style="oci" if style == "oci" else "docker"))
    with debian_registry(tmp_path / "registry") as registry:
        assert registry.push(image, "library/alpine", "3.20", "latest") == image.digest
        path = f"{registry.url}/v2/library/alpine/manifests/3.20"
        answer = httpx.get(path, headers=EVERYTHING)
        assert answer.headers["Docker-Content-Digest"] == image.digest
        assert answer.headers["Content-Type"] == image.root.media
        assert answer.content == image.root.data


def test_registry_comes_back_at_its_address_with_what_it_had(tmp_path: Path) -> None:
    image = busybox_image()
    with debian_registry(tmp_path / "registry") as registry:
        registry.push(image, "library/alpine", "3.20")
        url = registry.url
        registry.stop()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/v2/")
        registry.forget_asked()
        registry.start()
        assert registry.url == url
        path = f"{url}/v2/library/alpine/manifests/3.20"
        assert httpx.head(path, headers=EVERYTHING).status_code == 200
        registry.stop()
        assert registry.asked() == [("HEAD", "/v2/library/alpine/manifests/3.20", 200)]


def test_registry_takes_an_image_back(tmp_path: Path) -> None:
    image = busybox_image()
    with debian_registry(tmp_path / "registry") as registry:
        registry.push(image, "library/alpine", "3.20")
        registry.delete("library/alpine", image.digest)
        path = f"{registry.url}/v2/library/alpine/manifests/3.20"
        assert httpx.get(path, headers=EVERYTHING).status_code == 404


def test_registry_with_password_lets_nobody_else_in(tmp_path: Path) -> None:
    image = busybox_image()
    with registry_with_password(tmp_path / "registry") as registry:
        challenge = httpx.get(f"{registry.url}/v2/")
        assert challenge.status_code == 401
        assert challenge.headers["WWW-Authenticate"] == 'Basic realm="tests"'
        push(image, registry.url, "team/app", "1", auth=(USER, PASSWORD))
        path = f"{registry.url}/v2/team/app/manifests/1"
        assert httpx.get(path, headers=EVERYTHING).status_code == 401
        asked = httpx.get(path, headers=EVERYTHING, auth=(USER, PASSWORD))
        assert asked.headers["Docker-Content-Digest"] == image.digest


def test_skopeo_gets_through_the_token_server_in_and_out(tmp_path: Path) -> None:
    image = two_platforms()
    layout = write_layout(tmp_path / "layout", image, "1")
    words = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests"]
    with (
        token_server() as tokens,
        registry_with_tokens(tmp_path / "registry", tokens) as registry,
    ):
        place = f"docker://{registry.host}/team/app:1"
        pushing = ["--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}"]
        subprocess.run([*words, *pushing, f"oci:{layout}:1", place], check=True, timeout=30)
        pulling = ["--src-tls-verify=false", "--src-no-creds"]
        copied = f"oci:{tmp_path / 'copied'}:1"
        subprocess.run([*words, *pulling, place, copied], check=True, timeout=30)
        assert ("repository:team/app:pull", "") in tokens.asked
        assert ("repository:team/app:pull,push", USER) in tokens.asked
    blob = tmp_path / "copied" / "blobs" / "sha256" / image.digest.removeprefix("sha256:")
    assert blob.read_bytes() == image.root.data


def test_private_token_server_gives_a_stranger_nothing() -> None:
    with token_server(is_public=False) as tokens:
        wanted = {"service": tokens.service, "scope": "repository:team/app:pull"}
        assert httpx.get(tokens.realm, params=wanted).status_code == 401
        given = httpx.get(tokens.realm, params=wanted, auth=(USER, PASSWORD))
        assert given.json()["token"].count(".") == 2


def test_images_are_the_same_bytes_each_time_and_other_words_another_digest() -> None:
    assert two_platforms(Recipe("a")).digest == two_platforms(Recipe("a")).digest
    assert two_platforms(Recipe("a")).digest != two_platforms(Recipe("b")).digest
    assert large_image(3_000_000).digest == large_image(3_000_000).digest
    assert large_image(3_000_000).size > 5_000_000
