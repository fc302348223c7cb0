"""The error by which a script tells its user what cannot be done."""


class UserError(ValueError):
    """
    Raised on purpose, when what a command asks for cannot be done: an argument out of range, a data set without
    labels, an output folder of another run. Its message says what to do, and is all that the user sees.
    """
