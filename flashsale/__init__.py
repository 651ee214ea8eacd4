"""The flash-sale project: settings, routes, and the processes that serve them."""
