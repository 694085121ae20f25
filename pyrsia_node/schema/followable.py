"""Whether builds could follow what a mapping says of a recipe: asked before it is brought. Pure.

What a block may hold is wider (``model.mappings``): a rule of the log must not hang on the grammar
of a pipeline, which changes with the pipeline. But nobody should be asked to approve a mapping that
no build could follow. What the fields mean: docs/design/maven.md, "Recipe".
"""

from __future__ import annotations

from buildpipelines.errors import FormatError
from buildpipelines.spec.maven_fields import check_field
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping


def check_followable(mapping: SourceMapping) -> None:
    """Check a legal mapping.

    Raises:
        InvalidInputError: A field of its recipe is in no form that a build takes; it is named.
    """
    for name, value in mapping.recipe.items():
        try:
            check_field(name, value)
        except FormatError as error:
            raise InvalidInputError(
                f"mapping of {mapping.pattern}: no build could follow its recipe: {error}"
            ) from None
