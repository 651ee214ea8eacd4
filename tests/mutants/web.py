"""Planted bugs in the web server and the lane."""

from tests.mutants.mutant import Edit, Mutant

PROTOCOL = "flashsale/protocol.py"
FRAMING = "flashsale/framing.py"
STALLS = "flashsale/stalls.py"

MUTANTS = {
    "status is older than promised": Mutant(
        "tests/test_snapshots.py::test_a_busy_sale_does_not_make_another_one_stale",
        Edit("sales/snapshots.py", "REFRESH_AFTER_SECONDS = 0.1", "REFRESH_AFTER_SECONDS = 2.0"),
        Edit("sales/directory.py", "OLDEST_SECONDS = 0.25", "OLDEST_SECONDS = 5.0"),
    ),
    "a sale is as old as nobody asks for it": Mutant(
        "tests/test_snapshots.py::test_a_busy_sale_does_not_make_another_one_stale",
        Edit("sales/snapshots.py", "if seen and seen.read_at < read_at:", "if False:"),
    ),
    "each who guesses an address has Redis read": Mutant(
        "tests/test_snapshots.py::test_addresses_of_no_sale_are_neither_read_each_nor_kept",
        Edit("sales/snapshots.py", " and (is_new or age_seconds < REFRESH_AFTER_SECONDS):", " and is_new:"),
    ),
    "health does not see that Redis takes no purchase": Mutant(
        "tests/test_health.py::test_health_names_a_full_redis",
        Edit("sales/lua/writable.lua", "#!lua\n", ""),
    ),
    "who does not read is never cut off": Mutant(
        "tests/test_slow_readers.py::test_a_client_that_reads_too_little_is_cut_off",
        Edit(STALLS, "                cut(transport)\n", "                pass\n"),
    ),
    "a byte now and then is progress": Mutant(
        "tests/test_slow_readers.py::test_a_client_that_reads_too_little_is_cut_off",
        Edit(STALLS, "LEAST_BYTES = 1024", "LEAST_BYTES = 1"),
    ),
    "a slow reader is cut off": Mutant(
        "tests/test_slow_readers.py::test_a_client_that_reads_too_little_is_cut_off",
        Edit(STALLS, "if acknowledged - before >= LEAST_BYTES:", "if before < 0:"),
    ),
    "any number waits for a thread": Mutant(
        "tests/test_django_threads.py::test_nobody_waits_where_there_is_no_room",
        Edit("flashsale/django_threads.py", "if self.held >= self._most:", "if False:"),
    ),
    "a thread sends its answer itself": Mutant(
        "tests/test_django_threads.py::test_threads_are_free_while_nobody_reads_their_answers",
        Edit(
            "flashsale/django_threads.py",
            "        finally:\n            self.held -= 1\n        with answer:\n"
            '            await _send(answer, scope["method"], scope.get(EXCHANGE), send)\n',
            "        with answer:\n"
            '            await _send(answer, scope["method"], scope.get(EXCHANGE), send)\n        self.held -= 1\n',
        ),
    ),
    "a long answer is written at once": Mutant(
        "tests/test_pieces.py::test_each_piece_waits_until_those_before_are_read",
        Edit(
            "flashsale/exchange.py",
            "            if self.flow.write_paused:\n                await self.flow.drain()\n",
            "",
        ),
    ),
    "a body has no bound": Mutant(
        "tests/test_bodies.py::test_chunks_that_come_to_more_than_8_kib_are_refused",
        Edit("flashsale/bodies.py", "    if len(body) > LARGEST_BYTES:\n        raise BodyTooLarge\n", ""),
        Edit("flashsale/bodies.py", "if len(body) + len(piece) > LARGEST_BYTES:", "if False:"),
    ),
    "a request that breaks off buys": Mutant(
        "tests/test_lane.py::test_a_request_that_breaks_off_buys_nothing",
        Edit(
            "flashsale/bodies.py",
            '                if message["type"] == "http.disconnect":\n                    raise ClientGone\n',
            "",
        ),
    ),
    "another site may buy": Mutant(
        "tests/test_origins.py::test_another_site_sent_it",
        Edit("sales/origins.py", "        return True\n", "        return False\n"),
        Edit("sales/origins.py", "origin is not None and", "False and"),
    ),
    "a buyer's name gets the receipt from the API": Mutant(
        "tests/test_api.py::test_a_second_purchase_carries_the_first_order",
        Edit("sales/api.py", "    if is_buyer:\n", "    if True:\n"),
    ),
    "codings in front of chunked are left undone": Mutant(
        "tests/test_framing.py::test_no_coding_but_chunked_is_taken",
        Edit(FRAMING, 'codings != [b"chunked"]', 'codings[-1][-7:] != b"chunked"'),
    ),
    "a target may name another host": Mutant(
        "tests/test_framing.py::test_a_target_of_another_host_is_refused",
        Edit(FRAMING, "or hosts != [authority.lower()]", ""),
    ),
    "trailers are headers": Mutant(
        "tests/test_framing.py::test_trailers_after_a_chunked_body_are_no_headers",
        Edit(PROTOCOL, "            self.headers = framing.Trailers()\n", ""),
    ),
    "what cannot be read is answered before what came first": Mutant(
        "tests/test_framing.py::test_a_purchase_in_front_of_nonsense_has_its_answer",
        Edit(PROTOCOL, "elif latest and not latest.response_complete and not is_part:", "elif False:"),
    ),
    "a request whose rest cannot be read is decided": Mutant(
        "tests/test_framing.py::test_a_purchase_with_a_malformed_body_is_refused_once",
        Edit(PROTOCOL, "        is_part = latest and latest.more_body\n", "        is_part = False\n"),
    ),
    "a head that comes in pieces has no bound": Mutant(
        "tests/test_framing.py::test_a_head_has_a_bound",
        Edit(PROTOCOL, "        self._framing_bytes += len(data)\n", ""),
    ),
    "a head that comes in one piece has no bound": Mutant(
        "tests/test_framing.py::test_a_head_has_a_bound",
        Edit(PROTOCOL, "        if self._framing_bytes or len(headers) > MOST_HEADERS:\n", "        if False:\n"),
    ),
    "a packet is parsed to its end": Mutant(
        "tests/test_dear_input.py::test_the_largest_packet_is_not_read_to_its_end",
        Edit(PROTOCOL, "PARSED_BYTES = 2 * 1024", "PARSED_BYTES = 1024 * 1024"),
    ),
    "a head may take its time": Mutant(
        "tests/test_framing.py::test_a_slowly_dripping_head_is_cut_off_in_time",
        Edit("flashsale/closing.py", "        if not self._head_since:\n", "        if False:\n"),
    ),
    "a stranger's body is kept however large": Mutant(
        "tests/test_held_memory.py::test_a_strangers_connection_holds_little",
        Edit(PROTOCOL, " or (len(exchange.body) > bodies.LARGEST_BYTES and not exchange.may_be_large)", ""),
    ),
    "no body makes room for another": Mutant(
        "tests/test_held_memory.py::test_the_body_that_is_longest_under_way_makes_room",
        Edit("flashsale/bodies.py", "            if oldest is self:\n", "            if True:\n"),
    ),
    "an answer to a form is rendered for each": Mutant(
        "tests/test_dear_input.py::test_a_form_answer_is_rendered_once_per_state",
        Edit("sales/pages.py", "@lru_cache(maxsize=rendering.MOST_PAGES)\n", "@lru_cache(maxsize=0)\n"),
    ),
    "who has nothing more to send hears nothing": Mutant(
        "tests/test_framing.py::test_a_client_that_stops_sending_gets_its_answers",
        Edit(
            PROTOCOL,
            "        return bool(self._running and not self._running.response_complete)\n",
            "        return False\n",
        ),
    ),
}
