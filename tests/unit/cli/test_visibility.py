"""What is hidden stays hidden, whatever has to be shown around it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.cli.visibility import Need, mount_arguments

names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=5).map(lambda parts: Path("/", *parts))


def operations(arguments: list[str]) -> list[tuple[str, Path]]:
    """Read the arguments as bubblewrap does: in order, later ones cover earlier ones."""
    found, rest = [], list(arguments)
    while rest:
        match rest:
            case ["--perms", "0755", "--tmpfs", path, *rest]:
                found.append(("empty", Path(path)))
            case ["--perms", "0755", "--dir", _path, *rest]:
                pass  # An empty folder where none is, and nothing where one is.
            case [("--bind" | "--ro-bind") as kind, source, path, *rest]:
                assert source == path
                found.append((kind, Path(path)))
            case _:
                raise AssertionError(rest)
    return found


def is_real(path: Path, done: list[tuple[str, Path]]) -> bool:
    """Tell whether the real ``path`` can be seen after all operations."""
    real = True
    for kind, folder in done:
        if path.is_relative_to(folder):
            real = kind != "empty"
    return real


@given(
    hidden=paths,
    needs=st.lists(paths, max_size=4, unique=True),
    closed=st.sets(paths, max_size=4),
    secret=names,
)
def test_of_what_is_hidden_only_the_needs_are_seen(
    hidden: Path, needs: list[Path], closed: set[Path], secret: str
) -> None:
    needs = [need for need in needs if need != hidden]
    done = operations(
        mount_arguments(hidden, [Need(need) for need in needs], lambda path: path not in closed)
    )
    path = hidden / secret
    if not any(path.is_relative_to(need) for need in needs if need.is_relative_to(hidden)):
        assert not is_real(path, done)


@given(hidden=paths, needs=st.lists(paths, max_size=4, unique=True), closed=st.sets(paths))
def test_every_need_can_be_reached(hidden: Path, needs: list[Path], closed: set[Path]) -> None:
    needs = [need for need in needs if not hidden.is_relative_to(need)]
    done = operations(
        mount_arguments(hidden, [Need(need) for need in needs], lambda path: path not in closed)
    )
    for need in needs:
        assert is_real(need, done) or need in closed
        for folder in need.parents:
            # What could not be entered is now an empty folder that anybody can enter.
            assert folder not in closed or not is_real(folder, done)


def test_only_what_must_be_written_can_be_written() -> None:
    data = Path("/srv/node")
    needs = [Need(data / "build", is_writable=True), Need(data / "venv"), Need(Path("/usr"))]
    assert operations(mount_arguments(data, needs, lambda _path: True)) == [
        ("empty", data),
        ("--bind", data / "build"),
        ("--ro-bind", data / "venv"),
    ]


def test_data_directory_inside_a_shown_folder_is_hidden_again() -> None:
    """A checkout in a closed home, with the data directory inside the checkout."""
    home, checkout = Path("/root"), Path("/root/checkout")
    data = checkout / "devnet/node-1"
    needs = [Need(checkout), Need(data / "build", is_writable=True)]
    done = operations(mount_arguments(data, needs, lambda path: path != home))
    assert done == [
        ("empty", home),
        ("--ro-bind", checkout),
        ("empty", data),
        ("--bind", data / "build"),
    ]
    assert not is_real(data / "keys", done)
