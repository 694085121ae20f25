"""``python -m buildpipelines.worker``: the process that runs other people's build scripts.

It holds no keys and writes below its work folder alone. It ends on SIGTERM, SIGINT, and when the
supervisor does. Exit status: 0 asked to end, 2 bad arguments, 5 this machine cannot build.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.maven_upstream import parse_maven_repository
from buildpipelines.inputs.pipconf import index_settings
from buildpipelines.inputs.registries import parse_registry
from buildpipelines.sandbox.limits import MIB, SandboxLimits
from buildpipelines.spec.messages import SECONDS_MAX
from buildpipelines.worker.contract_client import PipelineAddress, parse_pipeline_address
from buildpipelines.worker.contract_server import ContractServer, parse_address
from buildpipelines.worker.contract_store import ContractStore
from buildpipelines.worker.parent import parent_gone
from buildpipelines.worker.server import BuildLink
from buildpipelines.worker.service import DEFAULT_BUILD_UID, Options, Service, running


def main(argv: list[str] | None = None) -> int:
    """Run a worker until it is told to end; return the exit status."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(arguments))
    except BuildFailure as failure:
        sys.stderr.write(f"this machine cannot build: {failure.detail}\n")
        return 5
    except FormatError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    result = argparse.ArgumentParser(prog="python -m buildpipelines.worker", description=__doc__)
    result.add_argument("--socket", type=Path, required=True, help="where to listen")
    result.add_argument("--work", type=Path, required=True, help="folder for jobs and cache")
    result.add_argument("--index-url", help="upstream index (default: pip's)")
    result.add_argument(
        "--allow-uid", type=int, action="append", default=[], help="user who may connect"
    )
    add_build_options(result)
    add_contract_options(result)
    return result


def add_build_options(result: argparse.ArgumentParser) -> None:
    """Add the options that say how builds run."""
    defaults = SandboxLimits()
    add = result.add_argument
    add("--uid", type=int, default=DEFAULT_BUILD_UID, help="whom builds run as, under root")
    add("--parallel", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="jobs at once")
    add("--memory-mib", type=int, default=defaults.memory_bytes // MIB, help="of one build")
    add("--processes", type=int, default=defaults.processes, help="of one build")
    add("--seconds", type=float, default=defaults.seconds, help="longest build")
    add("--idle-seconds", type=float, default=defaults.idle_seconds, help="longest silence")
    add("--build-mib", type=int, default=defaults.build_bytes // MIB, help="files of one build")
    add("--registry", action="append", default=[], metavar="HOST=URL", help="of images")
    add(
        "--private-registry",
        action="append",
        default=[],
        metavar="HOST=URL",
        help="the same, at a private address",
    )
    for name, what in (("maven-repository", "of artifacts"), ("private-maven-repository", "near")):
        add(f"--{name}", action="append", default=[], metavar="ID=URL", help=f"repository {what}")
    add(
        "--private-source",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="machine at a private address that sources may come from",
    )
    add("--log-mib", type=int, default=defaults.log_bytes // MIB, help="log of one build")
    asked = result.add_mutually_exclusive_group()
    asked.add_argument("--external-pipeline", metavar="URL", help="another's pipeline to ask")
    asked.add_argument("--private-external-pipeline", metavar="URL", help="at a private address")


def add_contract_options(result: argparse.ArgumentParser) -> None:
    """Add the options that say where the pipeline contract is served."""
    add = result.add_argument
    add("--contract-socket", type=Path, help="where the pipeline contract is served")
    add("--contract-listen", metavar="ADDRESS:PORT", help="and where else; a near address")


def build_options(arguments: argparse.Namespace) -> Options:
    """Return how builds run."""
    return Options(
        work=arguments.work.absolute(),
        index=index_settings(index_url=arguments.index_url),
        limits=SandboxLimits(
            seconds=arguments.seconds,
            idle_seconds=arguments.idle_seconds,
            build_bytes=arguments.build_mib * MIB,
            log_bytes=arguments.log_mib * MIB,
            memory_bytes=arguments.memory_mib * MIB,
            processes=arguments.processes,
        ),
        uid=arguments.uid,
        parallel=arguments.parallel,
        external=_external(arguments),
        maven_repositories=(
            *(parse_maven_repository(text) for text in arguments.maven_repository),
            *(
                parse_maven_repository(text, is_private=True)
                for text in arguments.private_maven_repository
            ),
        ),
        private_sources=tuple(arguments.private_source),
        certificates=Path(path) if (path := os.environ.get("SSL_CERT_FILE")) else None,
        registries=(
            *(parse_registry(text) for text in arguments.registry),
            *(parse_registry(text, is_private=True) for text in arguments.private_registry),
        ),
    )


def _external(arguments: argparse.Namespace) -> PipelineAddress | None:
    if arguments.private_external_pipeline is not None:
        return parse_pipeline_address(arguments.private_external_pipeline, is_private=True)
    if arguments.external_pipeline is not None:
        return parse_pipeline_address(arguments.external_pipeline)
    return None


async def serve(arguments: argparse.Namespace) -> None:
    """Serve the build link until a signal or the parent's end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    gone = asyncio.create_task(parent_gone())
    gone.add_done_callback(lambda _: told.set())
    allowed = frozenset({0, os.getuid(), *arguments.allow_uid})
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(build_options(arguments)))
        await _serve_contract(stack, service, arguments, allowed)
        # Last: whoever sees this socket finds everything else ready.
        link = BuildLink(service, allowed_uids=allowed)
        await stack.enter_async_context(link.listening(arguments.socket))
        await told.wait()
    gone.cancel()


async def _serve_contract(
    stack: contextlib.AsyncExitStack,
    service: Service,
    arguments: argparse.Namespace,
    allowed: frozenset[int],
) -> None:
    """Serve the pipeline contract as well, where that is wanted."""
    listen = arguments.contract_listen
    if arguments.contract_socket is None and listen is None:
        return
    store = await asyncio.to_thread(ContractStore, arguments.work.absolute() / "contract")
    seconds_max = max(1, min(int(arguments.seconds), SECONDS_MAX))
    server = ContractServer(service, store, seconds_max=seconds_max, allowed_uids=allowed)
    address = None if listen is None else parse_address(listen)
    await stack.enter_async_context(server.listening(arguments.contract_socket, address))


if __name__ == "__main__":
    sys.exit(main())
