"""The one error that the embedded stack raises for what its owner can mend."""


class StackError(Exception):
    """Something keeps the stack from working, and the owner of the machine can mend it.

    Attributes:
        problem: What happened, with the value and the rule.
        remedy: What to do next.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(f"{problem}\n{remedy}")
        self.problem = problem
        self.remedy = remedy
