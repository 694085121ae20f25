"""``evidence``: what this node knows against members, and the forks that it has seen."""

from __future__ import annotations

from pyrsia_node.schema.fields import Answer, Count, Sha256, Text


class StatementLine(Answer):
    """One signed statement: ``notarize``, ``nullify``, ``finalize`` or ``proposal``."""

    kind: Text
    block: Sha256
    sig: Text


class EvidenceLine(Answer):
    """Two statements of one member that contradict each other.

    ``leaf`` and ``block`` say where the log has it; absent while it waits. ``by`` reported it.
    """

    culprit: Text
    label: Text
    crime: Text
    height: Count
    view: Count
    set: Sha256
    first: StatementLine
    second: StatementLine
    by: Text | None = None
    leaf: Count | None = None
    block: Count | None = None


class ForkLine(Answer):
    """A height that was decided twice, and who signed for both sides, as far as is known."""

    height: Count
    culprits: list[Text]
    culprit_labels: list[Text]
    needed: Count
    """f + 1: how many culprits every fork has."""


class SplitViewLine(Answer):
    """A cosigned head that contradicts this node's chain, beside the head that it has itself.

    ``is_proved``: the file convinces whoever trusts the network, without this node's word.
    """

    size: Count
    root: Sha256
    cosigned_by: list[Text]
    our_size: Count
    our_root: Sha256
    signed_both: list[Text]
    is_proved: bool
    file: Text
    """Its name in the folder ``evidence`` of the data directory."""


class EvidenceList(Answer):
    """Evidence in the log first, in log order, then what waits; forks; other trees that it saw."""

    evidence: list[EvidenceLine]
    forks: list[ForkLine]
    split_views: list[SplitViewLine]
