"""What a shopper sees when something goes wrong between the press and its answer."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Request, Route, expect

from sales import store
from sales.models import Sale
from tests.browsers import Visitor, buy
from tests.conftest import MakeSale, OpenPage
from tests.servers import RedisServer

LIMITED = {"code": "rate_limited", "remainingStock": None}


@pytest.fixture
def redis_that_dies(redis_server: RedisServer) -> Iterator[RedisServer]:
    yield redis_server
    try:
        store.client().ping()
    except store.RedisError:
        redis_server.start()


def purchases_of(sale: Sale) -> int:
    return store.client().hlen(store.key(sale.id, "purchases"))


def count_presses(page: Page) -> list[str]:
    """Return a list that grows by the Idempotency-Key of each attempt that the page sends."""
    keys: list[str] = []

    def count(request: Request) -> None:
        if request.url.endswith("/purchase"):
            keys.append(request.headers["idempotency-key"])

    page.on("request", count)
    return keys


@pytest.mark.django_db(transaction=True)
def test_redis_dies_and_comes_back(
    open_page: OpenPage, make_sale: MakeSale, redis_that_dies: RedisServer, seen: Callable[[], None]
):
    sale = make_sale()
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")

    redis_that_dies.kill()
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="We cannot sell right now")).to_be_visible()
    expect(page.locator("#user-id")).to_have_value("ada@example.com")
    redis_that_dies.start()
    for _ in range(200):  # each worker compares Redis with SQL before it sells, and says until then that it cannot
        page.locator("#press").click()
        expect(page.locator("#answer-headline")).to_be_visible()
        if page.locator("#answer-headline").inner_text() == "You have it!":
            break
        seen()

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#offline")).to_be_hidden()
    assert purchases_of(sale) == 1


def test_a_lost_answer_is_requested_again_with_the_same_key(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    keys = count_presses(page)
    lost: list[Route] = []

    def lose_the_first(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route)
            route.fetch()
            route.abort()

    page.route("**/purchase", lose_the_first)
    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert purchases_of(open_sale) == 1


def test_after_a_lost_answer_the_next_press_finds_the_receipt(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    answers = iter([lambda route: (route.fetch(), route.abort()), lambda route: route.fulfill(json=LIMITED)])

    def lose_and_refuse(route: Route) -> None:
        next(answers, lambda route: route.continue_())(route)

    page.route("**/purchase", lose_and_refuse)
    buy(page, "ada@example.com")
    expect(page.locator("#answer")).to_have_attribute("data-code", "rate_limited")

    page.reload()
    buy(page, "ada@example.com")

    expect(page.get_by_role("link", name="Open your receipt")).to_be_visible()
    assert purchases_of(open_sale) == 1


def test_an_unknown_outcome_is_shown_and_asked_again(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    keys = count_presses(page)
    page.route("**/purchase", lambda route: route.fulfill(status=503, json={"code": "unknown"}))

    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="We are not sure yet")).to_be_visible()
    expect(page.locator("#answer-sentence")).to_contain_text("We ask again")
    expect(page.get_by_role("button", name="One moment…")).to_be_disabled()
    page.unroute("**/purchase")
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    assert len(set(keys)) == 1


def test_a_press_is_repeated_with_its_key(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    keys = count_presses(page)
    page.route("**/purchase", lambda route: route.fulfill(status=503, json={"code": "unknown"}))

    buy(page, "ada@example.com")
    while len(keys) < 2:
        page.wait_for_timeout(50)

    assert len(set(keys)) == 1


def test_a_double_press_is_one_attempt(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    keys = count_presses(page)
    held: list[Route] = []
    page.route("**/purchase", lambda route: held.append(route))
    page.locator("#user-id").fill("ada@example.com")

    page.locator("#press").dblclick()
    page.locator("#user-id").press("Enter")
    expect(page.get_by_role("button", name="One moment…")).to_be_disabled()
    held[0].continue_()

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    assert len(keys) == 1


def test_a_press_a_blink_too_early_is_repeated(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")
    answers = iter([{"code": "not_started", "remainingStock": 10}])

    def refuse_once(route: Route) -> None:
        answer = next(answers, None)
        route.fulfill(status=409, json=answer) if answer else route.continue_()

    page.route("**/purchase", refuse_once)
    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_two_tabs_buy_one_unit(open_page: OpenPage, visitor: Visitor, open_sale: Sale):
    first = open_page()
    second = visitor.tab(first.context)

    buy(first, "ada@example.com")
    expect(first.get_by_role("heading", name="You have it!")).to_be_visible()
    buy(second, "ada@example.com")

    expect(second.get_by_role("heading", name="You already have one")).to_be_visible()
    assert purchases_of(open_sale) == 1


def test_back_to_the_page(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    page.locator("#user-id").fill("ada@example.com")
    page.get_by_role("link", name="All sales").first.click()
    expect(page.get_by_role("heading", name="All sales")).to_be_visible()

    page.go_back()

    expect(page.locator("#user-id")).to_have_value("ada@example.com")
    page.locator("#press").click()
    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()


def test_offline_and_online_again(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    expect(page.locator("#seconds")).not_to_have_text("––")

    page.context.set_offline(True)
    expect(page.locator("#offline")).to_contain_text("No connection")
    buy(page, "ada@example.com")
    expect(page.get_by_role("heading", name="We are not sure yet")).to_be_visible()
    page.context.set_offline(False)

    expect(page.get_by_role("heading", name="You have it!")).to_be_visible()
    expect(page.locator("#offline")).to_be_hidden()
    assert purchases_of(open_sale) == 1


def test_a_foreign_answer_counts_as_an_unknown_outcome(open_page: OpenPage, open_sale: Sale):
    page = open_page()
    page.route("**/purchase", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))

    buy(page, "ada@example.com")

    expect(page.get_by_role("heading", name="We are not sure yet")).to_be_visible()
