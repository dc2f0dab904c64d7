"""Numbers as they are written on the page."""


def signed(value: float, digits: int) -> str:
    """A difference with its sign, a true minus; zero has none."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text
