"""When an upstream may be asked about a group. Pure. docs/design/maven.md, "The repository"."""

from __future__ import annotations

from dataclasses import dataclass

from pyrsia_node.schema.maven_repositories import UPSTREAM, GroupPolicy, covers, policy_of
from pyrsia_node.schema.sections import MavenSection


@dataclass(frozen=True, slots=True)
class MavenPolicy:
    """What the operator decided, as ``[maven]`` says it."""

    default: str
    policies: tuple[GroupPolicy, ...]
    reserved: tuple[str, ...]
    strict: bool

    @classmethod
    def of(cls, section: MavenSection) -> MavenPolicy:
        """Return the policy of a configuration."""
        return cls(section.policy, section.policies, section.reserved, section.strict)

    def is_reserved(self, group: str) -> bool:
        """Tell whether a group is the operator's own: others may publish under its name."""
        return any(covers(each, group) for each in self.reserved)

    def allows(self, group: str) -> bool:
        """Tell whether upstreams may be asked about a group at all; never if it is reserved."""
        if self.is_reserved(group):
            return False
        return policy_of(group, self.policies, default=self.default) == UPSTREAM
