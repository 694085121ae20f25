"""How the build worker is started so that it can never read the node's keys.

Run as root, the node gives the worker a user of its own, without capabilities, and control groups
to divide among its builds. Run as anybody else, it gives the worker a user namespace, from which
processes of the same user cannot be looked into. Either way the worker sees, of the whole data
directory, its own folder only. docs/design/threat-model.md names the tests.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import buildpipelines
from pyrsia_node.cli.children import ChildSpec
from pyrsia_node.cli.visibility import Need, mount_arguments
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import WORKER_UID_DEFAULT, BuildSection
from pyrsia_node.schema.upstreams import RegistryUpstream

_PASSED_ON: Final = (
    "PIP_CERT",
    "PIP_INDEX_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
)
"""What the worker needs to reach its upstream. Nothing else of our environment reaches it."""

_CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_DIR", "SSL_CERT_FILE")
"""Of those, files and folders that the worker must be able to open."""

_MIB: Final = 1024 * 1024
_STOP_TIMEOUT_S: Final = 12.0


def worker_uid(config: Config) -> int | None:
    """Return the user that the worker runs as, or None where it must run as our own.

    Raises:
        InvalidInputError: ``build.user`` is nobody here, or is root.
    """
    if os.geteuid() != 0:
        return None
    user = config.build.user
    try:
        uid = WORKER_UID_DEFAULT if not user else _uid_of(user)
    except KeyError:
        raise InvalidInputError(
            f'build.user = "{user}"; allowed: "", a user of this system, or a numeric user id'
        ) from None
    if uid == 0:
        raise InvalidInputError(
            f'build.user = "{user}"; allowed: any user but root: builds run other people\'s code'
        )
    return uid


def prepare_build_folder(layout: Layout, uid: int | None) -> None:
    """Make the worker's folders and give them to its user."""
    for folder in (layout.build, layout.build_jobs):
        folder.mkdir(mode=0o700, exist_ok=True)
        if uid is not None:
            os.chown(folder, uid, uid, follow_symlinks=False)


def worker_spec(
    layout: Layout,
    build: BuildSection,
    environment: Mapping[str, str],
    *,
    uid: int | None,
    cgroups: tuple[Path, ...] = (),
    upstreams: tuple[RegistryUpstream, ...] = (),
    repositories: tuple[MavenUpstream, ...] = (),
) -> ChildSpec:
    """Return how to start the worker of the node in ``layout``, an absolute path.

    Args:
        layout: the node's data directory.
        build: the limits of its builds.
        environment: ours, of which little is passed on.
        uid: as :func:`worker_uid` says.
        cgroups: groups to join first.
        upstreams: registries that it may fetch images from; ``*`` is none that it can be told.
        repositories: those of Maven that builds may use, in this order.

    Raises:
        NotFoundError: bubblewrap is not installed.
    """
    worker = ["-m", "buildpipelines.worker", "--socket", str(layout.build_socket)]
    worker += ["--work", str(layout.build_jobs), "--parallel", str(build.parallel)]
    worker += ["--memory-mib", str(build.memory_bytes_max // _MIB)]
    worker += ["--seconds", str(build.seconds_max)]
    worker += _contract_arguments(layout, build)
    for upstream in upstreams:
        if upstream.url:
            option = "--private-registry" if upstream.allow_private else "--registry"
            worker += [option, f"{upstream.host}={upstream.url}"]
    worker += _maven_arguments(build, repositories)
    spec = isolated_spec(layout, worker, environment, uid=uid, cgroups=cgroups)
    if uid is None:
        return spec  # Nobody here may give out user ids: then it builds packages alone.
    # Only root can make the user namespace that builds of images need; the worker inherits it.
    ids = Path(buildpipelines.__path__[0]) / "sandbox" / "ids.py"
    prefix = [sys.executable, "-I", "-S", str(ids), "--uid", str(uid), "--"]
    return dataclasses.replace(spec, command=[*prefix, *spec.command])


def _maven_arguments(build: BuildSection, repositories: tuple[MavenUpstream, ...]) -> list[str]:
    """Return which repositories, and which private sources, a build of an artifact may use."""
    arguments: list[str] = []
    for repository in repositories:
        # Members compare what they fetched, so a repository that needs a password is of no use;
        # and every user of this machine could read it among the arguments of a process.
        if repository.is_public:
            option = (
                "--private-maven-repository" if repository.allow_private else "--maven-repository"
            )
            arguments += [option, f"{repository.id}={repository.url}"]
    for host in build.private_sources:
        arguments += ["--private-source", host]
    return arguments


def _contract_arguments(layout: Layout, build: BuildSection) -> list[str]:
    """Return where the worker answers the pipeline contract, and whom it asks by it."""
    arguments = ["--contract-socket", str(layout.contract_socket)]
    if build.contract_listen:
        arguments += ["--contract-listen", build.contract_listen]
    if build.external:
        is_private = build.external_private
        option = "--private-external-pipeline" if is_private else "--external-pipeline"
        arguments += [option, build.external]
    return arguments


def isolated_spec(
    layout: Layout,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    uid: int | None,
    cgroups: tuple[Path, ...] = (),
) -> ChildSpec:
    """Return how to start a Python program where, and as whom, the worker runs.

    Args:
        layout: the node's data directory, an absolute path.
        command: the program, as arguments of Python.
        environment: ours, of which little is passed on.
        uid: as :func:`worker_uid` says.
        cgroups: groups to join first.

    Raises:
        NotFoundError: bubblewrap is not installed.
    """
    arguments: list[str] = []
    if cgroups:
        enter = Path(__file__).with_name("enter_cgroups.py")
        arguments += [sys.executable, "-I", "-S", str(enter), *map(str, cgroups), "--"]
    arguments += [_program("bwrap"), "--dev-bind", "/", "/", "--die-with-parent"]
    if uid is None:
        # Our own processes are not in this user namespace: /proc shows the worker nothing of them.
        arguments += ["--unshare-user", "--cap-drop", "ALL"]
    arguments += mount_arguments(layout.root, _needs(layout, environment), _enterable_by(uid))
    arguments += ["--chdir", str(layout.build), "--"]
    if uid is not None:
        arguments += [_program("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        arguments += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
    arguments += [sys.executable, *command]
    return ChildSpec(
        name="worker",
        command=arguments,
        environment=_environment(layout, environment),
        folder=layout.root,
        stop_timeout_s=_STOP_TIMEOUT_S,
    )


def _needs(layout: Layout, environment: Mapping[str, str]) -> list[Need]:
    # Python with its packages, and our one package: the worker imports nothing else of ours.
    readable = {Path(sys.prefix), Path(sys.base_prefix), *map(Path, buildpipelines.__path__)}
    # Certificates may lie in a folder of their owner's alone, as a home is.
    named = (Path(environment[name]) for name in _CERTIFICATES if environment.get(name))
    readable |= {path for path in named if path.is_absolute() and path.exists()}
    return [Need(layout.build, is_writable=True), *map(Need, sorted(readable))]


def _environment(layout: Layout, environment: Mapping[str, str]) -> dict[str, str]:
    passed_on = {name: environment[name] for name in _PASSED_ON if name in environment}
    return {
        "HOME": str(layout.build),
        "LANG": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        **passed_on,
    }


def _enterable_by(uid: int | None) -> Callable[[Path], bool]:
    def may_enter(folder: Path) -> bool:
        if uid is None:
            return True  # It is our own user, and we are here.
        status = folder.stat()
        needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
        return bool(status.st_mode & needed)

    return may_enter


def _uid_of(user: str) -> int:
    return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid


def _program(name: str) -> str:
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise NotFoundError(
            f"{name} is not installed, and builds need it; install it, or set build.enabled = false"
        )
    return path
