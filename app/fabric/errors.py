"""The one tree of errors that users can meet, each kind with a stable code.

Every message says what is wrong and what to do about it; `app.api.problems` is the only place
where a code becomes an HTTP status, and `app.cli` the only one where it becomes an exit code.

    MultilinkError
    ├── VnlError              the locator cannot be parsed, or says something impossible
    ├── SchemeNotAllowedError a scheme or command the operator has not allowed
    ├── PathError             the control directory cannot be made where it was asked for
    ├── DirectoryInUseError   a live owner answers there
    ├── NameTakenError        a link or multilink of that name exists
    ├── NameInvalidError      a name that could not be addressed
    ├── NotFoundError         no such link or multilink
    ├── AmbiguousMultilinkError  which multilink is meant is not said, and there is not exactly one
    ├── ConnectError          the other side of a plug cannot be reached
    ├── PlugClosedError       a plug that worked has ended
    ├── LinkStateError        an event that the link's present state does not allow
    ├── HandoffInvalidError  a hand-off that makes no sense
    ├── HandoffRunningError  a hand-off is under way on that multilink already
    └── ServiceStoppingError  the service is on its way out
"""

from __future__ import annotations

from typing import ClassVar


class MultilinkError(Exception):
    """Base of every error that is the user's or the outside world's doing.

    Args:
        detail: one or two sentences for a person: what is wrong and what to do next.
    """

    code: ClassVar[str] = "multilink_error"
    title: ClassVar[str] = "The request cannot be carried out"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class VnlError(MultilinkError):
    """A virtual network locator that cannot be parsed or cannot be meant."""

    code = "bad_vnl"
    title = "The locator (VNL) is not valid"


class SchemeNotAllowedError(MultilinkError):
    """A locator whose scheme, or whose command, the operator of the service has not allowed."""

    code = "scheme_not_allowed"
    title = "This service does not allow that locator"


class PathError(MultilinkError):
    """A control directory that cannot be made: too long, no parent, unknown group, no permission."""

    code = "bad_path"
    title = "The control directory cannot be made there"


class DirectoryInUseError(MultilinkError):
    """A control or runtime directory whose owner is alive, or that holds what is not ours."""

    code = "directory_in_use"
    title = "The directory is in use"


class NameTakenError(MultilinkError):
    """A link or a multilink of that name exists already."""

    code = "name_taken"
    title = "The name is taken"


class NameInvalidError(MultilinkError):
    """A name with characters, or of a length, that could not be addressed later."""

    code = "bad_name"
    title = "The name is not valid"


class NotFoundError(MultilinkError):
    """No link or multilink answers to that id or name."""

    code = "not_found"
    title = "Not found"


class AmbiguousMultilinkError(MultilinkError):
    """The multilink was left out, and there is not exactly one to mean."""

    code = "multilink_required"
    title = "Say which multilink is meant"


class ConnectError(MultilinkError):
    """The other side of a plug cannot be reached, or refuses."""

    code = "cannot_connect"
    title = "The link cannot be connected"


class PlugClosedError(MultilinkError):
    """A plug that was open has ended; the detail says how, in words for the link's `detail`."""

    code = "plug_closed"
    title = "The plug has closed"


class LinkStateError(MultilinkError):
    """An event that the link's present state does not allow; the state is left as it was."""

    code = "wrong_state"
    title = "The link's state does not allow that"


class HandoffInvalidError(MultilinkError):
    """A hand-off that makes no sense: to a link that is not up, or from the link that it is to."""

    code = "bad_handoff"
    title = "The hand-off makes no sense"


class HandoffRunningError(MultilinkError):
    """A hand-off is under way on that multilink already: one at a time."""

    code = "handoff_running"
    title = "A hand-off is under way"


class ServiceStoppingError(MultilinkError):
    """The service or the multilink is stopping and takes nothing new."""

    code = "stopping"
    title = "The service is stopping"


def describe_bug(error: BaseException) -> str:
    """An exception that nobody was to meet, in words for a `detail`; of a group the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"internal error: {type(error).__name__}; please report it"
