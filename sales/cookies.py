"""One cookie of a request, found without a look at the others: a stranger may send thousands."""

# In other cookies' names and values, where a browser of ours has none.
MOST_FALSE_FINDS = 10


def named(header: str, name: str) -> str:
    """Return the value of the cookie in a Cookie header, the last where there are several; "" without one."""
    wanted, end = f"{name}=", len(header)
    for _ in range(MOST_FALSE_FINDS):
        place = header.rfind(wanted, 0, end)
        if place < 0:
            return ""
        if header[:place].rstrip()[-1:] in ("", ";"):
            return header[place + len(wanted) :].partition(";")[0].strip()
        end = place
    return ""
