"""The images that the tests with real clients pull."""

from __future__ import annotations

from tests.fakes.images import Recipe, two_platforms

ALPINE = two_platforms(Recipe("alpine of the log", style="docker"))
TOOL = two_platforms(Recipe("a tool of another registry"))
