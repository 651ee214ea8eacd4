"""Preparing a sale in the admin, through Django's own client, over a real Redis."""

import asyncio
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from flashsale.rates import Rate
from sales import cancelling, publishing, purchases, store
from sales.models import Order, Sale
from sales.orders import consumer_name, run_once
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.usefixtures("static_files")

LIST = "/admin/sales/sale/"


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def operator(transactional_db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    return client


def form(**changes: object) -> dict[str, object]:
    starts_at = timezone.now().replace(microsecond=0) - timedelta(minutes=1)
    ends_at = starts_at + timedelta(hours=1)
    fields = {
        "name": "Widget",
        "slug": "",
        "description": "",
        "currency": "EUR",
        "display_price": "49.00",
        "total_stock": "10",
        "identity": "open",
        "starts_at": starts_at.isoformat(),
        "ends_at": ends_at.isoformat(),
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def add(operator: Client, **changes: object) -> Sale:
    response = operator.post(f"{LIST}add/", form(**changes))
    assert response.status_code == 302, response.context["adminform"].form.errors
    return Sale.objects.latest("id")


def add_published(operator: Client, **changes: object) -> Sale:
    sale = add(operator, **changes)
    operator.post(f"{LIST}{sale.id}/publish-sale/")
    sale.refresh_from_db()
    return sale


def seen(operator: Client, sale: Sale) -> str:
    """Return what the sale's form remembers of the values that it shows."""
    return operator.get(f"{LIST}{sale.id}/change/").context["adminform"].form.seen


def change(operator: Client, sale: Sale, **changes: object) -> str:
    return operator.post(f"{LIST}{sale.id}/change/", form(**changes), follow=True).content.decode()


def buy(sale: Sale, user_id: str) -> str:
    return asyncio.run(purchases.buy(sale.id, user_id)).outcome


def test_a_new_sale_is_hidden_until_it_is_published(operator: Client):
    page = operator.post(f"{LIST}add/", form(), follow=True).content.decode()
    sale = Sale.objects.get()

    assert sale.slug == "widget"
    assert "Widget is saved, and hidden from shoppers." in page
    assert "View on site" not in page
    assert not store.client().hexists(store.DIRECTORY, "widget")


def test_a_change_takes_effect(operator: Client):
    sale = add_published(operator)
    buy(sale, "ada")

    page = change(operator, sale, total_stock="3", name="New name")

    standing = publishing.standing(sale)
    assert "1 sold, 2 remaining" in page
    assert (standing.remaining_stock, standing.config["product_name"]) == (2, "New name")
    assert buy(sale, "bob") == "purchased"


def test_the_history_names_the_operator_and_both_values(operator: Client):
    sale = add_published(operator)

    change(operator, sale, total_stock="12", name="New name")

    history = operator.get(f"{LIST}{sale.id}/history/").content.decode()
    assert "Product name: Widget → New name" in history
    assert "Total stock: 10 → 12" in history
    assert "operator" in history


def test_a_picture_that_is_taken_away_is_in_the_history(operator: Client):
    sale = add_published(operator)
    Sale.objects.filter(pk=sale.pk).update(image="products/widget.png")

    change(operator, sale, **{"image-clear": "on", "display_price": "0.00"})

    history = operator.get(f"{LIST}{sale.id}/history/").content.decode()
    assert "Picture: products/widget.png → empty" in history
    assert "Price: 49.00 → 0.00" in history
    assert not Sale.objects.get().image


def test_changes_by_others_survive_a_form_left_open(operator: Client):
    sale = add_published(operator)
    seen_then = seen(operator, sale)
    operator.post(f"{LIST}{sale.id}/add-stock-sale/", {"units": "5"})

    change(operator, sale, seen=seen_then, name="New name")

    sale.refresh_from_db()
    assert (sale.name, sale.total_stock) == ("New name", 15)
    assert publishing.standing(sale).is_mirrored(sale)


def test_conflicting_changes_by_two_operators_are_asked_again(operator: Client):
    sale = add_published(operator)
    seen_then = seen(operator, sale)
    operator.post(f"{LIST}{sale.id}/add-stock-sale/", {"units": "5"})

    response = operator.post(f"{LIST}{sale.id}/change/", form(seen=seen_then, total_stock="12"))

    assert "Somebody changed this to 15 while you had this page open." in response.content.decode()
    change(operator, sale, seen=response.context["adminform"].form.seen, total_stock="12")
    assert Sale.objects.get().total_stock == 12


@pytest.mark.parametrize("memory", ["not JSON", "[]"])
def test_a_form_with_broken_memory_is_saved_as_typed(operator: Client, memory: str):
    sale = add_published(operator)

    change(operator, sale, seen=memory, total_stock="12")

    assert Sale.objects.get().total_stock == 12


def test_a_copy_is_prefilled_for_another_day_and_hidden(operator: Client):
    sale = add_published(operator)

    page = operator.get(f"{LIST}add/?copy={sale.id}")

    initial = page.context["adminform"].form.initial
    assert (initial["name"], initial["total_stock"]) == ("Widget", 10)
    assert initial["starts_at"] == sale.starts_at + timedelta(days=1)
    assert initial["ends_at"] - initial["starts_at"] == sale.ends_at - sale.starts_at
    assert "Duplicate" in operator.get(f"{LIST}{sale.id}/change/").content.decode()
    copied = add(operator)
    assert (copied.slug, copied.published) == ("widget-2", False)


@pytest.mark.parametrize("clear", [{}, {"image-clear": "on"}])
def test_a_copy_has_the_picture_until_it_is_taken_away(operator: Client, clear: dict[str, str]):
    sale = add(operator)
    picture = {"name": "products/0-480.webp", "width": 480, "height": 360}
    Sale.objects.filter(pk=sale.pk).update(image=picture["name"], renditions=[picture])
    address = f"{LIST}add/?copy={sale.id}"

    page = operator.get(address).content.decode()
    operator.post(address, form(**clear))

    copied = Sale.objects.exclude(pk=sale.pk).get()
    assert 'src="/media/products/0-480.webp"' in page
    assert (copied.image.name, copied.renditions) == (("", []) if clear else (picture["name"], [picture]))


def test_a_copy_of_nothing_is_an_empty_form(operator: Client):
    assert operator.get(f"{LIST}add/?copy=4711").status_code == 200
    assert operator.get(f"{LIST}add/?copy=x").status_code == 200


def test_an_end_that_is_over_is_refused(operator: Client):
    page = operator.post(f"{LIST}add/", form(starts_at="2020-01-01T10:00", ends_at="2020-01-02T10:00")).content.decode()

    assert "This time is over already: choose a later end." in page
    assert not Sale.objects.exists()


@pytest.mark.pure
def test_missing_fields_are_asked_for(operator: Client):
    page = operator.post(f"{LIST}add/", form(name="", total_stock="", ends_at="")).content.decode()

    assert "Say what is sold." in page
    assert "Say how many units are for sale." in page
    assert "Say when the sale ends." in page


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("total_stock", "0", "Put one unit on sale at least."),
        ("total_stock", "-1", "Put one unit on sale at least."),
        ("total_stock", "2147483648", "Put 2,147,483,647 units on sale at most."),
        ("display_price", "-1", "Write a price of zero or more, or leave it empty."),
        ("slug", "taken", "Another sale has this address. Choose another, or leave it empty."),
        ("currency", "eur", "Write the currency&#x27;s three letters, like EUR or USD."),
    ],
)
def test_impossible_values_are_refused_with_advice(operator: Client, field: str, value: str, sentence: str):
    add(operator, slug="taken")

    page = operator.post(f"{LIST}add/", form(**{field: value})).content.decode()

    assert sentence in page
    assert Sale.objects.count() == 1


def test_operators_use_their_zone_with_utc_shown_beside(operator: Client, settings: Settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    times = {"starts_at": "2031-05-01T06:00", "ends_at": "2031-05-01T10:00"}
    sale = add_published(operator, **times)

    page = operator.get(f"{LIST}{sale.id}/change/").content.decode()

    assert sale.starts_at.isoformat() == "2031-04-30T21:00:00+00:00"
    assert "In the time zone Asia/Tokyo. Now saved: 1 May 2031, 06:00:00 Asia/Tokyo (30 Apr, 21:00:00 UTC)." in page
    assert "1 May 2031, 10:00:00 Asia/Tokyo (01:00:00 UTC)" in page


def test_the_form_refuses_a_total_below_the_units_sold(operator: Client):
    sale = add_published(operator)
    for user_id in ("ada", "bob"):
        buy(sale, user_id)

    page = change(operator, sale, total_stock="1")

    assert "2 units are sold already: set 2 or more." in page
    assert Sale.objects.get().total_stock == 10
    assert publishing.standing(sale).remaining_stock == 8


def test_units_sold_during_a_save_keep_the_current_total(operator: Client, monkeypatch: pytest.MonkeyPatch):
    sale = add_published(operator)
    for user_id in ("ada", "bob"):
        buy(sale, user_id)
    monkeypatch.setattr("sales.desk.sale_form.units_sold", lambda sale: 0)

    page = change(operator, sale, total_stock="1")

    assert "2 units are sold already" in page
    assert Sale.objects.get().total_stock == 10
    assert publishing.standing(sale).remaining_stock == 8


@pytest.mark.parametrize("changes", [{"display_price": "39.00"}, {"display_price": ""}, {"currency": "USD"}])
def test_the_price_is_fixed_once_a_unit_is_sold(operator: Client, changes: dict[str, str]):
    sale = add_published(operator)
    change(operator, sale, **changes)
    assert Sale.objects.get().price_text() != "49.00 EUR"
    change(operator, sale)
    buy(sale, "ada")

    page = change(operator, sale, **changes)

    assert "1 units are sold already: keep 49.00 EUR" in page


def test_a_cancelled_order_frees_the_total_and_keeps_the_price(operator: Client):
    sale = add_published(operator)
    for user_id in ("ada", "bob"):
        buy(sale, user_id)
    run_once(consumer_name())
    cancelling.cancel(Order.objects.get(user_id="bob"), User.objects.get(), may_buy_again=True)
    cancelling.enforce(sale)

    priced = change(operator, sale, total_stock="1", display_price="39.00")
    change(operator, sale, total_stock="1")

    assert "2 units are sold already: keep 49.00 EUR" in priced
    standing = publishing.standing(sale)
    assert (standing.sold, standing.remaining_stock) == (1, 0)
    assert Sale.objects.get().price_text() == "49.00 EUR"


@pytest.mark.pure
def test_an_end_before_the_start_is_refused(operator: Client):
    page = operator.post(f"{LIST}add/", form(ends_at="2020-01-01T10:00")).content.decode()

    assert "The end must be after the start." in page
    assert not Sale.objects.exists()


def test_the_slug_of_a_published_sale_is_fixed(operator: Client):
    sale = add_published(operator)

    change(operator, sale, slug="another")

    assert Sale.objects.get().slug == "widget"


def test_without_redis_a_change_is_saved_and_mirrored_later(operator: Client, redis_server: RedisServer):
    sale = add_published(operator)
    redis_server.kill()
    try:
        page = change(operator, sale, total_stock="12")
        listed = operator.get(LIST)
    finally:
        redis_server.start()
    sale.refresh_from_db()

    assert "It is saved, but not in force: Redis cannot be reached." in page
    assert listed.status_code == 200
    assert "differs from Redis, which gets it as soon as it takes it" in operator.get(LIST).content.decode()
    assert publishing.catch_up() == 1
    assert publishing.standing(sale).is_mirrored(sale)
    assert publishing.catch_up() == 0


def test_a_sale_is_mirrored_again_from_the_list(operator: Client):
    sale = add_published(operator)
    Sale.objects.filter(pk=sale.pk).update(total_stock=12)

    chosen = {"action": "mirror_again", "_selected_action": [sale.id]}
    page = operator.post(LIST, chosen, follow=True).content.decode()

    assert "0 sold, 12 remaining" in page


def test_the_list_shows_units_sold_and_remaining_from_redis(operator: Client):
    sale = add_published(operator)
    for user_id in ("ada", "bob", "eve"):
        buy(sale, user_id)

    page = operator.get(LIST).content.decode()

    assert '<td class="field-sold">3</td>' in page
    assert '<td class="field-remaining">7</td>' in page
    assert "in Redis" in page
    assert "On sale now, ends in" in page


def test_a_mirror_that_differs_is_shown(operator: Client):
    sale = add_published(operator)
    Sale.objects.filter(pk=sale.pk).update(name="Changed behind the scenes")

    assert "differs from Redis" in operator.get(LIST).content.decode()


def test_a_sale_is_not_deleted(operator: Client):
    sale = add(operator)

    assert operator.post(f"{LIST}{sale.id}/delete/", {"post": "yes"}).status_code == 403


@pytest.fixture
def known_addresses(settings: Settings) -> None:
    settings.ADDRESS_RATE = Rate(100, 1)


@pytest.fixture
def quick_passwords(settings: Settings) -> None:
    """Check passwords in no time: while real ones take theirs, the time may end in which attempts are counted."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def login(client: Client, username: str = "operator", address: str = "192.0.2.1") -> int:
    data = {"username": username, "password": "wrong"}
    return client.post("/admin/login/", data, REMOTE_ADDR=address).status_code


@pytest.mark.usefixtures("known_addresses")
def test_guessing_an_accounts_password_from_one_address_is_limited(db: None):
    assert [login(Client()) for _ in range(7)] == [200] * 5 + [429] * 2


@pytest.mark.usefixtures("known_addresses")
def test_failed_log_ins_elsewhere_do_not_lock_an_operator_out(db: None):
    for _ in range(6):
        login(Client(), address="192.0.2.66")

    assert login(Client(), address="192.0.2.1") == 200


def test_guessing_an_accounts_password_from_many_addresses_is_limited(db: None, quick_passwords: None):
    statuses = [login(Client(), address=f"192.0.2.{number}") for number in range(102)]

    assert statuses == [200] * 100 + [429] * 2


@pytest.mark.usefixtures("known_addresses")
def test_other_spellings_of_an_account_share_its_limit(db: None):
    spellings = ("operator", " operator", "OPERATOR ", "ｏperator")

    statuses = [login(Client(), username=spellings[number % 4]) for number in range(7)]

    assert statuses == [200] * 5 + [429] * 2


@pytest.mark.usefixtures("known_addresses")
def test_a_limited_log_in_says_when_to_try_again(db: None):
    for _ in range(5):
        login(Client())

    data = {"username": "operator", "password": "wrong"}
    response = Client().post("/admin/login/", data, REMOTE_ADDR="192.0.2.1")

    assert response.status_code == 429
    assert 1 <= int(response["Retry-After"]) <= 15 * 60
    assert "Too many attempts to sign in" in response.content.decode()


@pytest.mark.pure
def test_the_log_in_page_itself_is_not_limited(db: None):
    assert {Client().get("/admin/login/").status_code for _ in range(30)} == {200}


@pytest.mark.pure
def test_nobody_signs_in_while_attempts_cannot_be_counted(db: None, settings: Settings):
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"},
    }

    response = Client().post("/admin/login/", {"username": "operator", "password": "wrong"})

    assert response.status_code == 503
    assert "Nobody can sign in while Redis cannot be reached" in response.content.decode()
