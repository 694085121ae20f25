"""What can be wrong with a request to the registry, one class for each answer of the specification.

The service raises them; ``gateway.images.errors`` turns each into the status and code that the OCI
distribution specification 1.1 names ("Error Codes"). Texts are fit for users.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)


class NameUnknownError(NotFoundError):
    """Nothing was ever pushed under this repository's name."""


class ManifestUnknownError(NotFoundError):
    """The repository has no such tag or manifest."""


class BlobUnknownError(NotFoundError):
    """The repository has no such blob."""


class UploadUnknownError(NotFoundError):
    """No upload of this repository has that name: it is finished, cancelled or was dropped."""


class ContentMissingError(InvalidInputError):
    """A manifest needs content that its repository has not; ``digests`` are all of it."""

    def __init__(self, digests: Sequence[str]) -> None:
        """Remember the digests in the manifest's order."""
        super().__init__(f"the repository lacks {', '.join(digests)}")
        self.digests = tuple(digests)


class ManifestInvalidError(InvalidInputError):
    """What was pushed as a manifest is none that this registry takes."""


class DigestMismatchError(VerificationError):
    """The bytes that were pushed hash to something else; the text names both."""


class SizeMismatchError(InvalidInputError):
    """Fewer or more bytes came than were announced."""


class OutOfOrderError(InvalidInputError):
    """A chunk does not begin where the last one ended; ``offset`` is where it should."""

    def __init__(self, offset: int, wanted: int) -> None:
        """Say where the upload stands and where the client wanted to go on."""
        super().__init__(f"the upload stands at byte {offset}, the chunk begins at {wanted}")
        self.offset = offset


class TooLargeError(InvalidInputError):
    """More bytes than this kind of content may have."""


class ReadOnlyError(InvalidInputError):
    """The name is somebody else's: the log or another registry answers for it."""


class UnsupportedError(InvalidInputError):
    """This registry does not do that; the text says why."""


class InterruptedBodyError(UnavailableError):
    """The client left before its body was whole."""
