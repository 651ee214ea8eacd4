"""Finding one's order by the sale, the name that bought and the order code, or by a mail to the name."""

from collections.abc import Callable

import httpx
import pytest
from django.core.mail import EmailMessage
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django import Settings

from flashsale.rates import Rate
from sales import cancelling, formlimits, mails, order_codes, orders, receipts, store
from sales.models import Order, Sale
from tests.conftest import MakeSale
from tests.mail_servers import MailServer
from tests.servers import RedisServer, free_port
from tests.test_receipts import buy, written

# Its fixtures open pages in a browser.
pytest_plugins = ("tests.test_browser",)
pytestmark = pytest.mark.usefixtures("static_files")

PATH = "/orders/find/"
ADA = "ada@example.com"
SLUG = "limited-edition-widget"
NO_ORDER = "There&#x27;s no order with this name and code in this sale."
WRONG = "0000-0000"


@pytest.fixture
def bought(open_sale: Sale) -> str:
    """Return the address of Ada's receipt; SQL does not have her order yet."""
    return receipts.address(open_sale.id, buy(open_sale, ADA))


@pytest.fixture
def code(bought: str) -> str:
    """Return the code of Ada's order."""
    return order_codes.make(*receipts.read(bought.split("/")[2]))  # type: ignore[misc]


def find(client: Client, user_id: str, code: str, sale: str = SLUG, **headers: str) -> HttpResponse:
    form = {"sale": sale, "user_id": user_id, "order_code": code}
    return client.post(PATH, form, **headers)  # type: ignore[arg-type, return-value]


def ask_for_mail(client: Client, user_id: str, sale: str = SLUG, **headers: str) -> HttpResponse:
    form = {"sale": sale, "user_id": user_id, "order_code": "", "mail": "1"}
    return client.post(PATH, form, **headers)  # type: ignore[arg-type, return-value]


def cancel(user_id: str) -> None:
    Order.objects.filter(user_id=user_id).update(cancelled_at=timezone.now())


def test_name_and_code_lead_to_the_receipt(client: Client, bought: str, code: str):
    answer = find(client, ADA, code)

    assert (answer.status_code, answer["Location"]) == (303, bought)
    assert ADA in client.get(answer["Location"]).content.decode()


def test_other_spellings_lead_there_too(client: Client, bought: str, code: str):
    assert find(client, " ＡDA@Example.com ", f" {code.lower().replace('-', '')} ")["Location"] == bought


@pytest.mark.parametrize("typed", ["Ada Lovelace <Ada@example.com>", "mailto:ada@example.com"])
def test_a_name_pasted_from_a_mail_works_too(client: Client, bought: str, code: str, typed: str):
    assert find(client, typed, code)["Location"] == bought


def test_an_order_that_only_sql_has_is_found(client: Client, open_sale: Sale, bought: str, code: str):
    written()
    store.client().delete(store.key(open_sale.id, "purchases"))

    assert find(client, ADA, code)["Location"] == bought


def test_wrong_name_wrong_code_and_neither_get_the_same_answer(client: Client, open_sale: Sale, bought: str, code: str):
    buy(open_sale, "bob@example.com")

    pages = {}
    for name, given in ((ADA, WRONG), ("bob@example.com", code), ("eve@example.com", code), ("eve@example.com", WRONG)):
        page = find(client, name, given)
        text = page.content.decode().replace(name, "NAME").replace(given, "CODE")
        pages[name, given] = page.status_code, text.partition("If you ask for help")[0]

    assert len(set(pages.values())) == 1
    status, text = pages[ADA, WRONG]
    assert status == 404
    assert NO_ORDER in text
    assert bought not in text


def test_typed_values_stay_in_the_form(client: Client, bought: str):
    page = find(client, "bob@example.com", WRONG).content.decode()

    assert 'value="bob@example.com"' in page
    assert f'value="{WRONG}"' in page


@pytest.mark.parametrize(
    ("typed", "words"), [("", "Enter your order code."), (" ", "Enter your"), ("1234", "K7QX-2M9P.")]
)
def test_without_a_whole_code_no_name_is_looked_for(client: Client, bought: str, typed: str, words: str):
    pages = [find(client, name, typed) for name in (ADA, "eve@example.com")]

    assert [page.status_code for page in pages] == [400, 400]
    assert all(words in page.content.decode() for page in pages)


def test_a_code_still_works_after_the_secret_key_changes(
    client: Client, open_sale: Sale, bought: str, code: str, settings: Settings
):
    earlier = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [earlier]
    before_it_is_written = find(client, ADA, code).status_code
    replayed = find(client, ADA, order_codes.make(*receipts.read(bought.split("/")[2]))).status_code  # type: ignore[misc]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = earlier, []
    written()
    settings.SECRET_KEY = "a third one"

    assert (before_it_is_written, replayed, find(client, ADA, code).status_code) == (303, 303, 303)


def test_the_code_of_a_cancelled_order_opens_that_one(client: Client, open_sale: Sale, bought: str, code: str):
    written()
    cancel(ADA)
    Order.objects.update(may_buy_again=True)
    cancelling.enforce_all(open_sale, open_sale.epoch)
    again = buy(open_sale, ADA)

    assert find(client, ADA, code)["Location"] == bought
    assert find(client, ADA, order_codes.make(open_sale.id, again))["Location"] == receipts.address(open_sale.id, again)


def test_an_order_of_another_sale_is_not_found(client: Client, bought: str, code: str, make_sale: MakeSale):
    make_sale(name="Another")

    assert find(client, ADA, code, "another").status_code == 404


def test_an_invalid_name_is_refused_with_the_reason(client: Client, bought: str, code: str):
    page = find(client, "ada\u200b@example.com", code)

    assert page.status_code == 400
    assert "visible characters" in page.content.decode()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="it reads SQLite's plans")
def test_looking_for_an_order_reads_only_the_shoppers_rows(open_sale: Sale, bought: str):
    written()
    orders.insert([orders.row(open_sale.id, f"shopper-{number}", f"1-{number}", 0, "") for number in range(600)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as queries:
        receipts.find_by_name(open_sale, ADA, None)
        receipts.find(open_sale.id, "1-400")

    with connection.cursor() as cursor:
        of_orders = [query["sql"] for query in queries if 'FROM "sales_order" WHERE' in query["sql"]]
        plans = [str(cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()) for sql in of_orders]

    assert len(plans) == 3
    for fields, plan in zip(("user_id=?", "user_id=?", "order_id=?"), plans, strict=True):
        assert f"(sale_id=? AND {fields})" in plan
        assert "TEMP B-TREE" not in plan


# By mail


def test_the_link_goes_to_the_address_that_bought(
    client: Client, bought: str, code: str, mailoutbox: list[EmailMessage], settings: Settings
):
    answer = ask_for_mail(client, " Ada@Example.com")
    page = client.get(answer["Location"]).content.decode()
    assert mails.finish(30)

    (sent,) = mailoutbox
    assert (answer.status_code, answer["Location"]) == (303, f"{PATH}?sale={SLUG}&mailed=1")
    assert "the link is on its way" in page
    assert sent.to == [ADA]
    assert f"{settings.PUBLIC_URL}{bought}" in str(sent.body)
    assert code in str(sent.body)
    assert bought not in page


def test_the_answer_does_not_tell_whether_there_is_an_order(
    client: Client, bought: str, mail_server: MailServer, settings: Settings
):
    settings.ADDRESS_RATE = None
    answers = [ask_for_mail(client, name) for name in [ADA] * 5 + ["eve@example.com"] * 5]
    assert mails.finish(30)

    assert {(answer.status_code, answer["Location"]) for answer in answers} == {(303, f"{PATH}?sale={SLUG}&mailed=1")}
    assert mail_server.recipients == [ADA] * 3


def test_without_a_mail_server_the_answer_reveals_no_order(client: Client, bought: str, settings: Settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()

    assert [ask_for_mail(client, name).status_code for name in (ADA, "eve@example.com")] == [503, 503]


def test_requests_before_an_order_do_not_use_up_mails(client: Client, open_sale: Sale, mailoutbox: list[EmailMessage]):
    for number in range(6):
        ask_for_mail(client, ADA, REMOTE_ADDR=f"192.0.2.{number}")
    buy(open_sale, ADA)

    ask_for_mail(client, ADA)
    assert mails.finish(30)

    assert [sent.to for sent in mailoutbox] == [[ADA]]


def test_a_cancelled_orders_link_is_mailed_too(
    client: Client, open_sale: Sale, bought: str, mailoutbox: list[EmailMessage]
):
    written()
    cancel(ADA)
    cancelling.enforce_all(open_sale, open_sale.epoch)

    ask_for_mail(client, ADA)
    assert mails.finish(30)

    assert bought in str(mailoutbox[0].body)


def test_a_link_is_mailed_in_the_askers_language(client: Client, bought: str, mailoutbox: list[EmailMessage]):
    ask_for_mail(client, ADA, HTTP_ACCEPT_LANGUAGE="de")
    assert mails.finish(30)

    assert "Ihre Bestellung" in mailoutbox[0].subject


@pytest.mark.parametrize("name", ["ada", '"ada"@example.com', "ada@example.com\nBcc: eve@example.com"])
def test_no_mail_goes_to_what_is_no_address(client: Client, open_sale: Sale, mailoutbox: list[EmailMessage], name: str):
    assert ask_for_mail(client, name).status_code == 400
    assert mailoutbox == []


def test_mail_requests_of_one_address_are_limited(client: Client, bought: str, settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)

    answers = [ask_for_mail(client, f"ada-{number}@example.com") for number in range(11)]

    assert [answer.status_code for answer in answers] == [303] * 10 + [429]
    assert "Too many links were asked for" in answers[-1].content.decode()


def test_the_log_hides_a_link_that_the_mail_server_quotes(
    client: Client, bought: str, code: str, mail_server: MailServer, caplog: pytest.LogCaptureFixture
):
    mail_server.on_mail = lambda address: f"550 5.7.0 {bought} of {address} with {code} looks like spam"

    ask_for_mail(client, ADA)
    assert mails.finish(30)

    assert "looks like spam" in caplog.text
    assert not {secret for secret in (bought.split("/")[2], code, ADA) if secret in caplog.text}


def test_mail_is_offered_only_where_it_can_be_sent(client: Client, open_sale: Sale, settings: Settings):
    with_mail = client.get(PATH).content.decode()
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"

    assert "E-mail me the link" in with_mail
    assert "E-mail me the link" not in client.get(PATH).content.decode()
    assert ask_for_mail(client, ADA).status_code == 503


# Sales and limits


@pytest.mark.parametrize("slug", ["", "nothing", "x" * 500])
def test_an_unknown_sale_is_refused_with_advice(client: Client, bought: str, slug: str):
    page = find(client, ADA, WRONG, slug)

    assert page.status_code == 400
    assert "Choose a sale from the list." in page.content.decode()


def test_an_unpublished_sale_is_not_in_the_list(client: Client, open_sale: Sale, bought: str):
    Sale.objects.update(published=False)

    assert "Limited Edition Widget" not in client.get(PATH).content.decode()
    assert find(client, ADA, WRONG).status_code == 400


def test_the_sale_one_came_from_is_chosen(client: Client, make_sale: MakeSale):
    make_sale(name="First")
    make_sale(name="Second")

    for slug in ("first", "second"):
        page = client.get(PATH, {"sale": slug}).content.decode()
        assert f'<option value="{slug}" selected>' in " ".join(page.split())


def test_typed_values_are_escaped(client: Client, open_sale: Sale):
    page = find(client, '"><script>alert(1)</script>', '"><script>').content.decode()

    assert "<script>alert" not in page
    assert '"><script>' not in page
    assert "&quot;&gt;&lt;script&gt;" in page


def test_guesses_at_one_names_code_are_limited_across_addresses(
    client: Client, open_sale: Sale, bought: str, code: str, rf: RequestFactory
):
    for number in range(98):  # not through the form: a slow machine would take longer than the minute
        assert not formlimits.find_wait_seconds(rf.get("/", REMOTE_ADDR=f"192.0.2.{number}"), f"{open_sale.pk} {ADA}")

    spellings = (ADA, "ADA@example.com ", "ada@example.com", ADA)
    statuses = [find(client, name, WRONG, REMOTE_ADDR="198.51.100.1").status_code for name in spellings]

    assert statuses == [404] * 2 + [429] * 2
    assert find(client, ADA, code).status_code == 429
    assert find(client, "bob@example.com", WRONG).status_code == 404


def test_one_address_cannot_lock_a_buyer_out(
    client: Client, open_sale: Sale, bought: str, code: str, settings: Settings, rf: RequestFactory
):
    settings.ADDRESS_RATE = Rate(100, 1)

    for _ in range(19):  # not through the form: a slow machine would take longer than the minute
        assert not formlimits.find_wait_seconds(rf.get("/", REMOTE_ADDR="192.0.2.1"), f"{open_sale.pk} {ADA}")
    stranger = [find(client, ADA, WRONG, REMOTE_ADDR="192.0.2.1").status_code for _ in range(3)]

    assert stranger == [404] + [429] * 2
    assert find(client, ADA, code).status_code == 303


def test_too_many_searches_get_a_time_to_retry(client: Client, bought: str, settings: Settings):
    settings.ADDRESS_RATE = Rate(100, 1)
    for _ in range(20):
        find(client, ADA, WRONG)

    page = find(client, ADA, WRONG)

    assert page.status_code == 429
    assert 1 <= int(page["Retry-After"]) <= 60
    assert "Too many attempts" in page.content.decode()


def test_all_spellings_of_one_mailbox_share_its_limit(
    client: Client, make_sale: MakeSale, monkeypatch: pytest.MonkeyPatch
):
    make_sale(one_mailbox=True)
    limited: list[str] = []
    monkeypatch.setattr(formlimits, "find_wait_seconds", lambda request, name: limited.append(name))

    for name in ("ada+1@example.com", "ada+2@example.com"):
        find(client, name, WRONG)

    assert len(limited) == 2
    assert len(set(limited)) == 1


def test_reading_the_form_is_not_limited(client: Client, open_sale: Sale):
    assert {client.get(PATH).status_code for _ in range(30)} == {200}


def test_orders_cannot_be_searched_while_counting_is_impossible(client: Client, bought: str, settings: Settings):
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"},
    }

    page = find(client, ADA, WRONG)

    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "Orders cannot be looked up right now" in page.content.decode()


def test_without_redis_the_form_is_there_and_finds_nothing(client: Client, bought: str, redis_server: RedisServer):
    redis_server.kill()
    try:
        form, answer = client.get(PATH), find(client, ADA, WRONG)
    finally:
        redis_server.start()

    assert (form.status_code, answer.status_code) == (200, 503)


DISTRUST = pytest.mark.parametrize(
    "loss", [lambda key: store.client().delete(key), lambda key: store.client().hset(key, "closed", "run why")]
)


@DISTRUST
def test_no_order_is_reported_only_while_redis_is_trusted(
    client: Client, open_sale: Sale, loss: Callable[[str], object]
):
    loss(store.key(open_sale.id, "config"))

    assert find(client, ADA, WRONG).status_code == 503


@DISTRUST
def test_a_closed_sale_reveals_no_buyer_by_mail(
    client: Client, open_sale: Sale, bought: str, mailoutbox: list[EmailMessage], loss: Callable[[str], object]
):
    loss(store.key(open_sale.id, "config"))

    assert [ask_for_mail(client, name).status_code for name in (ADA, "eve@example.com")] == [503, 503]
    assert mails.finish(30)
    assert mailoutbox == []


def test_a_form_from_another_site_finds_nothing(client: Client, bought: str):
    page = find(client, ADA, WRONG, HTTP_ORIGIN="https://evil.example", HTTP_HOST="testserver")

    assert page.status_code == 403
    assert "Location" not in page


def test_the_form_takes_no_other_method(client: Client, open_sale: Sale):
    response = client.put(PATH)

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
def test_the_form_over_http(http: httpx.Client, bought: str, code: str):
    form = http.get(PATH)
    answer = http.post(PATH, data={"sale": SLUG, "user_id": ADA, "order_code": code})

    assert form.headers["cache-control"] == answer.headers["cache-control"] == "private, no-store"
    assert "set-cookie" not in form.headers
    assert (answer.status_code, answer.headers["location"]) == (303, bought)


@pytest.mark.django_db(transaction=True)  # the server, another process, reads SQL
@pytest.mark.parametrize("javascript", [True, False])
def test_a_shopper_finds_an_order_from_the_sales_page(
    open_page: Callable[..., Page], bought: str, code: str, javascript: bool
):
    page = open_page("/", java_script_enabled=javascript)
    page.get_by_role("link", name="Find my order").click()

    page.get_by_label("Your e-mail address").fill("Ada@example.com")
    page.get_by_label("Order code").fill(WRONG)
    page.get_by_role("button", name="Find my order").click()
    expect(page.get_by_role("alert")).to_contain_text("no order with this name and code")
    page.get_by_label("Order code").fill(code.lower().replace("-", " "))
    page.get_by_role("button", name="Find my order").click()

    expect(page.get_by_role("heading", name="Your order")).to_be_visible()
    expect(page.get_by_text(ADA)).to_be_visible()
