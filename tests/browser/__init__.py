"""A package, so that its fixtures end with it: Playwright keeps an event loop in this thread, and the tests of other
folders call `asyncio.run`, which refuses to start beside one.
"""
