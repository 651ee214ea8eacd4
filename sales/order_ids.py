"""Order_ids: each is an ID in its sale's stream, whose first part is when the order was made."""


def position(order_id: str) -> tuple[int, int]:
    """Return a stream ID as a pair of numbers that sorts as streams do."""
    milliseconds, _, sequence = order_id.partition("-")
    return int(milliseconds), int(sequence or 0)
