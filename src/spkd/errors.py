"""The one exception a user is meant to read: what was expected, what came, where, and what to do."""


class SpkdError(Exception):
    """A mistake in settings, data or a run that the user can mend; printed without a traceback.

    where: the file, row or key. expected, got: the rule and what broke it. do: the next step, in the imperative.
    """

    def __init__(self, where: object, expected: str, got: object, do: str) -> None:
        super().__init__(f"{where}: expected {expected}, got {got}; {do}")
